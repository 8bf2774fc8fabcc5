"""The head of a request to the proxy: what is read, what goes on, and what two readers might read differently."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runners.egress.refusal import RefusedError, Why
from runners.egress.request_head import Target, forwarded, read_head, read_plain, read_target


def head(first: str, *fields: str) -> bytes:
    return "\r\n".join([first, *fields, "", ""]).encode("latin-1")


def sent_on(first: str, *fields: str) -> str:
    read = read_head(head(first, *fields))
    return forwarded(read, read_plain(read)).decode("latin-1")


@pytest.mark.parametrize(
    ("text", "target"),
    [
        ("a.example:443", Target("a.example", 443)),
        ("A.Example.:8443", Target("a.example", 8443)),
        ("[2606:4700::1111]:443", Target("2606:4700::1111", 443)),
        ("1.1.1.1:443", Target("1.1.1.1", 443)),
    ],
)
def test_a_target_is_read(text: str, target: Target) -> None:
    assert read_target(text) == target
    assert read_target(str(target)) == target


@pytest.mark.parametrize(
    "text",
    [
        *(
            "a.example",
            ":443",
            "a.example:",
            "a.example:0",
            "a.example:99999",
            "a.example:443:443",
            "a.example:4 43",
        ),
        *(
            "me@a.example:443",
            "a.example@evil.example:443",
            "a.example%00:443",
            "a.example/..:443",
            "[::1:443",
        ),
        *(
            "::1:443",
            "[fe80::1%25eth0]:443",
            "2130706433:443",
            "0x7f000001:443",
            "0177.0.0.1:443",
            "127.1:443",
        ),
    ],
)
def test_what_is_no_target_is_refused(text: str) -> None:
    with pytest.raises(RefusedError) as refused:
        read_target(text)
    assert refused.value.why is Why.BAD_REQUEST


def test_a_plain_request_goes_on_as_one_of_a_server() -> None:
    text = sent_on(
        "GET http://a.example/x?y=1 HTTP/1.1", "Host: a.example", "Accept: */*", "Connection: keep-alive, X-Mine",
        "X-Mine: 1", "Proxy-Authorization: Basic x", "Keep-Alive: 5", "TE: trailers", "Upgrade: websocket",
    )  # fmt: skip
    assert text == "GET /x?y=1 HTTP/1.1\r\nhost: a.example\r\naccept: */*\r\nconnection: close\r\n\r\n"


@pytest.mark.parametrize(
    ("target", "path", "host"),
    [
        ("http://a.example", "/", "a.example"),
        ("HTTP://a.example:80/", "/", "a.example"),
        ("http://a.example:8080/a//b", "/a//b", "a.example:8080"),
        ("http://a.example?q=/", "/?q=/", "a.example"),
    ],
)
def test_the_path_and_the_host_go_on(target: str, path: str, host: str) -> None:
    assert sent_on(f"GET {target} HTTP/1.0").startswith(f"GET {path} HTTP/1.1\r\nhost: {host}\r\n")


def test_a_length_and_chunks_are_said_anew() -> None:
    assert "content-length: 5\r\n" in sent_on(
        "POST http://a.example/ HTTP/1.1", "Host: a.example", "Content-Length: 5"
    )
    assert "content-length: 0\r\n" in sent_on(
        "POST http://a.example/ HTTP/1.1", "Host: a.example", "Content-Length: 0"
    )
    chunked = sent_on("POST http://a.example/ HTTP/1.1", "Host: a.example", "Transfer-Encoding: Chunked")
    assert "transfer-encoding: chunked\r\n" in chunked
    assert "content-length" not in chunked


@pytest.mark.parametrize(
    "fields",
    [
        ("Host: b.example",),
        ("Host: a.example:8080",),
        ("Host: a.example", "Host: a.example"),
        ("Host: a.example", "host : b.example"),
        ("Host: a.example", "X: 1\r\n folded"),
        ("Host: a.example", "X: 1\n\nGET http://evil/ HTTP/1.1"),
        ("Host: a.example", "X: 1\rY: 2"),
        ("Host: a.example", "X: \0"),
        ("Host: a.example", "no colon"),
        ("Host: a.example", ": nameless"),
        ("Host: a.example", "Content-Length: 5", "Content-Length: 6"),
        ("Host: a.example", "Content-Length: 5, 5"),
        ("Host: a.example", "Content-Length: +5"),
        ("Host: a.example", "Content-Length: -1"),
        ("Host: a.example", "Content-Length: 0x5"),
        ("Host: a.example", "Content-Length: ٣"),
        ("Host: a.example", "Content-Length: 5", "Transfer-Encoding: chunked"),
        ("Host: a.example", "Transfer-Encoding: gzip, chunked"),
        ("Host: a.example", "Transfer-Encoding: xchunked"),
        ("Host: a.example", "Transfer-Encoding: chunked", "Transfer-Encoding: identity"),
        (),
    ],
)
def test_what_may_be_read_in_two_ways_is_refused(fields: tuple[str, ...]) -> None:
    text = "\r\n".join(["POST http://a.example/ HTTP/1.1", *fields, "", ""]).encode("utf-8")
    with pytest.raises(RefusedError):
        read_plain(read_head(text))


@pytest.mark.parametrize(
    "first",
    [
        *("GET / HTTP/1.1", "GET https://a.example/ HTTP/1.1", "GET ftp://a.example/ HTTP/1.1"),
        *("GET http:///x HTTP/1.1", "GET http://a.example/ HTTP/2", "GET  http://a.example/ HTTP/1.1"),
        *("GET http://a.example/", "G\x00T x HTTP/1.1", "GET http://a.example/\tx HTTP/1.1"),
        *("GET http://me:pw@a.example/ HTTP/1.1", "GET http://a.example#@b.example/ HTTP/1.1"),
        *("GET http://a.example\\@b.example/ HTTP/1.1", "GET http://127.1/ HTTP/1.1"),
        "GET http://[::1%25lo]/ HTTP/1.1",
    ],
)
def test_what_is_no_plain_request_is_refused(first: str) -> None:
    with pytest.raises(RefusedError):
        read_plain(read_head(head(first, "Host: a.example")))


@given(st.binary(max_size=200))
def test_no_bytes_do_more_than_to_be_refused(data: bytes) -> None:
    try:
        read = read_head(data + b"\r\n\r\n")
        lines = forwarded(read, read_plain(read)).split(b"\r\n")
    except RefusedError:
        return
    assert b"" not in lines[:-2]


@given(
    st.lists(st.tuples(st.from_regex(r"[A-Za-z-]{1,12}", fullmatch=True), st.text(max_size=20)), max_size=5)
)
def test_fields_go_on_one_to_a_line(fields: list[tuple[str, str]]) -> None:
    """Whatever a value holds, it ends no line and begins no other field."""
    lines = "\r\n".join(f"X-{name}: {value}" for name, value in fields)
    try:
        text = head("GET http://a.example/ HTTP/1.1", "Host: a.example", *([lines] if fields else []))
        read = read_head(text)
        going = forwarded(read, read_plain(read)).split(b"\r\n")
    except (RefusedError, UnicodeEncodeError):
        return
    assert len(going) == len(fields) + 5
