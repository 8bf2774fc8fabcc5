"""What passes is what was sent, both ways, on every route; and every route's stream ends in its own words."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from gateway_world import World, world
from model_server import GETS, STREAMS, WHOLES, ModelServer, model_server
from patience import PATIENCE_SECONDS

from epad.configuration.schema import BudgetConfig, UpstreamConfig
from epad.ledger.record import Outcome, UsageSource
from statemachine.containment import Rung

BUDGET = {"writer": BudgetConfig(tokens_per_hour=1_000_000)}
# Documented in docs/dialects.md: what epad adds, and what HTTP has each connection say for itself.
OWN_HEADERS = {"x-epad-turn", "date", "server", "content-length", "transfer-encoding"}


@asynccontextmanager
async def in_front(directory: Path, kind: str = "vllm") -> AsyncIterator[tuple[World, ModelServer, str]]:
    """A gateway before a server of every dialect, and that server's own URL."""
    async with model_server() as (server, direct):
        upstream = UpstreamConfig(
            url=direct, dialects=("openai", "ollama", "anthropic"), context_tokens=8_192, server=kind
        )
        async with world(directory, budgets=BUDGET, upstreams={"real": upstream}) as w:
            yield w, server, direct


def request_for(path: str, **fields: Any) -> dict[str, Any]:
    """A request that needs no edit."""
    prompts: dict[str, dict[str, Any]] = {
        "/v1/completions": {"prompt": "hi", "max_tokens": 50},
        "/v1/embeddings": {"input": ["hi", "there"]},
        "/v1/responses": {"input": "hi", "max_output_tokens": 50},
        "/api/generate": {"prompt": "hi", "options": {"num_predict": 50}},
        "/api/embed": {"input": "hi"},
        "/api/chat": {"messages": [], "options": {"num_predict": 50}},
    }
    return {"model": "tiny", **prompts.get(path, {"messages": [], "max_tokens": 50}), **fields}


async def ask(w: World, url: str, body: Any) -> tuple[int, dict[str, str], bytes]:
    async with w.http.post(url, json=body, headers=w.headers()) as response:
        headers = {k.lower(): v for k, v in response.headers.items() if k.lower() not in OWN_HEADERS}
        return response.status, headers, await response.read()


async def test_the_older_route_of_vectors_counts_nothing_and_costs_its_bound(tmp_path: Path) -> None:
    """Ollama's /api/embeddings: the answer as it was, and the prompt's bound charged."""
    async with in_front(tmp_path) as (w, server, direct):
        body = {"model": "tiny", "prompt": "some words", "options": {"num_predict": 9}}
        path = "/api/embeddings"
        assert await ask(w, w.url + path + "/", body) == await ask(w, direct + path, body)
        assert server.requests[0] == server.requests[1]
        [closed] = await w.closings(1)
        assert (closed.outcome, closed.usage_source) == (Outcome.DONE, UsageSource.COUNTED)
        [opened] = w.ledger.opened
        assert closed.charged_tokens == opened.reserved_tokens > 10


@pytest.mark.parametrize(
    "path", ["/v1/models", "/api/tags", "/api/ps", "/api/version", "/models", "/v1/models/tiny"]
)
async def test_the_head_of_a_look_up_is_that_of_its_answer(tmp_path: Path, path: str) -> None:
    async with in_front(tmp_path) as (w, _, _), w.http.head(w.url + path, headers=w.headers()) as head:
        async with w.http.get(w.url + path, headers=w.headers()) as answer:
            body = await answer.read()
        assert (head.status, await head.read(), int(head.headers["Content-Length"])) == (200, b"", len(body))


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("path", WHOLES)
async def test_an_answer_is_byte_for_byte_the_one_had_directly(
    tmp_path: Path, path: str, stream: bool
) -> None:
    """Status, headers and body; the usage that epad alone asked for is gone again; 12 tokens are charged."""
    async with in_front(tmp_path) as (w, server, direct):
        body = request_for(path, stream=stream)
        assert await ask(w, w.url + path + "?beta=true", body) == await ask(
            w, direct + path + "?beta=true", body
        )
        through, straight = server.requests
        if not (stream and "completions" in path):
            assert through == straight
        assert server.targets[0] == server.targets[1] == path + "?beta=true"
        [closed] = await w.closings(1)
        assert (closed.outcome, closed.usage_source) == (Outcome.DONE, UsageSource.USAGE)
        assert closed.charged_tokens == (7 if "embed" in path else 12)


