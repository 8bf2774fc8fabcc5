"""Streams: passed through as they come, cut with the dialect's own words, charged for what they were."""

from __future__ import annotations

import asyncio
import json
import shutil
import tempfile
from pathlib import Path

import pytest
from aiohttp import web
from gateway_world import MemoryLedger, World, gateway_config, world

from epad.configuration.schema import BudgetConfig, UpstreamConfig
from epad.ledger.record import Outcome, UsageSource
from statemachine.containment import Rung

BUDGET = {
    "writer": BudgetConfig(tokens_per_minute=100_000),
    "reader": BudgetConfig(tokens_per_minute=100_000),
}
PATHS = ["/v1/chat/completions", "/api/chat"]


async def quiet(w: World) -> None:
    """Everything has ended: no reservation is left, no turn in flight."""
    w.gateway.observe_budgets()
    assert 'epad_turns_in_flight{subsystem="writer"} 0.0' in w.metrics.render().decode()
    assert w.access._turns == {}


@pytest.mark.parametrize("piece_bytes", [0, 1, 7])
@pytest.mark.parametrize("path", PATHS)
async def test_a_stream_passes_whatever_its_chunk_borders(
    tmp_path: Path, path: str, piece_bytes: int
) -> None:
    """The client gets the upstream's bytes, without the usage chunk it had not asked for; epad gets the count."""
    async with world(tmp_path, budgets=BUDGET) as w:
        w.stub.piece_bytes = piece_bytes
        _, headers, body = await w.post(path, stream=True)
        expected = b"".join(
            event + b"\n\n" for event in w.stub.sent.split(b"\n\n") if event and b'"usage"' not in event
        )
        assert body == (expected if path == PATHS[0] else w.stub.sent)
        [closed] = await w.closings(1)
        assert headers["x-epad-turn"] == closed.turn
        assert (closed.outcome, closed.charged_tokens, closed.usage_source) == (
            Outcome.DONE, 12, UsageSource.USAGE,
        )  # fmt: skip
        assert w.used() == 12
        await quiet(w)


async def test_usage_the_client_asked_for_stays(tmp_path: Path) -> None:
    """Then the stream is byte for byte the upstream's."""
    async with world(tmp_path) as w:
        _, _, body = await w.chat(stream=True, stream_options={"include_usage": True})
        assert body == w.stub.sent
        assert b'"usage"' in body


@pytest.mark.parametrize("path", PATHS)
async def test_a_stream_without_usage_is_counted_by_its_chunks(tmp_path: Path, path: str) -> None:
    """The prompt by its bound, the answer by what came; the ledger says that it was counted."""
    async with world(tmp_path, budgets=BUDGET) as w:
        w.stub.gives_usage = False
        await w.post(path, stream=True)
        [closed] = await w.closings(1)
        assert (closed.output_tokens, closed.usage_source) == (len(w.stub.words), UsageSource.COUNTED)
        assert closed.input_tokens == w.ledger.opened[0].prompt_bound
        assert w.used() == closed.charged_tokens


async def test_a_cached_prompts_missing_count_is_its_bound(tmp_path: Path) -> None:
    """Ollama leaves prompt_eval_count out then; that is not zero."""
    async with world(tmp_path) as w:
        w.stub.input_tokens = None
        await w.post("/api/chat")
        [closed] = await w.closings(1)
        assert (closed.input_tokens, closed.output_tokens) == (w.ledger.opened[0].prompt_bound, 5)


