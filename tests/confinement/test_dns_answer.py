"""Names and addresses out of DNS answers, and nothing out of anything else."""

from __future__ import annotations

import struct

from hypothesis import given
from hypothesis import strategies as st

from epad.confinement.dns_answer import read_answer


def name(text: str) -> bytes:
    return b"".join(bytes([len(label)]) + label.encode() for label in text.split(".")) + b"\0"


def record(kind: int, data: bytes, at: bytes = b"\xc0\x0c") -> bytes:
    return at + struct.pack("!HHIH", kind, 1, 60, len(data)) + data


def answer(asked: str, *records: bytes, flags: int = 0x8180) -> bytes:
    question = name(asked) + struct.pack("!HH", 1, 1)
    return struct.pack("!6H", 7, flags, 1, len(records), 0, 0) + question + b"".join(records)


def test_each_address_has_the_name_that_was_asked_for() -> None:
    """Behind however many other names (CNAME) it is."""
    message = answer(
        "api.example.org",
        record(5, name("edge.example.net")),
        record(1, bytes([192, 0, 2, 7]), name("edge.example.net")),
        record(28, bytes([0x20, 1, *[0] * 13, 5])),
    )
    assert read_answer(message) == {"192.0.2.7": "api.example.org", "2001::5": "api.example.org"}


def test_what_is_no_answer_says_nothing() -> None:
    """A question, an error, one that was cut short."""
    assert read_answer(answer("a.example", flags=0x0100)) == {}
    assert read_answer(answer("a.example", flags=0x8183)) == {}
    assert read_answer(answer("a.example", record(1, bytes([192, 0, 2, 7])))[:-6]) == {}


@given(st.binary(max_size=80))
def test_any_bytes_are_read(message: bytes) -> None:
    """They come from wherever a program asked."""
    assert isinstance(read_answer(message), dict)
