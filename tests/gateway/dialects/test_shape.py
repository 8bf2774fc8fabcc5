"""How much a body may have of everything, to the last one, and in which words it is told what was too much."""

from __future__ import annotations

import pytest
from asking import LIMITS

from epad.gateway.dialects import shape
from epad.gateway.dialects.routes import Routes
from epad.gateway.dialects.shape import (
    MAX_BRANCHES,
    MAX_ENTRIES,
    MAX_FIELDS,
    MAX_KEY_BYTES,
    MAX_STRINGS,
    MAX_VALUES,
    Shape,
    is_quick,
    measure,
    refuse_entries,
    refuse_shape,
)
from epad.gateway.errors import RequestError

ROUTES = Routes(LIMITS)
KIB = 1 << 10
MOST = Shape(MAX_BRANCHES, MAX_FIELDS, MAX_VALUES, MAX_STRINGS)


@pytest.mark.parametrize(
    ("counted", "excess"),
    [
        (MOST, ""),
        (MOST._replace(branches=MAX_BRANCHES + 1), "more than 100,000 objects and lists"),
        (MOST._replace(fields=MAX_FIELDS + 1), "more than 100,000 keys"),
        (MOST._replace(values=MAX_VALUES + 1), "more than 1,000,000 values"),
        (MOST._replace(strings=MAX_STRINGS + 1), "more than 400,000 strings"),
        (MOST._replace(long_key=True), "a key of more than 65,536 bytes"),
        (Shape(MAX_BRANCHES + 1, MAX_FIELDS + 1, 0, 0), "more than 100,000 objects and lists"),
    ],
)
def test_what_there_is_too_much_of_is_named(counted: Shape, excess: str) -> None:
    assert counted.excess == excess


def listed(unit: bytes, count: int) -> bytes:
    return b",".join([unit] * count)


@pytest.mark.parametrize(
    ("body", "more", "words"),
    [
        (b"[%b]" % listed(b"[]", MAX_BRANCHES - 1), b"[]", "more than 100,000 objects and lists"),
        (b"[{%b}]" % listed(b'"":0', MAX_FIELDS), b'{"":0}', "more than 100,000 keys"),
        (b"[%b]" % listed(b"0", MAX_VALUES + 1), b"0", "more than 1,000,000 values"),
        (b"[%b]" % listed(b'""', MAX_STRINGS), b'""', "more than 400,000 strings"),
        (
            b'[{"%b":0}]' % (b"x" * MAX_KEY_BYTES),
            b'{"%b":0}' % (b"x" * (MAX_KEY_BYTES + 1)),
            "a key of more than 65,536 bytes",
        ),
    ],
    ids=["branches", "fields", "values", "strings", "key"],
)  # fmt: skip
def test_a_body_of_as_much_as_that_passes_and_one_of_more_does_not(
    body: bytes, more: bytes, words: str
) -> None:
    refuse_shape(body, "the body")
    with pytest.raises(RequestError, match=f"^options has {words}: send it in several requests$"):
        refuse_shape(body[:-1] + b"," + more + b"]", "options")


def test_a_long_text_is_no_long_key() -> None:
    text = b'"%b"' % (b"x" * (MAX_KEY_BYTES + 1))
    assert measure(b'{"a":%b,"b":[%b]}' % (text, text)).excess == ""
    assert measure(b'{"a":1,%b \n\t\r:2}' % text).excess == "a key of more than 65,536 bytes"
    assert measure(b'{"a":1,%b' % text).excess == measure(b'{"a":1,%b' % text[:-1]).excess == ""


def test_a_body_that_ends_in_an_escape_is_counted_to_its_end() -> None:
    assert measure(b'{"a\\')[:3] == measure(b'{"a')[:3] == (1, 0, 0)
    assert measure(b"\\")[:3] == (0, 0, 0)


def test_a_long_text_makes_no_key_after_it_a_long_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not even where it ends with a window of the scan, and the next key does."""
    monkeypatch.setattr(shape, "_WINDOW_BYTES", 10)
    monkeypatch.setattr(shape, "MAX_KEY_BYTES", 5)
    text = b'{"a":"xxxxxxxxxxxxx"'
    assert not measure(text + b',         "b"       :1       }').long_key
    assert not measure(text + b',"b"      :1       }').long_key
    assert measure(b'{   "xxxxxxxxxxxxxx"          :1       }').long_key


@pytest.mark.parametrize(
    ("size", "marks", "quick"),
    [
        (16 * KIB, 16 * KIB, True), (16 * KIB + 1, 16 * KIB + 1, False), (16 * KIB + 1, 4_000, True),
        (16 * KIB + 1, 4_001, False), (256 * KIB, 4_000, True), (256 * KIB, 4_001, False),
        (256 * KIB + 1, 0, False), (0, 0, True),
    ],
)  # fmt: skip
@pytest.mark.parametrize("mark", [b"{", b"[", b":", b","])
def test_what_is_read_between_two_other_things_is_small_and_plain(
    size: int, marks: int, quick: bool, mark: bytes
) -> None:
    assert is_quick(mark * marks + b"x" * (size - marks)) is quick


@pytest.mark.parametrize(
    ("path", "body", "name", "unit"),
    [
        ("/v1/chat/completions", b'{"messages":[%b]}', "messages", b"{}"),
        ("/v1/chat/completions", b'{"messages":[{"content":[%b]}]}', "messages", b"{}"),
        ("/v1/chat/completions", b'{"messages":[],"tools":[%b]}', "tools", b'{"type":"function"}'),
        ("/v1/completions", b'{"prompt":[%b]}', "prompt", b'""'),
        ("/v1/embeddings", b'{"input":[%b]}', "input", b'""'),
        ("/v1/responses", b'{"input":[%b]}', "input", b"{}"),
        ("/v1/responses", b'{"input":[{"content":[%b]}]}', "input", b"{}"),
        ("/v1/responses", b'{"input":"","tools":[%b]}', "tools", b'{"type":"function"}'),
        ("/v1/messages", b'{"messages":[%b]}', "messages", b"{}"),
        ("/v1/messages", b'{"messages":[{"content":[%b]}]}', "messages", b"{}"),
        ("/v1/messages", b'{"messages":[],"tools":[%b]}', "tools", b"{}"),
        (
            "/v1/messages",
            b'{"messages":[],"context_management":{"edits":[%b]}}',
            "edits",
            b'{"type":"clear_"}',
        ),
        ("/api/chat", b'{"messages":[%b]}', "messages", b"{}"),
        ("/api/embed", b'{"input":[%b]}', "input", b'""'),
    ],
)
def test_a_list_of_as_many_entries_is_read_and_of_one_more_is_not(
    path: str, body: bytes, name: str, unit: bytes
) -> None:
    """In every dialect, wherever entries are looked at one by one; the message has the field's name."""
    endpoint = ROUTES.endpoint("POST", path)
    assert endpoint is not None
    assert endpoint.parse(body % listed(unit, MAX_ENTRIES)).choices >= 1
    words = f"^{name}: 10,001 entries, of which at most 10,000 are read in one request$"
    with pytest.raises(RequestError, match=words):
        endpoint.parse(body % listed(unit, MAX_ENTRIES + 1))


def test_the_kind_of_what_is_too_many_is_told() -> None:
    refuse_entries(MAX_ENTRIES, "name")
    with pytest.raises(RequestError, match=r"^name: 12,345 fields, of which at most 10,000 are read"):
        refuse_entries(12_345, "name", "fields")
