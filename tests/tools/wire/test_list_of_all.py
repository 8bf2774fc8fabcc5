"""The list of all real tools as clients get it: its size in both modes, and if a search finds what is asked for."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Iterable, Mapping, Sequence

import pytest
from msgspec.structs import replace
from tool_questions import HELD_OUT, QUESTIONS

from epad.tools.catalogue import load
from epad.tools.protocol import Definition
from epad.tools.wire.listing import SEARCH_ABOVE, Listed
from epad.tools.wire.ranking import Ranking

FULL_BYTES = 48 << 10
SEARCH_BYTES = 5 << 10
LOOKED_AT = 5
"""As many as `tool_search` returns unless told otherwise."""
WANTED = 0.95


@pytest.fixture(scope="module")
def tools() -> Sequence[Definition]:
    return [*asyncio.run(load()).definitions.values()]


def recall(tools: Iterable[Definition], questions: Mapping[str, tuple[str, ...]]) -> tuple[float, list[str]]:
    """Return the share of questions whose tool is among the first ones, and those whose tool is not."""
    ranking = Ranking(definitions := list(tools))
    known = {each.name for each in definitions}
    asked = [(name, question) for name, each in questions.items() if name in known for question in each]
    missed = [
        f"{name}: {question}"
        for name, question in asked
        if name not in {found.name for found in ranking.best(question, LOOKED_AT)}
    ]
    return 1 - len(missed) / len(asked), missed


def test_all_tools_fit_into_a_context(tools: Sequence[Definition]) -> None:
    """As the wire writes them, with annotations; and few of them in search mode."""
    assert len(bytes(Listed(tools, len(tools)).tools)) <= FULL_BYTES
    assert len(bytes(Listed(tools, SEARCH_ABOVE).tools)) <= SEARCH_BYTES


def test_a_search_finds_the_tool_that_is_meant(tools: Sequence[Definition]) -> None:
    """Of 95 in 100 questions, among the first five."""
    found, missed = recall(tools, QUESTIONS)
    assert found >= WANTED, missed
    again, missed = recall(tools, {name: (question,) for name, question in HELD_OUT.items()})
    assert again >= 0.9, missed


def test_descriptions_are_part_of_what_finds_them(tools: Sequence[Definition]) -> None:
    """The control: with the descriptions dealt out anew a tenth of the questions is lost, whatever the names say."""
    whole, _ = recall(tools, QUESTIONS)
    for seed in range(3):
        dealt = [each.description for each in tools]
        random.Random(seed).shuffle(dealt)
        mixed = [replace(each, description=text) for each, text in zip(tools, dealt, strict=True)]
        assert recall(mixed, QUESTIONS)[0] <= whole - 0.1


def test_each_tool_has_its_questions(tools: Sequence[Definition]) -> None:
    """A new tool comes with two questions, and one more."""
    names = {each.name for each in tools}
    assert names <= QUESTIONS.keys()
    assert names <= HELD_OUT.keys()
    assert QUESTIONS.keys() == HELD_OUT.keys()
