"""Lines of JSON on a route of server-sent events: each is an event as soon as it is whole."""

from __future__ import annotations

import pytest

from epad.gateway.dialects.events import LINE_BOUNDARY, SSE_BOUNDARY, EventSplitter, sse_payloads


@pytest.mark.parametrize(
    ("pieces", "events", "rest"),
    [
        ([b'{"a":1}\n'], [b'{"a":1}\n'], b""),
        ([b'{"a":1}\n{"b":2}\n'], [b'{"a":1}\n', b'{"b":2}\n'], b""),
        ([b'{"a":1}\r\n{"b":2}\r\n'], [b'{"a":1}\r\n', b'{"b":2}\r\n'], b""),
        ([b'{"a":1}\n{"b":', b"2}\n"], [b'{"a":1}\n', b'{"b":2}\n'], b""),
        ([b'{"a":1}'], [], b'{"a":1}'),
        # White space and a byte order mark before it, a line of nothing but blanks between two.
        ([b'\xef\xbb\xbf {"a":1}\n'], [b'\xef\xbb\xbf {"a":1}\n'], b""),
        ([b'\n{"a":1}\n \t\n{"b":2}\n'], [b"\n", b'{"a":1}\n', b" \t\n", b'{"b":2}\n'], b""),
        # Written over several lines, a document stays whole until a blank line, or the end.
        ([b'{\n"a":1\n}\n'], [], b'{\n"a":1\n}\n'),
        ([b'{\n"a":1\n}\n', b"\n"], [b'{\n"a":1\n}\n\n'], b""),
        ([b'{"a":1}\n{\n"b":2\n}\n'], [b'{"a":1}\n'], b'{\n"b":2\n}\n'),
        # What is no JSON, no object, or an event of the usual kind, is not cut there.
        ([b'{"a":1}x\n'], [], b'{"a":1}x\n'),
        ([b'{"a":1}\ntext\n{"b":2}\n'], [b'{"a":1}\n'], b'text\n{"b":2}\n'),
        ([b'{"a":1}\n[2]\n'], [b'{"a":1}\n'], b"[2]\n"),
        ([b"[1]\n"], [], b"[1]\n"),
        ([b'data: {"a":1}\n'], [], b'data: {"a":1}\n'),
        ([b'data: {"a":1}\n\n{"b":2}\n'], [b'data: {"a":1}\n\n', b'{"b":2}\n'], b""),
    ],
)
def test_a_line_of_json_is_an_event_where_events_are_awaited(
    pieces: list[bytes], events: list[bytes], rest: bytes
) -> None:
    splitter = EventSplitter(SSE_BOUNDARY)
    assert [event for piece in pieces for event in splitter.feed(piece)] == events
    assert (splitter.pending, splitter.rest()) == (bool(rest), rest)
    bytewise = EventSplitter(SSE_BOUNDARY)
    came = [event for byte in b"".join(pieces) for event in bytewise.feed(bytes([byte]))]
    assert b"".join(came) + bytewise.rest() == b"".join(pieces)


def test_where_lines_are_awaited_every_line_is_one() -> None:
    splitter = EventSplitter(LINE_BOUNDARY)
    assert splitter.feed(b'{\n"a":1\n}\n{') == [b"{\n", b'"a":1\n', b"}\n"]


@pytest.mark.parametrize(
    ("event", "payloads"),
    [
        (b'{"a":1}\n{"b":2}\n', [b'{"a":1}', b'{"b":2}']),
        (b'{"a":1}\n[DONE]\n', [b'{"a":1}', b"[DONE]"]),
        (b'{\n"a":1\n}\n', [b'{\n"a":1\n}']),
        (b'{"a":\n{"b":2}}\n', [b'{"a":\n{"b":2}}']),
        (b'data: {"a":1}\rdata: {"b":2}\r\r', [b'{"a":1}', b'{"b":2}']),
        (b'data: {"a":1}\r\ndata: [1]\r\n\r\n', [b'{"a":1}\n[1]']),
        (b'data: {"a":1}\n: x\ndata: {"b":2}\n\n', [b'{"a":1}', b'{"b":2}']),
        (b'data: {"a":1}\n', [b'{"a":1}']),
        (b"data:\n\n", []),
        (b"data:\ndata:\n\n", [b""]),
    ],
)
def test_documents_that_stand_together_in_an_event_are_told_apart(
    event: bytes, payloads: list[bytes]
) -> None:
    assert [payload.strip() for payload in sse_payloads(event)] == payloads