@pytest.mark.parametrize("path", PATHS)
async def test_severing_ends_the_stream_in_its_dialect_and_stops_the_upstream(
    tmp_path: Path, path: str
) -> None:
    """Never a bare end of file; what came is charged, and another subsystem's stream goes on."""
    async with world(tmp_path, budgets=BUDGET) as w:
        w.stub.gate, w.stub.words_before_gate = asyncio.Event(), 2
        mine = asyncio.create_task(w.post(path, stream=True))
        await w.stub.arrived.wait()
        other = asyncio.create_task(w.post(path, "reader", stream=True))
        while len(w.recorder.admissions) < 2 or any(
            turn.meter is None or turn.meter.chunks < 2 for turn in w.in_flight()
        ):
            await asyncio.sleep(0.001)
        w.access.hold("writer", Rung.FREEZE, "it loops")
        assert w.access.sever("writer") == 1
        status, _, body = await mine
        await w.stub.hung_up.wait()
        assert status == 200
        if path == "/api/chat":
            assert "it loops" in json.loads(body.splitlines()[-1])["error"]
        else:
            *_, error, done, _ = body.split(b"\n\n")
            assert json.loads(error.removeprefix(b"data: "))["error"]["code"] == "subsystem_quarantined"
            assert done == b"data: [DONE]"
        [closed] = await w.closings(1)
        assert (closed.outcome, closed.output_tokens, closed.usage_source) == (
            Outcome.CUT, 2, UsageSource.COUNTED,
        )  # fmt: skip
        assert "it loops" in closed.reason
        w.stub.gate.set()
        assert (await other)[0] == 200
        await w.closings(2)
        await quiet(w)


@pytest.mark.parametrize("path", PATHS)
async def test_severing_before_the_answer_began_is_a_plain_refusal(tmp_path: Path, path: str) -> None:
    """Not a stream yet: 403; the upstream was at work, unseen, so the whole reservation is charged."""
    async with world(tmp_path, budgets=BUDGET) as w:
        w.stub.gate = asyncio.Event()
        asking = asyncio.create_task(w.post(path, stream=False))
        await w.stub.arrived.wait()
        w.access.hold("writer", Rung.BLOCK, "it loops")
        w.access.sever("writer")
        assert (await asking)[0] == 403
        await w.stub.hung_up.wait()
        [closed] = await w.closings(1)
        assert (closed.outcome, closed.usage_source) == (Outcome.CUT, UsageSource.RESERVED)
        assert closed.charged_tokens == w.ledger.opened[0].reserved_tokens == w.used()
        await quiet(w)


async def test_severing_while_the_ledger_writes_costs_nothing(tmp_path: Path) -> None:
    """Nothing was forwarded; the turn that was opened is closed all the same."""
    gate = asyncio.Event()
    ledger = MemoryLedger(gate=gate)
    async with world(tmp_path, ledger=ledger, budgets=BUDGET) as w:
        asking = asyncio.create_task(w.chat())
        while w.access.sever("writer") == 0:
            await asyncio.sleep(0.001)
        gate.set()
        assert (await asking)[0] == 403
        [closed] = await w.closings(1)
        assert (closed.turn, closed.outcome, closed.charged_tokens) == (ledger.opened[0].turn, Outcome.CUT, 0)
        assert w.stub.requests == []
        assert w.used() == 0


@pytest.mark.parametrize("stream", [True, False])
async def test_a_client_that_leaves_stops_the_upstream_at_once(tmp_path: Path, stream: bool) -> None:
    """Streaming: what was delivered is charged. Not streaming: nothing is known, so all that was reserved."""
    async with world(tmp_path, budgets=BUDGET) as w:
        w.stub.gate, w.stub.words_before_gate = asyncio.Event(), 3
        body = {"model": "tiny", "messages": [], "stream": stream}
        post = w.http.post(w.url + "/v1/chat/completions", json=body, headers=w.headers())
        if stream:
            response = await post
            await response.content.readuntil(b'" three"}')
            response.close()
        else:
            asking = asyncio.create_task(post.__aenter__())
            await w.stub.arrived.wait()
            asking.cancel()
            await asyncio.gather(asking, return_exceptions=True)
        await w.stub.hung_up.wait()
        [closed] = await w.closings(1)
        assert closed.outcome is Outcome.CUT
        assert "disconnected" in closed.reason
        if stream:
            assert (closed.output_tokens, closed.usage_source) == (3, UsageSource.COUNTED)
        else:
            assert closed.usage_source is UsageSource.RESERVED
            assert closed.charged_tokens == w.ledger.opened[0].reserved_tokens
        assert w.used() == closed.charged_tokens
        await quiet(w)


