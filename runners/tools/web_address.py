"""Read the address of a request: one parser, whose host is the one that the way out judges.

An address that two readers may understand differently is refused: a user before an `@`, a backslash, a number that
stands for an address, a control character.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final
from urllib.parse import quote, urljoin

from runners.egress.rules import RuleError, host_name, port_number
from runners.tools.signature import ToolError

MOST_CHARACTERS: Final = 8_192
WEB: Final = {"http": 80, "https": 443}
SOCKETS: Final = {"wss": 443}
OWN_SOCKETS: Final = {"ws": 80}
"""To a program of the call's own machine alone: the way out carries none without TLS."""
TLS: Final = frozenset({"https", "wss"})
_WHOLE = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://([^/?#]*)([^#]*)(?:#.*)?", re.DOTALL)
_FORBIDDEN = re.compile(r"[\x00-\x20\x7f-\x9f\\]")
_TAKEN: Final = "/?%:@!$&'()*+,;=-._~[]"
"""Characters of a path and a query that go on as they are."""


@dataclass(frozen=True, slots=True)
class WebAddress:
    """Holds an address in its parts. `target` is the path and the query as they are sent."""

    scheme: str
    host: str
    port: int
    target: str

    @property
    def over_tls(self) -> bool:
        return self.scheme in TLS

    @property
    def authority(self) -> str:
        """Return the host and its port, as a proxy is asked for them."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def host_field(self) -> str:
        """Return the host as the field of that name has it: without a port that goes without saying."""
        usual = {**WEB, **SOCKETS, **OWN_SOCKETS}[self.scheme]
        return self.authority.removesuffix(f":{usual}") if self.port == usual else self.authority

    def __str__(self) -> str:
        return f"{self.scheme}://{self.host_field}{self.target}"


def read_address(text: str, schemes: dict[str, int] = WEB) -> WebAddress:
    """Read an address. Raises ToolError."""
    shown = ascii(text[:200])[1:-1]
    if len(text) > MOST_CHARACTERS:
        raise ToolError(f"the address has over {MOST_CHARACTERS} characters", "send the data in a body")
    if _FORBIDDEN.search(text):
        raise ToolError(
            f"{shown} has a blank, a backslash or a control character in it", "write it as %20, %5C ..."
        )
    found = _WHOLE.fullmatch(text)
    known = " or ".join(f"{scheme}://" for scheme in schemes)
    if found is None or (scheme := found[1].lower()) not in schemes:
        raise ToolError(f"{shown} is no address that can be asked", f"it begins with {known}")
    authority, rest = found[2], found[3]
    if "@" in authority:
        raise ToolError(f"{shown} has a user before its host", "send credentials in a header")
    host, port = _place(authority, shown, schemes[scheme])
    target = rest if rest.startswith("/") else f"/{rest}"
    return WebAddress(scheme, host, port, quote(target, safe=_TAKEN))


def _place(authority: str, shown: str, usual: int) -> tuple[str, int]:
    """Return the host and the port. Raises ToolError."""
    bare = authority.endswith("]") or ":" not in authority
    place, _, digits = (authority, "", str(usual)) if bare else authority.rpartition(":")
    if ":" in place and not (place.startswith("[") and place.endswith("]")):
        raise ToolError(f"{shown}: an IPv6 address stands in brackets", "write http://[ADDRESS]:PORT/")
    try:
        return host_name(place), port_number(digits or str(usual))
    except RuleError as error:
        raise ToolError(f"{shown}: {error}", "write the host as DNS has it") from None


def read_redirect(base: WebAddress, location: str) -> WebAddress:
    """Return the address that a redirect leads to, judged like a first one. Raises ToolError."""
    try:
        joined = urljoin(str(base), location)
    except ValueError:
        joined = location
    to = read_address(quote(joined, safe=f"{_TAKEN}#\\"))
    if base.over_tls and not to.over_tls:
        raise ToolError(
            f"{base.host_field} leads from https to {to}, which anybody on the way can read and change",
            "ask for that address itself, if that is meant",
        )
    return to
