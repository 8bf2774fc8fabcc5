"""Packets of attempts: the address, the port and the name in each, and whatever a program makes up."""

from __future__ import annotations

import struct
from ipaddress import ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from epad.confinement.attempts import Attempt, How, read_packet


def packet(source: str, to: str, protocol: int, rest: bytes) -> bytes:
    first, last = ip_address(source), ip_address(to)
    if first.version == 4:
        return struct.pack("!BBHHHBBH", 0x45, 0, 0, 0, 0, 64, protocol, 0) + first.packed + last.packed + rest
    return struct.pack("!IHBB", 0x60000000, len(rest), protocol, 64) + first.packed + last.packed + rest


def tcp(ports: tuple[int, int], flags: int) -> bytes:
    return struct.pack("!HHIIBBHHH", *ports, 0, 0, 0x50, flags, 0, 0, 0)


def udp(port: int, text: bytes) -> bytes:
    return struct.pack("!HHHH", 40_000, port, 8 + len(text), 0) + text


def question(*labels: bytes, flags: int = 0x0100) -> bytes:
    head = struct.pack("!HHHHHH", 1, flags, 1, 0, 0, 0)
    return head + b"".join(bytes([len(label)]) + label for label in labels) + b"\0\0\1\0\1"


@pytest.mark.parametrize(
    ("seen", "attempt"),
    [
        (packet("127.0.0.1", "192.0.2.1", 6, tcp((9, 443), 2)), Attempt(How.TCP, "192.0.2.1", 443)),
        (packet("127.0.0.1", "127.0.0.1", 6, tcp((11_434, 9), 0x14)), Attempt(How.TCP, "127.0.0.1", 11_434)),
        (packet("::1", "2001:db8::1", 6, tcp((9, 80), 2)), Attempt(How.TCP, "2001:db8::1", 80)),
        (packet("127.0.0.1", "192.0.2.1", 17, udp(443, b"x")), Attempt(How.QUIC, "192.0.2.1", 443)),
        (
            packet("127.0.0.1", "8.8.8.8", 17, udp(53, question(b"API", b"vendor", b"example"))),
            Attempt(How.LOOKUP, "8.8.8.8", 53, "api.vendor.example"),
        ),
        (
            packet("127.0.0.1", "8.8.8.8", 17, udp(53, question(b"a\x1b[31m", b"\xff"))),
            Attempt(How.LOOKUP, "8.8.8.8", 53, "a??31m.?"),
        ),
        (packet("127.0.0.1", "8.8.8.8", 17, udp(53, question(b"a", flags=0x8180))), None),
        (packet("127.0.0.1", "8.8.8.8", 17, udp(53, question(b"a")[:13])), None),
        (packet("127.0.0.1", "192.0.2.1", 1, bytes(40)), None),
        (b"", None),
    ],
)
def test_a_packet_is_an_attempt_or_none(seen: bytes, attempt: Attempt | None) -> None:
    assert read_packet(seen) == attempt


@given(st.binary(max_size=512), st.sampled_from([6, 17]))
def test_whatever_is_in_a_packet_ends_in_a_plain_name_or_none(rest: bytes, protocol: int) -> None:
    """Nothing that a program makes up raises, or is shown as it stands."""
    for source, to in (("127.0.0.1", "8.8.8.8"), ("::1", "2001:db8::1")):
        seen = read_packet(packet(source, to, protocol, udp(53, rest) if protocol == 17 else rest))
        if seen is not None:
            assert len(seen.name) <= 253
            assert all(one.isalnum() or one in "._-?" for one in seen.name)
            assert seen.name.isascii()