@pytest.mark.parametrize("path", GETS)
async def test_a_look_up_of_one_upstream_passes_as_it_came(tmp_path: Path, path: str) -> None:
    """Models, those in memory, the version: no turn, no budget."""
    async with in_front(tmp_path) as (w, _, direct):
        async with (
            w.http.get(w.url + path, headers=w.headers()) as through,
            w.http.get(direct + path) as straight,
        ):
            assert (through.status, await through.read()) == (200, await straight.read())
        assert w.ledger.opened == []


@pytest.mark.parametrize("path", STREAMS)
async def test_every_streams_cut_is_told_and_the_upstream_stopped(tmp_path: Path, path: str) -> None:
    """The dialect's own error and terminator after whole events; what came is charged as counted."""
    async with in_front(tmp_path) as (w, server, _):
        server.gate, server.words_before_gate = asyncio.Event(), 2
        asking = asyncio.create_task(ask(w, w.url + path, request_for(path, stream=True)))
        await counting(w, 2)
        assert w.access.sever("writer") == 1
        status, _, body = await asking
        await server.hung_up.wait()
        assert status == 200
        told, terminator = ending(path, body)
        assert "severed" in told["message"]
        assert terminator
        [closed] = await w.closings(1)
        assert (closed.outcome, closed.output_tokens, closed.usage_source) == (
            Outcome.CUT,
            2,
            UsageSource.COUNTED,
        )


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("path", WHOLES)
async def test_a_client_that_leaves_stops_the_upstream_on_every_route(
    tmp_path: Path, path: str, stream: bool
) -> None:
    """Its connection is closed, whether or not an answer had begun."""
    async with in_front(tmp_path) as (w, server, _):
        server.gate = asyncio.Event()
        asking = asyncio.create_task(ask(w, w.url + path, request_for(path, stream=stream)))
        await server.arrived.wait()
        asking.cancel()
        await asyncio.gather(asking, return_exceptions=True)
        await server.hung_up.wait()
        [closed] = await w.closings(1)
        assert (closed.outcome, closed.reason) == (Outcome.CUT, "the client disconnected")


@pytest.mark.parametrize("path", STREAMS)
async def test_a_stream_beyond_its_cap_is_cut_and_all_of_it_charged(tmp_path: Path, path: str) -> None:
    """An upstream that does not heed the cap: the client is told, the overshoot stands in the ledger."""
    async with in_front(tmp_path) as (w, server, _):
        server.words, server.word_by_word = ["x"] * 2_000, True
        body = request_for(path, stream=True)
        for name in ("max_tokens", "max_output_tokens"):
            body |= {name: 3} if name in body else {}
        body |= {"options": {"num_predict": 3}} if "options" in body else {}
        _, _, answer = await ask(w, w.url + path, body)
        told, _ = ending(path, answer)
        assert "went on beyond the 3 output tokens" in told["message"]
        await server.hung_up.wait()
        [closed] = await w.closings(1)
        assert (closed.outcome, closed.usage_source) == (Outcome.CUT, UsageSource.COUNTED)
        assert 19 < closed.output_tokens < 2_000


@pytest.mark.parametrize("path", STREAMS)
async def test_a_quarantine_that_drains_lets_a_stream_end_as_it_would(tmp_path: Path, path: str) -> None:
    """Held but not severed: what has begun goes on to its own end, and nothing new begins."""
    async with in_front(tmp_path) as (w, server, direct):
        server.gate, server.words_before_gate = asyncio.Event(), 2
        body = request_for(path, stream=True)
        asking = asyncio.create_task(ask(w, w.url + path, body))
        await counting(w, 2)
        w.access.hold("writer", Rung.BLOCK, "it loops")
        assert (await ask(w, w.url + path, body))[0] == 403
        server.gate.set()
        assert await asking == await ask(w, direct + path, body)
        [closed] = await w.closings(1)
        assert (closed.outcome, closed.charged_tokens) == (Outcome.DONE, 12)


