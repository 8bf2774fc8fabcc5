"""The last message by its shape: what is left of it without numbers, times and ids."""

from __future__ import annotations

import json
import time
import uuid
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from epad.gateway.dialects.body import read_object
from epad.gateway.dialects.history import History, read_history
from probes.turns import Last

ONE, OTHER = str(uuid.UUID(int=7 << 100)), str(uuid.UUID(int=(1 << 128) - 5))


def history(message: str | dict[str, Any]) -> History:
    said = {"role": "user", "content": message} if isinstance(message, str) else message
    return read_history(read_object(json.dumps({"messages": [said]}).encode(), frozenset()))


@pytest.mark.parametrize(("one", "other"), [
    ("try 1", "try 22"),
    ("at 12:04:05 it failed", "at 13:44:59 it failed"),
    ("2026-11-28T22:04:05Z: failed", "2027-01-02T03:04:05Z: failed"),
    (f"request {ONE} failed", f"request {OTHER} failed"),
    ("object at 0x7f12ab", "object at 0x55e9c4"),
    ("cost 1,204.50 so far", "cost 9.75 so far"),
    ("step17 of 40: go on", "step18 of 40: go on"),
    ("go on", "go on......"), ("go on", "go on!? "),
])  # fmt: skip
def test_numbers_times_and_ids_make_no_difference(one: str, other: str) -> None:
    assert history(one).shape == history(other).shape
    assert history(one).last_message != history(other).last_message


@pytest.mark.parametrize(("one", "other"), [
    ("is the river long?", "is the bridge long?"), ("try 1", "retry 1"), ("", "1"), ("yes", "no"),
])  # fmt: skip
def test_words_do(one: str, other: str) -> None:
    assert history(one).shape != history(other).shape


@pytest.mark.parametrize("key", ["tool_call_id", "tool_use_id"])
def test_the_result_of_a_call_is_known_again_whatever_the_number_of_the_call(key: str) -> None:
    one, other = (
        {"role": "tool", key: number, "content": "no such file"} for number in ("call_a1", "call_b2")
    )
    assert history(one).last_message == history(other).last_message
    assert history(one).digests != history(other).digests
    assert history(one).last_message != history({**one, "content": "found"}).last_message


@pytest.mark.parametrize(("message", "kind"), [
    ("go on", Last.SAID), ("Error: no such file", Last.ERROR), ("It is not found out yet", Last.ERROR),
    ({"role": "tool", "tool_call_id": "a", "content": "still running"}, Last.RESULT),
    ({"role": "tool", "tool_call_id": "a", "content": "Permission denied"}, Last.ERROR),
    ({"role": "user", "content": [{"type": "tool_result", "tool_use_id": "a", "content": "ok"}]}, Last.RESULT),
    ({"role": "user", "content": 'he said "tool" to me'}, Last.SAID),
    ({"role": "user", "content": "long " * 2_000 + "and then it failed"}, Last.ERROR),
    ({"role": "user", "content": "long " * 2_000 + "error" + " long" * 2_000}, Last.SAID),
])  # fmt: skip
def test_what_the_last_message_is(message: str | dict[str, Any], kind: Last) -> None:
    """Told from its two ends: a tool's result, an error of whomever, or what was said."""
    assert history(message).last is kind


def test_no_message_is_of_no_kind() -> None:
    empty = read_history(read_object(b'{"messages": []}', frozenset()))
    assert empty.last is Last.UNKNOWN


@given(st.text(max_size=3_000), st.integers(0, 10**12))
def test_a_counter_in_any_text_makes_no_difference(text: str, number: int) -> None:
    assert (
        history(f"{text} {number} {text}").shape == history(f"{text} {number + 1} {text}").shape
        or len(text) > 900
    )


def test_a_long_run_of_letters_costs_little() -> None:
    begun = time.process_time()
    history("a" * 2_000_000)
    history("a1" * 1_000_000)
    assert time.process_time() - begun < 5.0
