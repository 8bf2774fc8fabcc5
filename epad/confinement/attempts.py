"""Read the packets of a cell's attempts to connect past its doors, as its packet socket has them.

`runners/cell/direct_filter.py` says which these are. They are made by the program inside, so that nothing in them is
trusted: a packet that is no attempt is left out, and a name is shown with its plain characters alone.
"""

from __future__ import annotations

import ipaddress
import re
import struct
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

_MOST_NAME: Final = 253
_NOT_PLAIN: Final = re.compile(r"[^a-z0-9._-]")
_DNS_PORT: Final = 53
_TCP: Final = 6
_UDP: Final = 17
_RST: Final = 0x04
_HEADER_6: Final = 40
_UDP_HEADER: Final = 8
_DNS_HEADER: Final = 12
_ANSWERS: Final = 0x80


class How(StrEnum):
    """Names the protocol of an attempt."""

    TCP = "tcp"
    QUIC = "quic"
    LOOKUP = "lookup"


@dataclass(frozen=True, slots=True)
class Attempt:
    """Describes one attempt: to connect to an address, or to look up a `name` there."""

    how: How
    address: str
    port: int
    name: str = ""


def read_packet(packet: bytes) -> Attempt | None:
    """Return the attempt that a packet is; None if it is none."""
    try:
        match packet[0] >> 4:
            case 4:
                rest = packet[(packet[0] & 0xF) * 4 :]
                return _attempt(packet[9], packet[12:16], packet[16:20], rest)
            case 6:
                return _attempt(packet[6], packet[8:24], packet[24:40], packet[_HEADER_6:])
    except (IndexError, ValueError, struct.error):
        return None  # cut short
    return None


def _attempt(protocol: int, source: bytes, destination: bytes, rest: bytes) -> Attempt | None:
    from_port, to_port = struct.unpack_from("!HH", rest)
    if protocol == _TCP:
        if rest[13] & _RST:  # the answer to an attempt, so that its sender is the one who was asked
            return Attempt(How.TCP, _shown(source), from_port)
        return Attempt(How.TCP, _shown(destination), to_port)
    if protocol != _UDP:
        return None
    if to_port != _DNS_PORT:
        return Attempt(How.QUIC, _shown(destination), to_port)
    name = _question(rest[_UDP_HEADER:])
    return Attempt(How.LOOKUP, _shown(destination), to_port, name) if name else None


def _shown(address: bytes) -> str:
    return str(ipaddress.ip_address(address))


def _question(message: bytes) -> str:
    """Return the name that a message of DNS asks for; empty if it asks for none. Raises IndexError."""
    if message[2] & _ANSWERS:
        return ""
    labels, at, length = [], _DNS_HEADER, 0
    while (size := message[at]) and size < 64 and length <= _MOST_NAME:
        labels.append(message[at + 1 : at + 1 + size].decode("ascii", "replace").lower())
        length += size + 1
        at += size + 1
    return _NOT_PLAIN.sub("?", ".".join(labels))[:_MOST_NAME]
