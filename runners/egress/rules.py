"""Host rules: their text in the configuration, their value, and which requests they let out.

The daemon parses and compares them (`epad/confinement`), the proxy child decides by them; so they stand here, where
both may import them. Standard library only, no look-up of names.

A rule is `name`, `*.name`, an IP address, each with `:port` (443 if it is left out). A name may resolve to global
addresses alone; `private:name` may resolve to the addresses of a private network too. Loopback, link-local and the
other special addresses are reached by an address as the rule, and never by a name.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

DEFAULT_PORT: Final = 443
_MAX_PORT: Final = 65_535
_MAX_NAME: Final = 253
_PRIVATE: Final = "private:"
_WILDCARD: Final = "*."
_LABEL = re.compile(r"(?!-)[a-z0-9_-]{1,63}(?<!-)")
# The last label of a name is never a number: it would be an address to some readers (WHATWG URL).
_NUMBER = re.compile(r"[0-9]+|0x[0-9a-f]*")
_PARTS = re.compile(r"(\[[^\]]*\]|[^:\[\]]*)(?::([^:]*))?")


class RuleError(ValueError):
    """A host or a rule cannot be read; the message says why and what to write."""


@dataclass(frozen=True, slots=True, order=True)
class HostRule:
    """Lets requests to one host out, or with `wildcard` to every host below a name, at one port.

    `name` is in lower case, as A-labels, without a dot at its end; or an IP address in its usual form. `private` lets
    the name resolve to addresses of a private network.
    """

    name: str
    wildcard: bool = False
    port: int = DEFAULT_PORT
    private: bool = False

    @property
    def is_address(self) -> bool:
        """Tell if it names an IP address, which then needs not be a global one."""
        return address_of(self.name) is not None

    def __str__(self) -> str:
        """Return the text that `parse` reads."""
        name = f"[{self.name}]" if ":" in self.name else self.name
        private, wildcard = _PRIVATE if self.private else "", _WILDCARD if self.wildcard else ""
        return f"{private}{wildcard}{name}:{self.port}"


def parse(text: str) -> HostRule:
    """Read a rule. Raises RuleError."""
    bare = text.removeprefix(_PRIVATE)
    private = bare != text
    if "/" in bare:
        raise RuleError("is a URL or a network; give a host, as in example.org or example.org:8443")
    match = _PARTS.fullmatch(bare)
    if match is None:
        raise RuleError(
            "is no host; give a name or an address, an IPv6 one in brackets, with :port if not 443"
        )
    wildcard = match[1].startswith(_WILDCARD)
    name = normal(match[1].removeprefix(_WILDCARD).lower() if wildcard else match[1])
    port = DEFAULT_PORT if match[2] is None else _port(match[2])
    if address_of(name) is not None and (wildcard or private):
        raise RuleError("is an address with *. or private:, which only a name has; take it out")
    if wildcard and "." not in name:
        raise RuleError(f"is every host below .{name}; name the hosts, or let ask = true ask for each")
    return HostRule(name, wildcard, port, private)


def matches(rule: HostRule, host: str, port: int) -> bool:
    """Tell if a rule lets a request to `host`, as `normal` returns it, out at `port`."""
    if port != rule.port:
        return False
    if rule.wildcard:
        return address_of(host) is None and host.endswith(f".{rule.name}")
    return host == rule.name


def first_match(rules: Iterable[HostRule], host: str, port: int) -> HostRule | None:
    """Return the rule that lets a request out, the one with `private` if there are several; None if none does."""
    found = [rule for rule in rules if matches(rule, host, port)]
    return max(found, key=lambda rule: rule.private, default=None)


def normal(host: str) -> str:
    """Return a host as rules have it. Raises RuleError for text that two readers could take for different hosts."""
    bare = host.removesuffix(".").lower()
    if bare.startswith("[") and bare.endswith("]"):
        bare = bare[1:-1]
        if ":" not in bare:
            raise RuleError("has brackets, which only an IPv6 address has")
    address = address_of(bare)
    if address is not None:
        return str(address)
    if not bare.isascii():
        bare = _a_labels(bare)
    labels = bare.split(".")
    if len(bare) > _MAX_NAME or not all(map(_LABEL.fullmatch, labels)):
        raise RuleError("is no host; give a name such as example.org, or an address")
    if _NUMBER.fullmatch(labels[-1]):
        raise RuleError("is a number that some programs take for an address; write it as 192.0.2.1")
    return bare


def address_of(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    """Return the address that a host is; None for a name, and for an IPv6 address with a zone, which names a card."""
    if "%" in host:
        return None
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        return None


def _port(text: str) -> int:
    if not (text.isascii() and text.isdecimal()) or not 0 < int(text) <= _MAX_PORT:
        raise RuleError(f"has port {text!r}; give one from 1 to {_MAX_PORT}")
    return int(text)


def _a_labels(name: str) -> str:
    """Return a name as A-labels. Raises RuleError where IDNA 2003 and 2008 disagree, as they do about an sz."""
    try:
        encoded = name.encode("idna")
        back = encoded.decode("idna")
    except UnicodeError as error:
        raise RuleError("is no name that DNS knows; write it in its xn-- form") from error
    if back != name:
        raise RuleError("is read in two ways by the two standards of such names; write it in its xn-- form")
    return encoded.decode("ascii")
