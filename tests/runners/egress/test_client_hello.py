"""A TLS hello: the host it names, however it is cut, and whatever is wrong with it."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tls_hello import ENCRYPTED_HELLO, body, real_hello, records, server_name

from runners.egress.client_hello import Hello, HelloRecords, read_hello
from runners.egress.refusal import RefusedError, Why


def read(data: bytes) -> Hello:
    """Read a hello as a connection brings it; what is missing at its end is a refusal too."""
    taken = HelloRecords()
    at = 0
    while wanted := taken.wanted:
        piece = data[at : at + wanted]
        if len(piece) < wanted:
            raise RefusedError(Why.NO_TLS, "ended")
        taken.take(piece)
        at += wanted
    assert bytes(taken.raw) == data[:at]
    return taken.read()


def test_a_real_hello_names_its_host() -> None:
    assert read(real_hello("github.com")) == Hello("github.com", is_encrypted=False)


def test_a_real_hello_without_a_name_has_none() -> None:
    assert read(real_hello(None)) == Hello("", is_encrypted=False)


@given(st.integers(17, 400))
def test_a_hello_in_many_records_is_the_same_hello(piece: int) -> None:
    assert read(records(real_hello("github.com")[9:], piece)) == Hello("github.com", is_encrypted=False)


def test_the_name_is_compared_as_dns_has_it() -> None:
    assert read(records(body([server_name("GitHub.com.")]))).server_name == "github.com"


def test_an_encrypted_hello_is_told() -> None:
    assert read(records(body([server_name("a.example"), (ENCRYPTED_HELLO, b"\0")]))).is_encrypted


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"GET / HTTP/1.1\r\n\r\n", Why.NO_TLS),
        (b"SSH-2.0-OpenSSH_9.9\r\n", Why.SSH),
        (b"\x16\x03\x01\0\0", Why.NO_TLS),
        (b"\x80\x2e\x01\x03\x01" + bytes(60), Why.NO_TLS),
        (b"\x16\x03\x01\0\x04\x02\0\0\0", Why.NO_TLS),
        (records(body([server_name("a.example")]), 1), Why.TOO_LARGE),
        (records(body([(21, bytes(17_000))])), Why.TOO_LARGE),
        (records(body([server_name("a.example"), server_name("b.example")])), Why.NO_TLS),
        (records(body([server_name("a.example", "b.example")])), Why.OTHER_SERVER_NAME),
        (records(body([server_name("é.example")])), Why.OTHER_SERVER_NAME),
        (records(body([server_name("")])), Why.OTHER_SERVER_NAME),
        (records(body([(0, b"\0\x09\0\0\x20a.exam")])), Why.NO_TLS),
        (records(body([])[:-2] + b"\0\x09"), Why.NO_TLS),
        (records(body([server_name("a.example")]) + b"more"), Why.NO_TLS),
    ],
)
def test_a_hello_that_is_wrong_is_refused(data: bytes, why: Why) -> None:
    with pytest.raises(RefusedError) as refused:
        read(data)
    assert refused.value.why is why


@given(st.binary(max_size=300))
def test_no_bytes_do_more_than_to_be_refused(data: bytes) -> None:
    for reading in (read, read_hello):
        with contextlib.suppress(RefusedError):
            reading(data)


@given(st.data())
def test_a_damaged_hello_names_no_other_host(data: st.DataObject) -> None:
    """A byte that is changed outside the name does not change the name."""
    hello = bytearray(body([(10, b"\0\2\0\x1d"), server_name("a.example"), (43, b"\2\3\4")]))
    place = hello.index(b"a.example")
    at = data.draw(st.integers(0, len(hello) - 1).filter(lambda at: not place <= at < place + 9))
    hello[at] = data.draw(st.integers(0, 255))
    try:
        name = read_hello(bytes(hello)).server_name
    except RefusedError:
        return
    assert name in {"a.example", ""}
