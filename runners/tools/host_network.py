"""Read the host's ports and interfaces from /proc and /sys: nothing is connected to, and nothing is sent.

A worker has a network of its own; the first process of the machine has the host's, and /proc shows it.
"""

from __future__ import annotations

import ipaddress
import os
import struct
from collections.abc import Iterator
from contextlib import suppress
from typing import Final

import msgspec

_NET: Final = "/proc/1/net"
_LISTENS: Final = "0A"
_OVERFLOW_UID: Final = 65534
"""The uid that the kernel shows for users that the worker's user namespace has no number for."""
_WORD: Final = struct.Struct("=I")
Address = ipaddress.IPv4Address | ipaddress.IPv6Address


class Interface(msgspec.Struct, frozen=True):
    """Describes one interface of the host."""

    name: str
    state: str
    mtu: int
    addresses: list[str]


def listener(port: int, host: Address) -> int | None:
    """Return the uid that listens on a port of a loopback address, or None where nobody does."""
    for name, local, state, uid in _sockets():
        if state == _LISTENS and local[1] == port and _reaches(local[0], host, name):
            return uid
    return None


def shown_uid(uid: int) -> str:
    """Return a uid as it is shown; empty where the kernel does not tell it."""
    return "" if uid == _OVERFLOW_UID else f"uid {uid}"


def _sockets() -> Iterator[tuple[str, tuple[Address, int], str, int]]:
    for name in ("tcp", "tcp6"):
        for line in _lines(f"{_NET}/{name}")[1:]:
            fields = line.split()
            with suppress(ValueError, IndexError):
                address, _, port = fields[1].partition(":")
                yield name, (_address(address), int(port, 16)), fields[3], int(fields[7])


def _reaches(local: Address, host: Address, table: str) -> bool:
    """Tell if a socket that listens at one address is reached at another."""
    if isinstance(local, ipaddress.IPv6Address) and local.ipv4_mapped:
        local = local.ipv4_mapped
    if local == host:
        return True
    # A socket for all IPv6 addresses takes IPv4 too, unless it says otherwise, which /proc does not tell.
    return local.is_unspecified and (local.version == host.version or table == "tcp6")


def _address(text: str) -> Address:
    words = [int(text[at : at + 8], 16) for at in range(0, len(text), 8)]
    packed = b"".join(map(_WORD.pack, words))
    return ipaddress.ip_address(packed)


def interfaces() -> list[Interface]:
    """Return the host's interfaces, by name."""
    addresses: dict[str, list[str]] = {}
    for name, address in (*_addresses_4(), *_addresses_6()):
        addresses.setdefault(name, []).append(address)
    found = []
    for name in sorted(os.listdir("/sys/class/net")):
        with suppress(FileNotFoundError):  # it was taken away meanwhile
            state, mtu = _text(f"/sys/class/net/{name}/operstate"), int(_text(f"/sys/class/net/{name}/mtu"))
            found.append(Interface(name, state, mtu, addresses.get(name, [])))
    return found


def _addresses_4() -> Iterator[tuple[str, str]]:
    """Yield addresses with their interfaces: /proc has the first without the second, and routes with both."""
    routes = list(_routes())
    for address in sorted(_local()):
        if address.is_loopback:
            yield "lo", str(address)
            continue
        within = [(network.prefixlen, name) for name, network in routes if address in network]
        yield max(within, default=(0, "?"))[1], str(address)


def _routes() -> Iterator[tuple[str, ipaddress.IPv4Network]]:
    for line in _lines(f"{_NET}/route")[1:]:
        fields = line.split()
        with suppress(ValueError, IndexError):
            destination, mask = (ipaddress.IPv4Address(_WORD.pack(int(fields[at], 16))) for at in (1, 7))
            yield fields[0], ipaddress.IPv4Network(f"{destination}/{mask}")


def _local() -> set[ipaddress.IPv4Address]:
    """Return the machine's own addresses, out of the tree of its routes."""
    found, last = set[ipaddress.IPv4Address](), ""
    for line in _lines(f"{_NET}/fib_trie"):
        text = line.strip()
        if text.startswith("|-- "):
            last = text.removeprefix("|-- ")
        elif text == "/32 host LOCAL":
            found.add(ipaddress.IPv4Address(last))
    return found


def _addresses_6() -> Iterator[tuple[str, str]]:
    for line in _lines(f"{_NET}/if_inet6"):
        fields = line.split()
        with suppress(ValueError, IndexError):
            yield fields[5], str(ipaddress.IPv6Address(bytes.fromhex(fields[0])))


def _lines(path: str) -> list[str]:
    try:
        return _text(path).splitlines()
    except FileNotFoundError:
        return []  # this kernel lacks the protocol


def _text(path: str) -> str:
    with open(path, encoding="utf-8", errors="replace") as file:
        return file.read().strip()