async def test_a_client_that_leaves_while_the_ledger_writes_leaves_no_open_turn(tmp_path: Path) -> None:
    """The opening reached the disk after the client was gone: it is closed, at no charge."""
    gate = asyncio.Event()
    ledger = MemoryLedger(gate=gate)
    async with world(tmp_path, ledger=ledger, budgets=BUDGET) as w:
        asking = asyncio.create_task(w.chat())
        while not w.access._turns:
            await asyncio.sleep(0.001)
        asking.cancel()
        await asyncio.gather(asking, return_exceptions=True)
        while w.access._turns:
            await asyncio.sleep(0.001)
        gate.set()
        [closed] = await w.closings(1)
        assert (closed.turn, closed.charged_tokens) == (ledger.opened[0].turn, 0)
        assert w.used() == 0


@pytest.mark.usefixtures("virtual_time")
async def test_a_client_that_stops_reading_is_cut(tmp_path: Path) -> None:
    """It would pin a GPU's slot and a reservation for good: after `write_seconds` it is gone."""
    async with world(tmp_path, budgets=BUDGET, config=gateway_config(write_seconds=0.2)) as w:
        w.stub.words = ["x" * 100_000] * 200
        response = await w.http.post(
            w.url + "/v1/chat/completions",
            json={"model": "tiny", "messages": [], "stream": True},
            headers=w.headers(),
        )
        [closed] = await w.closings(1)
        assert closed.outcome is Outcome.CUT
        assert "read nothing" in closed.reason
        await w.stub.hung_up.wait()
        response.close()
        await quiet(w)


@pytest.mark.parametrize("path", PATHS)
async def test_an_upstream_that_ends_too_soon_is_no_silent_truncation(tmp_path: Path, path: str) -> None:
    """Clients take a bare end of file for the end of the answer; they are told that it is not."""
    async with world(tmp_path) as w:
        w.stub.gives_usage, w.stub.ends = False, False
        _, _, body = await w.post(path, stream=True)
        assert b"without the end of the answer" in body
        [closed] = await w.closings(1)
        assert (closed.outcome, closed.output_tokens) == (Outcome.FAILED, len(w.stub.words))


@pytest.mark.usefixtures("virtual_time")
async def test_an_upstream_that_falls_silent_is_given_up(tmp_path: Path) -> None:
    """After `idle_seconds` without a byte the client hears of it and the turn is closed."""
    async with world(tmp_path, config=gateway_config(idle_seconds=0.2)) as w:
        w.stub.gate, w.stub.words_before_gate = asyncio.Event(), 1
        _, _, body = await w.chat(stream=True)
        assert b"upstream stub broke off" in body
        assert body.endswith(b"data: [DONE]\n\n")
        [closed] = await w.closings(1)
        assert (closed.outcome, closed.output_tokens) == (Outcome.FAILED, 1)


async def test_stopping_ends_streams_properly_and_closes_every_turn(tmp_path: Path) -> None:
    """The daemon leaves no turn open that it could close."""
    async with world(tmp_path, budgets=BUDGET) as w:
        w.stub.gate, w.stub.words_before_gate = asyncio.Event(), 2
        asking = asyncio.create_task(w.chat(stream=True))
        while not any(turn.meter is not None and turn.meter.chunks == 2 for turn in w.in_flight()):
            await asyncio.sleep(0.001)
        await w.gateway.stop()
        _, _, body = await asking
        assert b"gateway_stopping" in body
        assert [turn.outcome for turn in w.ledger.closed] == [Outcome.CUT]


async def test_an_upstream_on_a_unix_socket(tmp_path: Path) -> None:
    """Where only epad may reach the model server."""
    async with world(tmp_path) as w:
        directory = Path(tempfile.mkdtemp())
        runner = web.ServerRunner(web.Server(w.stub.handle, access_log=None))
        await runner.setup()
        await web.UnixSite(runner, str(directory / "s")).start()
        (tmp_path / "second").mkdir()
        upstreams = {"u": UpstreamConfig(url=f"unix:{directory}/s", dialects=("ollama",))}
        async with world(tmp_path / "second", upstreams=upstreams) as second:
            status, _, body = await second.post("/api/chat")
            assert (status, body) == (200, w.stub.sent)
        await runner.cleanup()
        shutil.rmtree(directory)
