"""Read the rules that name the hosts a cell may reach, and tell if one matches.

A rule is written as a person writes it:

    github.com                  that host, port 443
    packages.example:8443       that host, that port
    *.github.com                every host below it, at any depth, and not github.com itself
    10.0.0.5:8000, [fd00::5]:1  that address, public or not
    nas.lan=10.0.0.5:8443       that host, always at that address: names are looked up for public addresses only

Both sides of the way out read rules here: the daemon to check and compare them, the proxy to obey them. Names are
compared as DNS has them: lower case, IDNA, no trailing dot. A host that only looks like a number (`127.1`,
`0x7f000001`, `2130706433`) is no name: a C library would take it for an address.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

HTTPS_PORT: Final = 443
SSH_PORT: Final = 22
_MOST_NAME_CHARACTERS: Final = 253
_LABEL = re.compile(r"[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?")
_NUMBER = re.compile(r"[0-9]+|0x[0-9a-f]*")
# IDNA 2003 and 2008 read these differently, so a name with one of them may mean two hosts (UTS 46, section 7).
_READ_TWO_WAYS = frozenset("\u00df\u03c2\u200c\u200d")

Address = ipaddress.IPv4Address | ipaddress.IPv6Address


class RuleError(ValueError):
    """A text is no rule, or no host; the message names the fault and the text to write instead."""


@dataclass(frozen=True, slots=True, order=True)
class HostRule:
    """Allows a host, or every host below it, at one port.

    `name` is lower case and ASCII; of a rule by address it is the address. `address` is where that host is always
    found; empty for a host whose name is looked up.
    """

    name: str
    wildcard: bool = False
    port: int = HTTPS_PORT
    address: str = ""

    @property
    def pinned(self) -> str:
        """Return the address that the rule names itself; empty if it is to be looked up."""
        return self.address or (self.name if address_of(self.name) else "")

    def __str__(self) -> str:
        """Write the rule as `parse` reads it."""
        name = f"*.{self.name}" if self.wildcard else self.name
        place = f"{name}={_bracketed(self.address)}" if self.address else _bracketed(name)
        return f"{place}:{self.port}"


def parse(text: str) -> HostRule:
    """Read a rule. Raises RuleError."""
    named, is_pinned, rest = text.strip().partition("=")
    place, port = _split_port(rest if is_pinned else named)
    if not is_pinned:
        wildcard = place.startswith("*.")
        name = host_name(place[2:] if wildcard else place)
        if wildcard and (address_of(name) or "." not in name):
            raise RuleError(
                f"{text!r} names too much: write at least two labels behind the star, `*.example.org`"
            )
        return HostRule(name, wildcard, port)
    address = address_of(place)
    if address is None:
        raise RuleError(
            f"{text!r}: {place!r} is no address: write NAME=ADDRESS:PORT, `nas.lan=10.0.0.5:8443`"
        )
    name = host_name(named)
    if address_of(name):
        raise RuleError(f"{text!r} names two addresses: write {_bracketed(str(address))}:{port} alone")
    return HostRule(name, port=port, address=str(address))


def matches(rule: HostRule, host: str, port: int) -> bool:
    """Tell if a rule allows a host, as `host_name` returns it, at a port."""
    if port != rule.port:
        return False
    return host.endswith(f".{rule.name}") if rule.wildcard else host == rule.name


def first_match(rules: Iterable[HostRule], host: str, port: int) -> HostRule | None:
    """Return the rule that allows a host at a port: the one that names it, before a wildcard."""
    found = [rule for rule in rules if matches(rule, host, port)]
    return min(found, key=lambda rule: rule.wildcard, default=None)


def host_name(text: str) -> str:
    """Return a host's name as DNS has it, or its address as it is usually written. Raises RuleError."""
    address = address_of(text)
    if address is not None:
        return str(address)
    if not text.isascii():
        text = _ascii(text)
    name = text.lower().removesuffix(".")
    labels = name.split(".")
    if len(name) > _MOST_NAME_CHARACTERS or not all(map(_LABEL.fullmatch, labels)):
        raise RuleError(
            f"{text[:_MOST_NAME_CHARACTERS]!r} is no host name: write a name such as `example.org`"
        )
    if _NUMBER.fullmatch(labels[-1]):
        raise RuleError(
            f"{text!r} is a number that some programs take for an address: write the address itself"
        )
    return name


def address_of(text: str) -> Address | None:
    """Return the address that a text is, in its usual form; None for anything else, also for one with a zone."""
    try:
        address = ipaddress.ip_address(text[1:-1] if text.startswith("[") and text.endswith("]") else text)
    except ValueError:
        return None
    return None if "%" in str(address) else address


def _ascii(text: str) -> str:
    """Return an international name as it stands in DNS. Raises RuleError."""
    if _READ_TWO_WAYS.intersection(text):
        raise RuleError(f"{text!r} can be read in two ways: write it as it stands in DNS, with `xn--`")
    try:
        return text.encode("idna").decode("ascii")
    except UnicodeError as error:
        raise RuleError(f"{text!r} is no host name: {error}") from None


def _split_port(text: str) -> tuple[str, int]:
    """Split `place:port`; a place without a port has that of HTTPS. Raises RuleError."""
    if text.count(":") > 1 and not text.startswith("["):
        return text, HTTPS_PORT
    place, colon, digits = text.rpartition(":")
    if not colon or text.endswith("]"):
        return text, HTTPS_PORT
    return place, port_number(digits)


def port_number(digits: str) -> int:
    """Read a port. Raises RuleError."""
    if digits.isascii() and digits.isdecimal() and len(digits) <= 5 and 1 <= int(digits) <= 65535:
        return int(digits)
    raise RuleError(f"{digits!r} is no port: write a number from 1 to 65535")


def _bracketed(place: str) -> str:
    return f"[{place}]" if ":" in place else place
