"""Saying no: rendered once, told in full, and the connection of whoever does not listen is closed."""

from __future__ import annotations

from pathlib import Path

from gateway_world import gateway_config, world

from epad.gateway import refusal as refuse
from epad.gateway.dialects.openai import OpenAI
from epad.gateway.refusal import Refusal
from epad.gateway.refusing import HAMMERING_SECONDS, Hammering, Rendered
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
    """One who hammers does not close another's connections, and loses one for each so many refusals."""
    hammering = Hammering(3)
    assert [hammering.counts("a", 0.0) for _ in range(5)] == [False, False, False, True, False]
    assert not hammering.counts("b", 0.0)
    assert not hammering.counts("a", HAMMERING_SECONDS)


async def test_the_connection_of_a_refused_loop_is_closed(tmp_path: Path) -> None:
    """The answer is the same; now and then the next has to knock anew. Who is served keeps the connection."""
    async with world(tmp_path, config=gateway_config(refusals_before_close=2)) as w:
        w.access.hold("writer", Rung.BLOCK, "it loops")
        answers = [await w.chat() for _ in range(4)]
        assert [status for status, _, _ in answers] == [403] * 4
        assert [headers.get("Connection") for _, headers, _ in answers] == [None, None, "close", None]
        assert len({body for _, _, body in answers}) == 1
        assert (await w.chat("reader"))[1].get("Connection") is None
