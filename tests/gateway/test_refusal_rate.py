"""Saying no: rendered once, told in full, and whoever does not listen has to rest."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path

import aiohttp
import pytest
from gateway_world import gateway_config, world

from epad.gateway import refusal as refuse
from epad.gateway.dialects.openai import OpenAI
from epad.gateway.http import connection
from epad.gateway.refusal import Refusal
from epad.gateway.refusal_rate import HAMMERING_SECONDS, Hammering, Rendered
from statemachine.containment import Rung


class CountingOpenAI(OpenAI):
    rendered = 0

    def error_body(self, refusal: Refusal) -> bytes:
        self.rendered += 1
        return super().error_body(refusal)


def test_a_refusal_is_rendered_once_and_one_with_figures_each_time() -> None:
    """The second body is the first one's bytes; the memory for them is bounded."""
    dialect, rendered = CountingOpenAI(), Rendered()
    held = [refuse.quarantined("a", Rung.BLOCK, "it loops") for _ in range(3)]
    assert len({id(rendered.body(dialect, one)) for one in held}) == 1
    assert dialect.rendered == 1
    figures = Refusal(429, "t", "c", "m", details={"used": 1})
    assert rendered.body(dialect, figures) != rendered.body(dialect, Refusal(429, "t", "c", "m"))
    for n in range(1_000):
        rendered.body(dialect, refuse.quarantined(f"s{n}", Rung.BLOCK, "x"))
    assert len(rendered._bodies) <= 128


def test_hammering_is_counted_by_name_and_forgotten_after_a_while() -> None:
    """One who hammers makes no one else rest."""
    hammering = Hammering(3)
    assert [hammering.is_hammering("a", 0.0) for _ in range(5)] == [False, False, False, True, True]
    assert not hammering.is_hammering("b", 0.0)
    assert not hammering.is_hammering("a", HAMMERING_SECONDS)


async def test_the_connection_of_a_refused_loop_rests(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its answers are the same and come at once; its next question is heard after a while, others meanwhile."""
    monkeypatch.setattr(connection, "REST_SECONDS", 3_600.0)
    async with world(tmp_path, config=gateway_config(refusals_before_rest=2)) as w:
        w.access.hold("writer", Rung.BLOCK, "it loops")
        answers = [await w.chat() for _ in range(3)]
        (resting,) = w.gateway._server.shared.connections
        assert resting._resting
        late = asyncio.ensure_future(w.chat())
        async with aiohttp.ClientSession() as other:
            assert (await replace(w, http=other).chat("reader"))[0] == 200
        assert not late.done()
        resting._hear_again()
        answers.append(await late)
        assert [status for status, _, _ in answers] == [403] * 4
        assert len({body for _, _, body in answers}) == 1


async def test_a_rest_ends_for_whoever_is_let_in_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On the same connection, pipelined requests included."""
    monkeypatch.setattr(connection, "REST_SECONDS", 0.05)
    async with world(tmp_path, config=gateway_config(refusals_before_rest=1)) as w:
        w.access.hold("writer", Rung.BLOCK, "it loops")
        assert [(await w.chat())[0] for _ in range(2)] == [403, 403]
        w.access.release("writer")
        assert (await w.chat())[0] == 200
        assert len(w.gateway._server.shared.connections) == 1
