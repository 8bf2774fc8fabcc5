"""The hard budget under a burst: not one request, not one token past the limit."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest
from gateway_world import DEFAULT_OUTPUT_TOKENS, TEMPLATE_TOKENS, World, world
from patience import PATIENCE_SECONDS

from epad.configuration.schema import BudgetConfig

REQUESTS = 200
FIT = 10
PATH = "/v1/chat/completions"
BODY = b'{"model":"tiny","messages":[{"role":"user","content":"hello"}],"stream":%s}'


async def burst(w: World, path: str, body: bytes) -> list[int]:
    """Ask all at once; the upstream answers none before the gateway has decided about every one."""
    w.stub.gate = asyncio.Event()

    async def ask() -> int:
        async with w.http.post(w.url + path, data=body, headers=w.headers()) as response:
            await response.read()
            return response.status

    asking = [asyncio.create_task(ask()) for _ in range(REQUESTS)]
    async with asyncio.timeout(PATIENCE_SECONDS):
        while len(w.stub.requests) + len(w.recorder.refusals) < REQUESTS:
            await asyncio.sleep(0.005)
    w.stub.gate.set()
    return await asyncio.gather(*asking)


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/api/chat"])
@pytest.mark.parametrize("stream", [b"false", b"true"])
async def test_a_burst_on_a_budget_for_ten_forwards_exactly_ten(
    tmp_path: Path, path: str, stream: bytes
) -> None:
    """No max_tokens, the upstream takes all it may: ten are forwarded, and the limit is met to the token."""
    body = BODY % stream
    worst = len(body) + TEMPLATE_TOKENS + DEFAULT_OUTPUT_TOKENS
    limit = FIT * worst + len(body) + TEMPLATE_TOKENS
    budgets = {"writer": BudgetConfig(tokens_per_minute=limit, max_in_flight=1_000)}
    async with world(tmp_path, budgets=budgets) as w:
        w.stub.input_tokens, w.stub.output_tokens = worst - DEFAULT_OUTPUT_TOKENS, DEFAULT_OUTPUT_TOKENS
        statuses = await burst(w, path, body)
        assert statuses.count(200) == len(w.stub.requests) == FIT
        assert statuses.count(429) == REQUESTS - FIT
        closed = await w.closings(FIT)
        assert sum(turn.charged_tokens for turn in closed) == w.used() == FIT * worst <= limit
        assert {event.code for event in w.recorder.refusals} == {"budget_exceeded"}


async def test_what_is_not_used_comes_back(tmp_path: Path) -> None:
    """Reservations are worst cases; settled, they make room for as many again as really fit."""
    body = BODY % b"false"
    worst = len(body) + TEMPLATE_TOKENS + DEFAULT_OUTPUT_TOKENS
    budgets = {"writer": BudgetConfig(tokens_per_minute=FIT * worst, max_in_flight=1_000)}
    async with world(tmp_path, budgets=budgets) as w:
        first = await burst(w, "/v1/chat/completions", body)
        assert (first.count(200), w.used()) == (FIT, FIT * 12)
        w.stub.requests.clear()
        w.recorder.refusals.clear()
        second = await burst(w, "/v1/chat/completions", body)
        fit = (FIT * worst - FIT * 12) // worst
        assert (second.count(200), w.used()) == (fit, (FIT + fit) * 12)


async def test_turns_in_flight_are_capped_in_a_burst(tmp_path: Path) -> None:
    """A fan-out beyond the cap is refused at once, whatever the budget would allow."""
    async with world(tmp_path, budgets={"writer": BudgetConfig(max_in_flight=8)}) as w:
        statuses = await burst(w, "/v1/chat/completions", BODY % b"true")
        assert (statuses.count(200), statuses.count(429)) == (8, REQUESTS - 8)
        assert {event.code for event in w.recorder.refusals} == {"too_many_in_flight"}


async def test_streams_that_are_left_before_their_usage_do_not_overshoot(tmp_path: Path) -> None:
    """Sixty tokens a chunk, as with speculative decoding, and a client that hangs up each time: the limit holds."""
    limit, made, prompt = 3_000, 0, 7
    async with world(tmp_path, budgets={"writer": BudgetConfig(tokens_per_minute=limit)}) as w:
        w.stub.input_tokens = prompt
        w.stub.words, w.stub.words_before_gate, w.stub.gate = ["word " * 60] * 4, 4, asyncio.Event()
        while True:
            body = json.loads(BODY % b"true") | {"max_tokens": 300}
            async with w.http.post(w.url + PATH, json=body, headers=w.headers()) as response:
                if response.status != 200:
                    break
                read = b""
                while read.count(b"data:") < 4:
                    read += await response.content.readany()
            made += prompt + 4 * 60
            await w.closings(len(w.stub.requests))
        assert made >= limit // 2
        assert made <= w.used() <= limit
