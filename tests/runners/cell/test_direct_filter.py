"""The filter of attempts: it assembles for as many ports as are looked for, within what the kernel takes."""

from __future__ import annotations

import struct

import pytest

from runners.cell.direct_filter import MOST_PORTS, SEEN_BYTES, direct_filter

DROP = 0


def verdict(program: bytes, packet: bytes) -> int:
    """What the kernel's interpreter makes of a packet."""
    lines = [struct.unpack_from("=HBBI", program, at) for at in range(0, len(program), 8)]
    at = accumulator = index = 0
    while True:
        code, if_true, if_false, value = lines[at]
        at += 1
        match code:
            case 0x20 | 0x28 | 0x30 | 0x40 | 0x48 | 0x50:
                size = {0x00: 4, 0x08: 2, 0x10: 1}[code & 0x18]
                begin = value + (index if code & 0x40 else 0)
                if begin + size > len(packet):
                    return DROP
                accumulator = int.from_bytes(packet[begin : begin + size], "big")
            case 0xB1:
                index = (packet[value] & 0xF) * 4
            case 0x54:
                accumulator &= value
            case 0x15:
                at += if_true if accumulator == value else if_false
            case 0x45:
                at += if_true if accumulator & value else if_false
            case 0x06:
                return value
            case _:
                raise AssertionError(f"no such instruction: {code:#x}")


def tcp(flags: int, *, ports: tuple[int, int], sequence: int = 0) -> bytes:
    return struct.pack("!HHIIBBHHH", *ports, sequence, 7, 0x50, flags, 0, 0, 0)


def ip4(
    source: str, to: str, rest: bytes, *, protocol: int = 6, fragment: int = 0, options: bytes = b""
) -> bytes:
    first = 0x40 | (5 + len(options) // 4)
    addresses = bytes(map(int, f"{source}.{to}".split(".")))
    return struct.pack("!BBHHHBBH", first, 0, 0, 0, fragment, 64, protocol, 0) + addresses + options + rest


SYN, SYN_ACK, RST_ACK = 0x02, 0x12, 0x14
HOST, SELF = "192.0.2.1", "127.0.0.1"


@pytest.mark.parametrize(
    ("packet", "taken"),
    [
        (ip4(SELF, HOST, tcp(SYN, ports=(9, 443))), True),
        (ip4(SELF, HOST, tcp(SYN, ports=(9, 443)), options=b"\x01" * 8), True),
        (
            ip4(SELF, HOST, tcp(SYN | 0xC0, ports=(9, 443))),
            True,
        ),  # congestion notification asks by two bits more
        (ip4(SELF, SELF, tcp(SYN, ports=(9, 8000))), False),
        (ip4(SELF, HOST, tcp(SYN_ACK, ports=(9, 443))), False),
        (ip4(SELF, HOST, tcp(SYN, ports=(9, 443)), fragment=1), False),
        (ip4(SELF, SELF, tcp(RST_ACK, ports=(8000, 9))), True),
        (ip4(SELF, SELF, tcp(RST_ACK, ports=(8000, 9), sequence=5)), False),
        (ip4(SELF, SELF, tcp(RST_ACK, ports=(8001, 9))), False),
        (ip4(HOST, SELF, tcp(RST_ACK, ports=(8000, 9))), False),
        (ip4(SELF, HOST, struct.pack("!HHHH", 9, 443, 9, 0), protocol=17), True),
        (ip4(SELF, SELF, struct.pack("!HHHH", 9, 443, 9, 0), protocol=17), False),
        (ip4(SELF, SELF, struct.pack("!HHHH", 9, 53, 9, 0), protocol=17), True),
        (ip4(SELF, HOST, struct.pack("!HHHH", 9, 123, 9, 0), protocol=17), False),
        (ip4(SELF, HOST, b"\x03\x03" + bytes(30), protocol=1), False),
        (b"\x50" + bytes(40), False),
        (ip4(SELF, HOST, b""), False),
    ],
)
def test_a_packet_is_taken_if_it_is_an_attempt(packet: bytes, taken: bool) -> None:
    assert verdict(direct_filter((8000,)), packet) == (SEEN_BYTES if taken else DROP)


def test_of_many_ports_the_first_are_looked_for() -> None:
    """A jump reaches no further; the filter is one that the kernel takes, of at most 4,096 instructions."""
    program = direct_filter(tuple(range(1_000, 1_000 + 2 * MOST_PORTS)))
    last, beyond = (ip4(SELF, SELF, tcp(RST_ACK, ports=(1_000 + MOST_PORTS + step, 9))) for step in (-1, 0))
    assert (verdict(program, last), verdict(program, beyond)) == (SEEN_BYTES, DROP)
    assert len(program) // 8 < 4_096
