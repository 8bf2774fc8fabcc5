"""Make the attempts of a cell to connect past its doors visible: routes that take them, and a socket that sees them.

In a network without routes connect(2) fails before there is a packet, and nobody learns where to. Here every address
leads to the cell's own loopback. Nothing listens there, so TCP is refused at once, by a packet that has the address.

| packets to another address | routed | why |
|---|---|---|
| TCP | to `lo` | every attempt is refused, and seen |
| UDP to port 53 and 443 | to `lo` | the name that is looked up, and QUIC, are seen |
| other UDP | nowhere, as before | who sends without a connection would wait for an answer instead of an error |

Of IPv4 the route stands in the local table, since the kernel answers only for an address that it finds there; so that
the rest of UDP is not routed by it, rules take the place of the one that has every packet go by that table.
Of IPv6 it stands in a table of its own.

The socket is handed to the daemon. The program has no copy of it, and can make none: it has no right to, and the filter
of system calls refuses it.
"""

from __future__ import annotations

import ctypes
import errno
import socket
import struct
from collections.abc import Sequence
from typing import Final

from runners.cell import netlink
from runners.cell.direct_filter import DNS_PORT, QUIC_PORT, direct_filter

_OWN_TABLE: Final = 87
_EVERY_PROTOCOL: Final = 3  # ETH_P_ALL
_SOL_PACKET: Final = 263
_IGNORE_OUTGOING: Final = 23
_SO_ATTACH_FILTER: Final = 26
_BUFFER_BYTES: Final = 1 << 16
"""Of a flood the rest is dropped, and counted by the kernel: the daemon reads what it has time for."""

# Both families have packets of these routed by the table with the route of every address.
_SEEN: Final = ((socket.IPPROTO_TCP, 0), (socket.IPPROTO_UDP, DNS_PORT), (socket.IPPROTO_UDP, QUIC_PORT))


def watch(ports: Sequence[int]) -> socket.socket:
    """Return a socket that sees attempts, in the network that we are in; `ports` are those of model servers.

    Raises OSError. May be called again in the same network.
    """
    seeing = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC, 0)
    try:
        seeing.setsockopt(_SOL_PACKET, _IGNORE_OUTGOING, 1)  # every packet of `lo` goes out and comes in
        seeing.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _BUFFER_BYTES)
        _attach(seeing, direct_filter(tuple(ports)))
        seeing.bind(("lo", _EVERY_PROTOCOL))
        seeing.setblocking(False)
        _route()
    except OSError:
        seeing.close()
        raise
    return seeing


def _attach(seeing: socket.socket, program: bytes) -> None:
    buffer = ctypes.create_string_buffer(program, len(program))
    described = struct.pack("@HP", len(program) // 8, ctypes.addressof(buffer))
    seeing.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, described)


def _route() -> None:
    """Make the rules, then the routes: a kernel that refuses a rule keeps its network as it was. Raises OSError."""
    present = (errno.EEXIST,)
    netlink.ask(_rules_4(), but_for=present)
    # Only now, since without the others no packet would be routed at all.
    netlink.ask([netlink.first_rule_deleted(socket.AF_INET)], but_for=(errno.ENOENT,))
    netlink.ask([netlink.local_route(socket.AF_INET, netlink.LOCAL_TABLE)], but_for=present)
    if socket.has_ipv6:
        absent = (*present, errno.EAFNOSUPPORT, errno.EOPNOTSUPP, errno.ENODEV)
        netlink.ask([*_rules_6(), netlink.local_route(socket.AF_INET6, _OWN_TABLE)], but_for=absent)


def _rules_4() -> list[bytes]:
    family, table = socket.AF_INET, netlink.LOCAL_TABLE
    seen = ((socket.IPPROTO_ICMP, 0), *_SEEN)  # the kernel's own refusals of UDP come by ICMP
    return [
        netlink.rule(family, 1, table, to=("127.0.0.0", 8)),
        *(
            netlink.rule(family, 2 + number, table, protocol=protocol, port=port)
            for number, (protocol, port) in enumerate(seen)
        ),
    ]


def _rules_6() -> list[bytes]:
    return [
        netlink.rule(socket.AF_INET6, 1_000 + number, _OWN_TABLE, protocol=protocol, port=port)
        for number, (protocol, port) in enumerate(_SEEN)
    ]
