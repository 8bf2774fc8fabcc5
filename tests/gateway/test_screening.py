"""A signal, never a gate: whatever the screen does, each request goes on the same."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from gateway_world import World, world
from patience import until

from epad.configuration.schema import BudgetConfig
from epad.gateway.screening import NoScreen, Screen, Tell

ROOT = Path(__file__).parents[2]
BUDGETS = {"writer": BudgetConfig(requests_per_minute=5), "reader": BudgetConfig()}


class Dead:
    """Takes turns, and never says a word."""

    def __init__(self) -> None:
        self.offered: list[tuple[str, str, bytes]] = []

    def offer(self, turn: str, subsystem: str, body: bytes, tell: Tell) -> None:
        self.offered.append((turn, subsystem, body))


class Slow(Dead):
    """Says its word when nobody listens any more."""

    def offer(self, turn: str, subsystem: str, body: bytes, tell: Tell) -> None:
        super().offer(turn, subsystem, body, tell)
        asyncio.get_running_loop().call_later(0.05, tell, "attack;score=1.000")


class AllAttacks(Dead):
    """Calls everything an attack, at once."""

    def offer(self, turn: str, subsystem: str, body: bytes, tell: Tell) -> None:
        super().offer(turn, subsystem, body, tell)
        tell("attack;group=exfiltration;score=1.000")


async def story(place: World, screen: Screen) -> list[Any]:
    """Answers, refusals by the budget, and what the ledger and the probes were told, of a fixed story."""
    place.put(screen=screen)
    answers = []
    for number in range(8):
        stream = bool(number % 2)
        status, _, body = await place.chat(stream=stream, max_tokens=200)
        answers.append((status, body if status == 200 else b""))
    admitted = [(one.reserved_tokens, one.prompt_tokens, one.model) for one in place.recorder.admissions]
    refused = [(one.code, one.limit) for one in place.recorder.refusals]
    await until(lambda: len(place.ledger.closed) >= len(place.ledger.opened), "the closings")
    charged = [(one.outcome, one.charged_tokens) for one in place.ledger.closed if one.outcome != "refused"]
    return [answers, admitted, refused, charged]


@pytest.mark.parametrize("make", [Dead, Slow, AllAttacks])
async def test_no_decision_depends_on_it(make: Callable[[], Dead], tmp_path: Path) -> None:
    """Dead, late, or calling everything an attack: the same answers, refusals and charges as without."""
    for name in ("without", "with"):
        (tmp_path / name).mkdir()
    async with world(tmp_path / "without", budgets=BUDGETS) as place:
        expected = await story(place, NoScreen())
    screen = make()
    async with world(tmp_path / "with", budgets=BUDGETS) as place:
        assert await story(place, screen) == expected
        assert len(screen.offered) == len(place.ledger.opened) > 0
    statuses = {status for status, _ in expected[0]}
    assert {200, 429} <= statuses, "the story has turns and refusals"


async def test_the_word_is_shown_where_it_comes_before_the_answer(tmp_path: Path) -> None:
    """In whole answers and in streams; and no header without it."""
    async with world(tmp_path) as place:
        assert "x-epad-intent" not in (await place.chat())[1]
        place.put(screen=AllAttacks())
        for stream in (False, True):
            _, headers, _ = await place.chat(stream=stream)
            assert headers["x-epad-intent"] == "attack;group=exfiltration;score=1.000"


async def test_what_generates_nothing_is_not_offered(tmp_path: Path) -> None:
    """Embeddings are of texts that a program has chosen, and a classifier may ask for some itself."""
    async with world(tmp_path) as place:
        screen = Dead()
        place.put(screen=screen)
        await place.post("/v1/embeddings", input="hello")
        assert screen.offered == []
        await place.chat()
        assert [name for _, name, _ in screen.offered] == ["writer"]


def test_the_word_is_read_where_headers_are_written_and_nowhere_else() -> None:
    """The only attribute that the screen writes; and the room of the screen is imported by the daemon's alone."""
    texts = {
        path.relative_to(ROOT): path.read_text(encoding="utf-8") for path in (ROOT / "epad").rglob("*.py")
    }
    reading = {str(path) for path, text in texts.items() if re.search(r"\bturn\.intent\b", text)}
    assert reading == {"epad/gateway/turn.py"}
    importing = {path.parts[1] for path, text in texts.items() if "epad.intent" in text}
    assert importing == {"intent", "daemon"}
