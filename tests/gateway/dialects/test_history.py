"""What of a conversation is kept: digests of one length, sizes without marks, the same for the same words."""

from __future__ import annotations

import hashlib
import json
from typing import Any

import pytest

from epad.gateway.dialects.body import read_object
from epad.gateway.dialects.history import NO_HISTORY, History, read_history
from epad.gateway.dialects.shape import MAX_ENTRIES
from epad.gateway.errors import RequestError
from probes.turns import MAX_HISTORY_DIGESTS

LONG = "x" * 70_000
MARK = '"cache_control":{"type":"ephemeral"}'


def of(*messages: str, before: tuple[str, ...] = (), **fields: Any) -> History:
    """The history of messages as they are written."""
    more = "".join(f",{json.dumps(name)}:{json.dumps(value)}" for name, value in fields.items())
    body = '{"messages":[' + ",".join(messages) + f"]{more}}}"
    return read_history(read_object(body.encode(), frozenset()), before=before)


def filled(pattern: str, *texts: str) -> str:
    """A message, with a text in the place of each `@`."""
    for text in texts:
        pattern = pattern.replace("@", text, 1)
    return pattern


def said(text: str, role: str = "user") -> str:
    return json.dumps({"role": role, "content": text})


def test_each_digest_stands_for_all_messages_up_to_one_and_has_their_size() -> None:
    messages = [said(f"text {n}", "assistant" if n % 2 else "user") for n in range(MAX_HISTORY_DIGESTS + 4)]
    whole = of(*messages)
    sizes = [sum(map(len, messages[:n])) for n in range(1, len(messages) + 1)]
    assert whole.messages == len(messages)
    assert whole.sizes == tuple(sizes[-MAX_HISTORY_DIGESTS:])
    assert len(whole.digests) == len(set(whole.digests)) == MAX_HISTORY_DIGESTS
    assert {len(digest) for digest in (*whole.digests, whole.last_message)} == {16}
    assert whole.last_message == hashlib.sha256(messages[-1].encode()).digest()[:16]
    assert len(bytes.fromhex(whole.conversation)) == 16
    part = of(*messages[:3])
    assert (len(part.digests), part.sizes) == (3, tuple(sizes[:3]))
    assert of(*messages[:-1]).digests[-1] == whole.digests[-2]
    assert of(*messages[:MAX_HISTORY_DIGESTS]).sizes == tuple(sizes[:MAX_HISTORY_DIGESTS])


def test_a_conversation_is_named_by_its_first_question_and_what_stands_before_it() -> None:
    first = of(said("be kind", "system"), said("one"))
    assert first.conversation == of(said("be kind", "system"), said("one"), said("two")).conversation
    others = [
        of(said("be rude", "system"), said("one")), of(said("be kind", "system"), said("two")), of(said("one")),
        of(said("be kindone", "system"), said("")),
    ]  # fmt: skip
    assert len({first.conversation, *(each.conversation for each in others)}) == 5
    assert of(said("one"), said("be kind", "system")).conversation == of(said("one")).conversation
    assert of(said("x", "system"), '"text"', "7", '{"role":7}').conversation == ""
    assert of() == NO_HISTORY == of(before=("system",), system="x")


def test_a_text_is_the_only_message_and_the_users() -> None:
    fields = read_object(b'{"input":"hello","instructions":"be kind"}', frozenset())
    asked = read_history(fields, "input")
    assert (asked.messages, asked.sizes, len(asked.digests)) == (1, (7,), 1)
    assert asked.conversation == asked.digests[0].hex()
    told = read_history(fields, "input", ("instructions",))
    assert (told.sizes, told.last_message) == (asked.sizes, asked.last_message)
    assert told.conversation != asked.conversation
    assert told.conversation != read_history(fields, "input", ("model", "instructions")).conversation


