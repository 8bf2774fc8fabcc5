"""Addresses in a configuration: whether a URL can be asked at all, and whether it leads back to epad."""

from __future__ import annotations

import ipaddress
import re
import socket
from contextlib import suppress
from urllib.parse import urlsplit

from epad.configuration.directories import MAX_SOCKET_PATH_BYTES

_EVERYWHERE = frozenset({"", "0.0.0.0", "::", "*"})  # noqa: S104  compared, not listened on
_LOOPBACK = frozenset({"127.0.0.1", "::1"})
_LOOPBACK_NAMES = frozenset({"localhost", "localhost.localdomain", "ip6-localhost", "ip6-loopback"})
_NUMBER = re.compile(r"(0x[0-9a-f]+|\d+)(\.(0x[0-9a-f]+|\d+)){0,3}")
# A route of its own behind the base: epad puts it there itself.
_ROUTES = re.compile(
    r"/(chat/completions|completions|embeddings|responses|messages|api/(chat|generate|embed))$"
)


def url_fault(url: str) -> str:
    """Say why a URL can never be asked; empty if it may be."""
    if url.startswith("unix:"):
        too_long = len(url.removeprefix("unix:").encode()) > MAX_SOCKET_PATH_BYTES
        return (
            f"names a path of more than {MAX_SOCKET_PATH_BYTES} bytes, too long for a socket"
            if too_long
            else ""
        )
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        return f"is {shown(url)}: {error}; correct it"
    if not parts.hostname:
        return f"is {shown(url)}, which names no host; give it, as in http://127.0.0.1:8000"
    return f"is {shown(url)}, and nothing can be asked at port 0; give the server's own" if port == 0 else ""


def base_fault(url: str) -> str:
    """Name the part of an upstream's URL that is not its base; empty if there is none."""
    parts = urlsplit(url)
    if url.startswith("unix:"):
        return ""
    if parts.query or parts.fragment:
        return f"is {shown(url)}: what stands from the ? or # on is never sent; take it out"
    route = _ROUTES.search(parts.path.rstrip("/"))
    if route:
        return f"is {shown(url)}, which is one route of a server; give its base, without {route[0]}"
    return ""


def shown(url: str) -> str:
    """Return a URL for a message: without who asks there, and with nothing that a terminal would obey."""
    return ascii(re.sub(r"//[^/@]*@", "//", url))[1:-1]


def leads_to(url: str, listen: str) -> bool:
    """Tell if a URL is an address of this machine with a listener."""
    if listen.startswith("unix:") or url.startswith("unix:"):
        return url == listen
    try:
        parts = urlsplit(url)
        port = parts.port or (443 if parts.scheme == "https" else 80)
    except ValueError:
        return False
    host, _, own_port = listen.rpartition(":")
    if not own_port.isdecimal() or int(own_port) == 0 or int(own_port) != port:
        return False
    asked, own = addresses(parts.hostname or ""), host.strip("[]")
    if own in _EVERYWHERE:
        own_name = addresses(socket.gethostname())
        return any(one in own_name or _is_loopback(one) for one in asked)
    return bool(asked & addresses(own))


def addresses(host: str) -> frozenset[str]:
    """Return the addresses of a host, if this machine knows them without asking another; else the name."""
    host = host.lower().rstrip(".")
    if host in _LOOPBACK_NAMES:
        return _LOOPBACK
    if _NUMBER.fullmatch(host):
        with suppress(OSError):  # as the resolver reads 127.1 and 2130706433
            host = socket.inet_ntoa(socket.inet_aton(host))
    with suppress(ValueError):
        address = ipaddress.ip_address(host)
        mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
        # Whoever connects to the address of nobody reaches himself.
        return _LOOPBACK if address.is_unspecified else frozenset({str(mapped or address)})
    if host == socket.gethostname().lower():
        with suppress(OSError):
            return frozenset({str(found[4][0]) for found in socket.getaddrinfo(host, None)} | {host})
    return frozenset({host})


def _is_loopback(address: str) -> bool:
    with suppress(ValueError):
        return ipaddress.ip_address(address).is_loopback
    return False
