"""A request's body: what is read of it, what is written into it, and what is said of one that cannot be read."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Raw, Struct

from epad.gateway.dialects.body import (
    MAX_CHOICES,
    MAX_MODEL_LENGTH,
    decode,
    is_json,
    prompt_bound,
    read_answer,
    read_choices,
    read_entries,
    read_model,
    read_object,
)
from epad.gateway.dialects.shape import MAX_ENTRIES, MAX_KEY_CHARACTERS
from epad.gateway.errors import RequestError

OURS = frozenset({"model", "options"})
MIB = 1 << 20
VALUES = (
    st.none()
    | st.booleans()
    | st.integers(-9, 9)
    | st.text('a"\\\u00e9{,:', max_size=5)
    | st.lists(st.integers(0, 9))
)


class Part(Struct, forbid_unknown_fields=True):
    type: str = ""
    text: Raw = Raw(b"null")


def refused(body: bytes, what: str | None = None) -> str:
    with pytest.raises(RequestError) as caught:
        read_object(body, OURS, what) if what else read_object(body, OURS)
    return str(caught.value)


def one(**fields: Any) -> Any:
    return read_object(json.dumps(fields).encode(), OURS)


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"[1]", "the body is not a JSON object: Expected `object`, got `array`"),
        (b"7", "the body is not a JSON object: Expected `object`, got `int`"),
        (b'{"a":}', "the body is not valid JSON: Expecting value: line 1 column 6 (char 5)"),
        (
            b'{\n"a":1,}',
            "the body is not valid JSON: Illegal trailing comma before end of object: line 2 column 6 (char 7)",
        ),
        (b'{"a":1,"a":2}', "the body has a field twice, and servers differ about which of the two counts"),
        (b'{"MODEL":1}', "MODEL: some servers take it for 'model'; write 'model'"),
        (
            b'{"%b":1}' % (b"x" * (MAX_KEY_CHARACTERS + 1)),
            "the body has a field whose name is longer than 1,024 characters",
        ),
        (
            b"{" + b",".join(b'"%x":0' % n for n in range(MAX_ENTRIES + 1)) + b"}",
            "the body: 10,001 fields, of which at most 10,000 are read in one request",
        ),
    ],
)
def test_what_is_no_body_is_told_with_its_place(body: bytes, words: str) -> None:
    told = refused(body)
    if "Illegal trailing comma" in words and "Illegal" not in told:  # Python before 3.13 says it otherwise
        assert "line 2 column" in told
    else:
        assert told == words
    assert refused(body, "options") == told.replace("the body", "options")


def test_the_bounds_of_a_body_are_within_what_is_read() -> None:
    assert read_object(b'{"%b":1}' % (b"x" * MAX_KEY_CHARACTERS), OURS).values
    fields = b"{" + b",".join(b'"%x":0' % n for n in range(MAX_ENTRIES)) + b"}"
    assert len(read_object(fields, OURS).values) == MAX_ENTRIES
    assert read_object(b" { } ", OURS).values == {}


def test_the_place_of_a_mistake_is_looked_for_in_a_body_of_a_mebibyte_at_most() -> None:
    """The second parser, which knows the line, takes twenty times as long."""

    def wrong(size: int) -> bytes:
        return b'{"a":"%b",}' % (b"x" * (size - 9))

    assert len(wrong(MIB)) == MIB
    assert "line 1 column" in refused(wrong(MIB))
    assert "line 1 column" not in refused(wrong(MIB + 1))
    assert "(byte " in refused(wrong(MIB + 1))


@given(
    st.dictionaries(st.sampled_from(["a", "b", "model", "\u00fc", 'q"\\']), VALUES, min_size=1),
    st.lists(st.sampled_from(["a", "b", "model", "\u00fc", 'q"\\'])),
    st.sampled_from([None, 1]),
)
def test_a_body_with_other_values_is_as_if_it_had_come_so(
    fields: dict[str, Any], names: list[str], indent: int | None
) -> None:
    """Each value lies where the new text has it, whichever values grew or shrank before it."""
    body = json.dumps(fields, indent=indent).encode()
    edits = {name: b'["new", %d]' % len(names) for name in names if name in fields}
    there = read_object(body, frozenset()).replaced(edits)
    assert there == read_object(there.text, frozenset())
    assert json.loads(there.text) == {**fields, **{name: json.loads(value) for name, value in edits.items()}}
    again = there.splice(dict.fromkeys(edits, b"0"))
    assert json.loads(again) == {**fields, **dict.fromkeys(edits, 0)}


@pytest.mark.parametrize("size", [1, 256 << 10, (256 << 10) + 1, (512 << 10) + 7])
@pytest.mark.parametrize("last", [b"y", b"z"])
def test_a_large_field_that_comes_twice_is_found_out(size: int, last: bytes) -> None:
    """The same twice, or another that differs in its last byte alone; one that comes once lies where it lies."""
    value = b'"' + b"x" * size
    assert "twice" in refused(b'{"a":%by","a":%b%b","b":1}' % (value, value, last))
    fields = read_object(b'{"a":%by","b":1}' % value, OURS)
    assert fields.splice({"b": b"22"}) == b'{"a":%by","b":22}' % value
    assert fields.splice({"a": b"0"}) == b'{"a":0,"b":1}'


@given(st.lists(st.tuples(st.sampled_from(["a", "b", r"\u0061", "c"]), st.sampled_from("12")), max_size=5))
def test_a_field_that_comes_twice_is_found_out_wherever_it_stands(fields: list[tuple[str, str]]) -> None:
    """With the same value or another, written in the same way or not."""
    text = "{" + ",".join(f'"{name}":{value}' for name, value in fields) + "}"
    names = [json.loads(f'"{name}"') for name, _ in fields]
    if len(set(names)) < len(names):
        assert "twice" in refused(text.encode())
    else:
        assert json.loads(
            read_object(text.encode(), OURS).splice(dict.fromkeys(names, b"3"))
        ) == dict.fromkeys(names, 3)


def test_a_field_is_there_unless_it_is_null() -> None:
    fields = one(a=None, b=0, c="", d=[], e={})
    assert [fields.has(name) for name in "abcdef"] == [False, True, True, True, True, False]
    assert [fields.raw(name) for name in "abcdef"] == [b"null", b"0", b'""', b"[]", b"{}", b"null"]
    assert [fields.begins(name) for name in "abcdef"] == [b"n", b"0", b'"', b"[", b"{", b"n"]
    assert (fields.read("a", int), fields.read("f", int), fields.read("b", int)) == (None, None, 0)
    assert (fields.entries("a", list[Part]), fields.entries("f", list[Part]), fields.entries("d", list[Part])) == (
        None, None, [],
    )  # fmt: skip
    assert (fields.child("a", OURS), fields.child("f", OURS)) == (None, None)
    child = fields.child("e", OURS)
    assert child is not None
    assert child.values == {}


@pytest.mark.parametrize("name", ["b", "c", "d"])
def test_a_field_that_should_be_an_object_and_is_none_is_named(name: str) -> None:
    with pytest.raises(RequestError, match=f"^{name} is not a JSON object: "):
        one(b=0, c="", d=[]).child(name, OURS)


@pytest.mark.parametrize(
    ("raw", "kind"),
    [
        (b'"%b"' % (b"x" * (MIB - 2)), str),
        (b"1" * 4_000, int),
        (b"1." + b"0" * (MIB - 2), float),
        (b"true", bool),
    ],
)
def test_a_word_is_read_up_to_a_mebibyte(raw: bytes, kind: type) -> None:
    """One longer holds the interpreter for as long as that takes; a list may be of any length."""
    assert type(decode(raw, "name", kind)) is kind
    long = raw + b" " * (MIB - len(raw))
    assert type(decode(long, "name", kind)) is kind
    with pytest.raises(RequestError, match=r"^name: longer than 1,048,576 bytes$"):
        decode(long + b" ", "name", kind)
    assert decode(b"[%b]" % long, "name", list[Any])


def test_what_is_of_another_kind_is_named_with_its_field() -> None:
    for raw, kind in ((b'"5"', int), (b"5", str), (b"[", list), (b'"\xff"', str), (b"[" * 90_000, list[Any])):
        with pytest.raises(RequestError, match=r"^name: "):
            decode(raw, "name", kind)
        assert read_answer(raw, kind) is None


@pytest.mark.parametrize(
    ("text", "is_one"),
    [(b"{}", True), (b' [1, "a"] ', True), (b"null", True), (b"", False), (b"{", False), (b"{}{}", False),
     (b"[" * 90_000, False)],
)  # fmt: skip
def test_one_document_is_told_from_another_text(text: bytes, is_one: bool) -> None:
    assert is_json(text) is is_one


@pytest.mark.parametrize("more", [b"", b',"new":1'])
def test_entries_are_read_whether_or_not_they_have_keys_that_nobody_knows(more: bytes) -> None:
    """Beyond the bound they are refused, and a key that some server takes for a known one is named."""
    entry = b'{"type":"a","text":"x"%b}' % more
    assert read_entries(b"[%b,%b]" % (entry, entry), "name", list[Part]) == [Part("a", Raw(b'"x"'))] * 2
    many = b"[%b]" % b",".join([entry] * MAX_ENTRIES)
    assert len(read_entries(many, "name", list[Part])) == MAX_ENTRIES
    with pytest.raises(
        RequestError, match=r"^name: 10,001 entries, of which at most 10,000 are read in one request$"
    ):
        read_entries(many[:-1] + b"," + entry + b"]", "name", list[Part])
    with pytest.raises(RequestError, match=r"^name: TEXT: some servers take it for 'text'; write 'text'$"):
        read_entries(b'[%b,{"TEXT":1%b}]' % (entry, more), "name", list[Part])


@pytest.mark.parametrize(
    "raw", [b"7", b"{}", b"[7]", b'[{"type":7}]', b'[{"type":7,"new":1}]', b"[", b'["\xff"]']
)
def test_entries_that_are_none_are_named(raw: bytes) -> None:
    with pytest.raises(RequestError, match=r"^name: "):
        read_entries(raw, "name", list[Part])


@pytest.mark.parametrize(
    ("length", "fine"), [(0, True), (MAX_MODEL_LENGTH, True), (MAX_MODEL_LENGTH + 1, False)]
)
def test_a_models_name_is_of_a_bounded_length(length: int, fine: bool) -> None:
    assert MAX_MODEL_LENGTH == 256
    fields = one(model="m" * length)
    if fine:
        assert read_model(fields) == "m" * length
        return
    with pytest.raises(RequestError, match=r"^model: longer than 256 characters$"):
        read_model(fields)


@pytest.mark.parametrize(
    ("fields", "choices"),
    [({}, 1), ({"n": None}, 1), ({"n": 0}, 1), ({"n": 1}, 1), ({"n": 128}, 128), ({"n": 2, "best_of": 5}, 5),
     ({"n": 5, "best_of": 2}, 5), ({"n": 3, "other": 9}, 3)],
)  # fmt: skip
def test_the_most_of_what_multiplies_an_answer_is_taken(fields: dict[str, Any], choices: int) -> None:
    assert read_choices(one(**fields), "n", "best_of") == choices


@pytest.mark.parametrize("wish", [-1, 129, 10**9])
def test_no_more_answers_than_a_bound_and_no_fewer_than_none(wish: int) -> None:
    assert MAX_CHOICES == 128
    with pytest.raises(RequestError, match=f"^best_of: {wish} is not between 1 and 128$"):
        read_choices(one(n=2, best_of=wish), "n", "best_of")


def test_a_prompt_has_a_token_a_byte_and_those_of_the_template_twice_with_tools() -> None:
    """The preamble of the chat, and once more the one of the tools; tools that are null are none."""
    for fields, times in (
        ({"a": 1}, 1),
        ({"tools": None}, 1),
        ({"tools": []}, 2),
        ({"tools": [1], "a": 2}, 2),
    ):
        body = one(**fields)
        assert prompt_bound(body, 16) == len(body.text) + 16 * times