@pytest.mark.parametrize("path", STREAMS)
async def test_a_cut_stream_costs_the_most_that_it_can_have_been(tmp_path: Path, path: str) -> None:
    """Several tokens come in a chunk: estimated are the chunks, charged the bytes, of what was reserved."""
    for words, most in ((["ten letter", "s, füünf"], 20), (["x" * 500] * 2, 50)):
        async with in_front(tmp_path) as (w, server, _):
            server.words, server.words_before_gate, server.gate = words, 2, asyncio.Event()
            asking = asyncio.create_task(ask(w, w.url + path, request_for(path, stream=True)))
            await counting(w, 2)
            w.access.sever("writer")
            await asking
            [closed] = await w.closings(1)
            prompt = closed.input_tokens
            assert (closed.output_tokens, closed.charged_tokens - prompt) == (2, most)
            assert w.gateway.spent("writer")["tokens_per_hour"].used == closed.charged_tokens


@pytest.mark.parametrize(("kind", "most"), [("generic", 150), ("vllm", 2 * len("one two"))])
async def test_several_choices_broken_off_cost_the_most_of_all(tmp_path: Path, kind: str, most: int) -> None:
    """All that was reserved, or the bytes of every choice where the server shows all that it makes."""
    async with in_front(tmp_path, kind) as (w, server, _):
        server.gate, server.words_before_gate, server.shown = asyncio.Event(), 4, 2
        server.words = ["one", " two"]
        asking = asyncio.create_task(ask(w, w.url + STREAMS[0], request_for(STREAMS[0], stream=True, n=3)))
        await counting(w, 4)
        w.access.sever("writer")
        await asking
        [closed] = await w.closings(1)
        assert (closed.output_tokens, closed.charged_tokens - closed.input_tokens) == (4, most)


async def test_a_count_given_along_the_way_is_what_a_cut_stream_costs(tmp_path: Path) -> None:
    """Continuous usage, as vLLM gives it: four tokens were counted in seven bytes, and more may have come since."""
    async with in_front(tmp_path) as (w, server, _):
        server.gate, server.words_before_gate = asyncio.Event(), 2
        server.running_usage = {"prompt_tokens": 7, "completion_tokens": 4}
        asking = asyncio.create_task(ask(w, w.url + STREAMS[0], request_for(STREAMS[0], stream=True)))
        await counting(w, 2)
        w.access.sever("writer")
        await asking
        [closed] = await w.closings(1)
        assert (closed.input_tokens, closed.output_tokens, closed.usage_source) == (7, 4, UsageSource.COUNTED)
        assert closed.charged_tokens == 7 + len("one two")


async def test_a_count_beyond_the_cap_cuts_the_stream(tmp_path: Path) -> None:
    """By the upstream's own word more was made than it was allowed: the next chunk is the last."""
    async with in_front(tmp_path) as (w, server, _):
        server.words, server.word_by_word = ["x"] * 2_000, True
        server.running_usage = {"prompt_tokens": 7, "completion_tokens": 51}
        _, _, body = await ask(w, w.url + STREAMS[0], request_for(STREAMS[0], stream=True))
        assert "went on beyond the 50" in ending(STREAMS[0], body)[0]["message"]
        [closed] = await w.closings(1)
        assert (closed.outcome, closed.output_tokens, closed.usage_source) == (
            Outcome.CUT, 51, UsageSource.COUNTED,
        )  # fmt: skip


async def counting(w: World, chunks: int) -> None:
    """Wait until that many chunks have come."""
    async with asyncio.timeout(PATIENCE_SECONDS):
        while not any(turn.meter is not None and turn.meter.chunks >= chunks for turn in w.in_flight()):
            await asyncio.sleep(0.001)


def ending(path: str, body: bytes) -> tuple[dict[str, Any], bool]:
    """The error that a stream ends with, and whether the dialect's end follows it."""
    if path.startswith("/api/"):
        *_, last = body.splitlines()
        return {"message": json.loads(last)["error"]}, body.endswith(b"\n")
    *_, error, end, rest = body.split(b"\n\n")
    assert rest == b""
    if path == "/v1/messages":
        name, data = end.split(b"\n")
        return json.loads(data.removeprefix(b"data: "))["error"], name == b"event: error"
    data = error.splitlines()[-1].removeprefix(b"data: ")
    if path != "/v1/responses":
        return json.loads(data)["error"], end == b"data: [DONE]"
    event, last_event = json.loads(data), json.loads(end.splitlines()[-1].removeprefix(b"data: "))
    assert last_event["sequence_number"] == event["sequence_number"] + 1
    response = last_event["response"]
    assert (response["id"], response["status"]) == ("resp_1", "failed")
    return event, last_event["type"] == "response.failed"
