"""Assemble the filter of the packet socket that sees a cell's attempts to connect past its doors.

It lets these packets of the cell's loopback through, and of none more than their beginning:

| packet | attempt |
|---|---|
| TCP, SYN alone, to an address that is no loopback | at a host, or another address of this machine |
| TCP, RST and ACK, sequence number 0, from loopback and one of `ports` | at a model server; nothing listens inside |
| UDP to port 53 | to look a name up; the question is in it |
| UDP to port 443, to an address that is no loopback | at a host, by QUIC |

A server of the cell's own answers a SYN with another packet than RST, so what connects to it is never seen here. A
connection that is aborted later has another sequence number.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Final

from runners.cell.bpf import ANY_BIT, EQUALS, LOAD, Program

SEEN_BYTES: Final = 512
MOST_PORTS: Final = 64
DNS_PORT: Final = 53
QUIC_PORT: Final = 443

_KEPT: Final = 8
"""Most machines have one list of model servers' ports."""

_BYTE: Final = 0x30
_HALF: Final = 0x28
_WORD: Final = LOAD
_BEHIND: Final = 0x20
"""Added to one of the three above: counted from the end of the IPv4 header."""
_HEADER_LENGTH: Final = 0xB1

_TCP: Final = 6
_UDP: Final = 17
_LOOPBACK_NETWORK: Final = 127
_SYN: Final = 0x02
_SYN_RST_ACK: Final = 0x16
_RST_ACK: Final = 0x14
_FRAGMENT: Final = 0x1FFF
_VERSION_6_HEADER: Final = 40


@lru_cache(maxsize=_KEPT)
def direct_filter(ports: tuple[int, ...]) -> bytes:
    """Return the filter for packets that begin with their IP header, as a packet socket of datagrams has them.

    Of `ports` the first MOST_PORTS are looked for: no jump of a filter is longer than 255 instructions.
    """
    watched = ports[:MOST_PORTS]
    program = Program()
    program.load(0, _BYTE)
    program.mask(0xF0)
    program.jump(EQUALS, 0x60, "v6")
    program.jump(EQUALS, 0x40, "", "drop4")
    _version_4(program, watched)
    program.label("v6")
    _version_6(program, watched)
    return program.assemble()


def _version_4(program: Program, ports: Sequence[int]) -> None:
    program.load(6, _HALF)
    program.jump(ANY_BIT, _FRAGMENT, "drop4")
    program.load(0, _HEADER_LENGTH)
    program.load(9, _BYTE)
    program.jump(EQUALS, _UDP, "udp4")
    program.jump(EQUALS, _TCP, "", "drop4")
    program.load(13, _BYTE + _BEHIND)
    program.mask(_SYN_RST_ACK)
    program.jump(EQUALS, _SYN, "outside4")
    program.jump(EQUALS, _RST_ACK, "", "drop4")
    program.load(12, _BYTE)
    program.jump(EQUALS, _LOOPBACK_NETWORK, "", "drop4")
    program.load(4, _WORD + _BEHIND)
    program.jump(EQUALS, 0, "ports4", "drop4")
    program.label("udp4")
    program.load(2, _HALF + _BEHIND)
    program.jump(EQUALS, DNS_PORT, "take4")
    program.jump(EQUALS, QUIC_PORT, "", "drop4")
    program.label("outside4")
    program.load(16, _BYTE)
    program.jump(EQUALS, _LOOPBACK_NETWORK, "drop4", "take4")
    _give(program, "4")
    program.label("ports4")
    program.load(0, _HALF + _BEHIND)
    _one_of(program, ports, "4")


def _version_6(program: Program, ports: Sequence[int]) -> None:
    program.load(6, _BYTE)
    program.jump(EQUALS, _UDP, "udp6")
    program.jump(EQUALS, _TCP, "", "drop6")
    program.load(_VERSION_6_HEADER + 13, _BYTE)
    program.mask(_SYN_RST_ACK)
    program.jump(EQUALS, _SYN, "outside6")
    program.jump(EQUALS, _RST_ACK, "", "drop6")
    _unless_loopback(program, 8, "drop6")
    program.load(_VERSION_6_HEADER + 4, _WORD)
    program.jump(EQUALS, 0, "ports6", "drop6")
    program.label("udp6")
    program.load(_VERSION_6_HEADER + 2, _HALF)
    program.jump(EQUALS, DNS_PORT, "take6")
    program.jump(EQUALS, QUIC_PORT, "", "drop6")
    program.label("outside6")
    _unless_loopback(program, 24, "take6")
    _give(program, "6")
    program.label("ports6")
    program.load(_VERSION_6_HEADER, _HALF)
    _one_of(program, ports, "6")


def _give(program: Program, version: str) -> None:
    """Drop the packet, and take it where a label leads to that."""
    program.label(f"drop{version}")
    program.give(0)
    program.label(f"take{version}")
    program.give(SEEN_BYTES)


def _unless_loopback(program: Program, offset: int, label: str) -> None:
    """Jump there unless the address at this offset is ::1."""
    for word, value in enumerate((0, 0, 0, 1)):
        program.load(offset + 4 * word, _WORD)
        program.jump(EQUALS, value, "", label)


def _one_of(program: Program, ports: Sequence[int], version: str) -> None:
    """Take the packet if the loaded port is one of these."""
    for number, port in enumerate(ports):
        program.jump(EQUALS, port, "", f"not{version}-{number}")
        program.give(SEEN_BYTES)
        program.label(f"not{version}-{number}")
    program.give(0)