def test_no_more_messages_than_are_read_one_by_one() -> None:
    assert of(*["{}"] * MAX_ENTRIES).messages == MAX_ENTRIES
    with pytest.raises(
        RequestError, match=r"^messages: 10,001 entries, of which at most 10,000 are read in one"
    ):
        of(*["{}"] * (MAX_ENTRIES + 1))


@pytest.mark.parametrize("text", ["hi", LONG], ids=["short", "long"])
@pytest.mark.parametrize(
    ("plain", "marked"),
    [
        ('{"text":"@"}', '{"text":"@",' + MARK + "}"),
        ('{"text":"@"}', '{"text":"@", \n\t' + MARK + "}"),
        ('{"text":"@"}', '{"text":"@","cache_control" : null}'),
        ('{"text":"@"}', "{" + MARK + ', "text":"@"}'),
        ('{"text":"@"}', "{" + MARK + "," + MARK + ', "text":"@",' + MARK + "," + MARK + "}"),
        ('{"text":"@","a":1}', '{"text":"@",' + MARK + ',"a":1}'),
        ('[{"text":"@"},{"text":"b"}]', '[{"text":"@",' + MARK + '},{"text":"b",' + MARK + "}]"),
        ('[{"text":"b"},{"text":"@"}]', "[{" + MARK + ',"text":"b"},{"text":"@",' + MARK + "}]"),
    ],
)
def test_a_mark_is_no_part_of_a_message_wherever_it_stands(plain: str, marked: str, text: str) -> None:
    """Of a large message only the neighbourhood of each mark is looked at: it comes to the same."""
    assert of(filled(marked, text)) == of(filled(plain, text))
    assert of(said("x"), before=("system",), system="y") != of(said("x"))


@pytest.mark.parametrize("text", ["hi", LONG], ids=["short", "long"])
def test_what_is_no_mark_is_a_part_of_a_message(text: str) -> None:
    """One with something else in it, one alone in its object, one that is text."""
    plain = of(filled('{"text":"@"}', text))
    for other in (
        '{"text":"@","cache_control":7}', '{"text":"@","cache_control":{"a":{}}}',
        '{"text":"@","a":{"cache_control":null}}', '{"text":"@","a":"\\"cache_control\\":null,"}',
        '{"text":"@","x_cache_control":null}',
    ):  # fmt: skip
        assert of(filled(other, text)).last_message != plain.last_message
        assert of(filled(other, text)).sizes == (len(filled(other, text)),)


@pytest.mark.parametrize(("space", "found"), [(255, True), (256, False)])
def test_white_space_before_a_mark_belongs_to_it_as_far_as_it_is_looked_for(space: int, found: bool) -> None:
    """A regular expression over all of a large message would hold the interpreter."""
    marked = of(filled('{"text":"@",@@}', LONG, " " * space, MARK))
    assert (marked == of(filled('{"text":"@"}', LONG))) is found


@pytest.mark.parametrize(("size", "found"), [(1_024, True), (1_025, False)])
def test_a_mark_is_as_long_as_any_honest_one_at_most(size: int, found: bool) -> None:
    mark = '"cache_control":{"ttl":"@"}'
    mark = filled(mark, "1" * (size - len(mark) + 1))
    assert len(mark) == size
    assert (of(filled('{"text":"@",@}', LONG, mark)) == of(filled('{"text":"@"}', LONG))) is found
    # A small message is searched as it is.
    assert of(filled('{"text":"x",@}', mark)) == of('{"text":"x"}')


def test_a_message_is_large_from_64_kib_on() -> None:
    """One byte less, and all of it is searched, however far the mark is from its comma."""

    def written(size: int) -> tuple[str, str]:
        rest = '{"text":"","cache_control":null}'
        text = "x" * (size - len(rest) - 300)
        return filled('{"text":"@",@"cache_control":null}', text, " " * 300), filled('{"text":"@"}', text)

    for size, found in ((64 << 10, True), ((64 << 10) + 1, False)):
        marked, plain = written(size)
        assert len(marked) == size
        assert (of(marked) == of(plain)) is found
