"""Upstreams: the breaker, the next one when one is down, keys from where systemd puts them, nothing secret shown."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
from gateway_world import StubUpstream, serving, world
from hypothesis import given
from hypothesis import strategies as st
from patience import PATIENCE_SECONDS

from epad.configuration.schema import BudgetConfig, PriceConfig, UpstreamConfig
from epad.gateway.errors import UpstreamError
from epad.gateway.health import LEAST_TURNS, OPEN_SECONDS, WINDOW_SECONDS, Health
from epad.gateway.money import Prices
from epad.gateway.upstream import Upstreams
from statemachine.clock import ManualClock

DEAD = "http://127.0.0.1:9"


def test_half_of_ten_failures_open_the_breaker_and_one_turn_tries_it() -> None:
    """Not nine; then none for half a minute, one at a time after, and its success closes it."""
    clock = ManualClock()
    health = Health(clock)
    for n in range(LEAST_TURNS - 1):
        assert health.ask()
        (health.failed("boom") if n % 2 else health.succeeded())
    assert health.reason == ""
    health.failed("boom")
    assert health.reason == "breaker open: boom"
    assert not health.ask()
    clock.advance(OPEN_SECONDS + 0.1)
    assert health.ask()
    assert not health.ask()
    health.failed("again")
    assert not health.ask()
    assert 0 < health.seconds_until_asked() <= OPEN_SECONDS
    clock.advance(OPEN_SECONDS + 0.1)
    assert health.ask()
    health.succeeded()
    assert health.reason == ""
    assert health.ask()
    assert health.ask()


def test_a_turn_that_never_tells_its_end_does_not_shut_an_upstream_for_good() -> None:
    """The one that was let through to try was cut: after the same time the next may."""
    clock = ManualClock()
    health = Health(clock)
    for _ in range(LEAST_TURNS):
        health.failed("boom")
    clock.advance(OPEN_SECONDS + 0.1)
    assert health.ask()
    assert not health.ask()
    clock.advance(OPEN_SECONDS + 0.1)
    assert health.ask()


def test_failures_of_an_hour_ago_and_failed_looks_open_nothing() -> None:
    """The window is a minute of turns; a look only says which upstream is asked first."""
    clock = ManualClock()
    health = Health(clock)
    for _ in range(LEAST_TURNS * 3):
        health.failed("boom")
        clock.advance(WINDOW_SECONDS / LEAST_TURNS + 1)
    assert health.ask()
    health.looked("refused")
    assert (health.reason, health.ask()) == ("refused", True)
    health.succeeded()
    assert health.reason == ""


@given(st.lists(st.tuples(st.booleans(), st.floats(0, 30)), max_size=80))
def test_the_breaker_opens_only_on_evidence_and_never_for_longer(steps: list[Any]) -> None:
    """Whatever comes, an open breaker had half of ten failures, and asks again within its time."""
    clock = ManualClock()
    health, history = Health(clock), []
    for ok, wait in steps:
        clock.advance(wait)
        if not health.ask():
            assert health.seconds_until_asked() <= OPEN_SECONDS
            continue
        history.append((clock.monotonic(), ok))
        health.succeeded() if ok else health.failed("x")
        if health.reason:
            assert not ok
            assert len(history) >= LEAST_TURNS
            assert sum(not good for _, good in history) >= LEAST_TURNS / 2


@pytest.mark.parametrize("stream", [False, True])
async def test_a_turn_goes_to_the_next_upstream_when_one_cannot_be_reached(
    tmp_path: Path, stream: bool
) -> None:
    """One turn, one charge; the breaker then keeps the dead one out of the way, and the list says why."""
    async with serving(StubUpstream()) as base:
        upstreams = {
            "dead": UpstreamConfig(url="http://user:secret@127.0.0.1:9/?key=s", dialects=("openai",)),
            "alive": UpstreamConfig(url=base, dialects=("openai",)),
        }
        budgets = {"writer": BudgetConfig(tokens_per_minute=100_000)}
        async with world(tmp_path, upstreams=upstreams, budgets=budgets) as w:
            for _ in range(LEAST_TURNS + 2):
                assert (await w.chat(stream=stream))[0] == 200
            assert len(w.ledger.opened) == LEAST_TURNS + 2
            await w.closings(LEAST_TURNS + 2)
            assert w.used() == 12 * (LEAST_TURNS + 2)
            shown = w.gateway.upstreams()
            assert [(one["name"], one["healthy"]) for one in shown] == [("dead", False), ("alive", True)]
            assert "dead cannot be reached" in str(shown[0]["reason"])
            assert shown[0]["url"] == "http://127.0.0.1:9/"
            assert "secret" not in json.dumps(shown)


async def test_what_an_upstream_may_have_begun_is_not_made_twice(tmp_path: Path) -> None:
    """It broke off after the request was sent: the client is told, the other upstream is not asked."""

    async def hang_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.close()

    async with await asyncio.start_server(hang_up, "127.0.0.1", 0) as server, serving(StubUpstream()) as base:
        port = server.sockets[0].getsockname()[1]
        upstreams = {
            "broken": UpstreamConfig(url=f"http://127.0.0.1:{port}", dialects=("openai",)),
            "alive": UpstreamConfig(url=base, dialects=("openai",)),
        }
        async with world(tmp_path, upstreams=upstreams) as w:
            broken = w.gateway._parts.upstreams.of("openai")[0]
            async with asyncio.timeout(PATIENCE_SECONDS):
                while not broken.health.reason:
                    await asyncio.sleep(0.001)
            broken.health.looked("")  # what a look finds is not the matter here
            status, _, body = await w.chat()
            assert status == 502
            assert "broken" in json.loads(body)["error"]["message"]
            [closed] = await w.closings(1)
            assert closed.charged_tokens == w.ledger.opened[0].reserved_tokens


async def test_a_free_upstream_that_serves_costs_nothing_though_the_next_would_have(tmp_path: Path) -> None:
    """Reserved at the price, since it might have spilled over; settled by who served it."""
    async with serving(StubUpstream()) as base:
        upstreams = {
            "local": UpstreamConfig(url=base, dialects=("openai",), free=True),
            "cloud": UpstreamConfig(url=base, dialects=("openai",)),
        }
        budgets = {"writer": BudgetConfig(usd_per_day=1.0)}
        async with world(tmp_path, upstreams=upstreams, budgets=budgets) as w:
            assert (await w.chat())[0] == 403
            w.gateway._parts.prices.__init__({"tiny": PriceConfig(input=1.0, output=1.0)})  # type: ignore[misc]  # as a reload
            assert isinstance(w.gateway._parts.prices, Prices)
            assert (await w.chat())[0] == 200
            assert w.gateway.spent("writer")["microusd_per_day"].used == 0


async def test_an_upstreams_key_comes_from_systemds_credentials(tmp_path: Path) -> None:
    """By its name there; where there are none, the start says what to write into the unit."""
    (tmp_path / "openai").write_text("sk-1\n")
    config = {"up": UpstreamConfig(url=DEAD, dialects=("openai",), api_key_credential="openai")}
    upstreams = Upstreams(config, 1.0, 1.0, ManualClock(), tmp_path)
    await upstreams.start()
    assert upstreams.of("openai")[0].key == "sk-1"
    assert "sk-1" not in str(upstreams.status())
    await upstreams.stop()
    with pytest.raises(UpstreamError, match="LoadCredential=openai:"):
        await Upstreams(config, 1.0, 1.0, ManualClock()).start()
    (tmp_path / "openai").unlink()
    with pytest.raises(UpstreamError, match=r"\[upstreams.up\] api_key_credential: "):
        await Upstreams(config, 1.0, 1.0, ManualClock(), tmp_path).start()


async def test_a_look_finds_an_upstream_that_is_down_before_a_turn_does() -> None:
    """And one that answers anything below 500 is there."""
    stub = StubUpstream()
    async with serving(stub) as base:
        config = {
            "dead": UpstreamConfig(url=DEAD, dialects=("openai",)),
            "alive": UpstreamConfig(url=base, dialects=("openai",)),
        }
        upstreams = Upstreams(config, 1.0, 1.0, ManualClock())
        await upstreams.start()
        async with asyncio.timeout(PATIENCE_SECONDS):
            while not upstreams.status()[0]["reason"]:
                await asyncio.sleep(0.01)
        assert [each.name for each in upstreams.routes("m", "openai")] == ["alive", "dead"]
        await upstreams.stop()
