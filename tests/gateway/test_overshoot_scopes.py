"""Overshoot is 0 exactly: a thousand at once, in tokens and money, two dialects, an upstream that lies."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
from gateway_world import DEFAULT_OUTPUT_TOKENS, TEMPLATE_TOKENS, World, gateway_config, world
from patience import PATIENCE_SECONDS

from epad.configuration.schema import BudgetConfig, PriceConfig, SharedBudgetConfig, UpstreamConfig
from epad.gateway.admission import Admission
from epad.gateway.budget import Budgets, Reservation, SharedBudgets, Spend
from epad.gateway.costs import COST_SCHEMA, CostBook
from epad.gateway.money import Prices
from epad.storage.database import Database
from statemachine.clock import ManualClock
from statemachine.finding import Finding, Severity

REQUESTS = 1_000
FIT = 10
BODY = b'{"model":"tiny","messages":[{"role":"user","content":"hello"}],"stream":%s}'
# More than any system prompt of a model's own: that would be learnt, and nobody stopped for it.
COUNTED = 50_000
WORST = len(BODY % b"false") + TEMPLATE_TOKENS + DEFAULT_OUTPUT_TOKENS
OPENAI, OLLAMA = "/v1/chat/completions", "/api/chat"
PRICE = PriceConfig(input=2.5, output=10.0)
WORST_MICROUSD = -(-((WORST - DEFAULT_OUTPUT_TOKENS) * 25 + DEFAULT_OUTPUT_TOKENS * 100) // 10)


async def burst(w: World, asks: list[tuple[str, str, bytes]]) -> list[int]:
    """Ask all at once; the upstream answers none before the gateway has decided about every one."""
    w.stub.gate = asyncio.Event()

    async def ask(name: str, path: str, body: bytes) -> int:
        async with w.http.post(w.url + path, data=body, headers=w.headers(name)) as response:
            await response.read()
            return response.status

    asking = [asyncio.create_task(ask(*each)) for each in asks]
    async with asyncio.timeout(PATIENCE_SECONDS):
        while len(w.stub.requests) + len(w.recorder.refusals) < len(asks):
            await asyncio.sleep(0.005)
    w.stub.gate.set()
    return await asyncio.gather(*asking)


def extended(w: World, **parts: Any) -> None:
    """Give a running gateway other parts."""
    w.put(**parts)
    w.gateway._turns.admission = Admission(w.gateway._parts.budgets, w.access, w.clock, 0.0)


async def test_a_thousand_at_once_in_two_dialects_on_a_groups_budget_for_ten(tmp_path: Path) -> None:
    """Two subsystems of one group, plain and streamed: ten are forwarded, whoever they are."""
    limits = {name: BudgetConfig(max_in_flight=1_000) for name in ("writer", "reader")}
    team = SharedBudgetConfig(tokens_per_day=FIT * WORST + WORST - DEFAULT_OUTPUT_TOKENS)
    shared = SharedBudgets({"team": team}, dict.fromkeys(limits, "team"), SharedBudgetConfig())
    async with world(tmp_path, budgets=limits) as w:
        extended(w, budgets=Budgets(limits, 10_000, shared))
        w.stub.input_tokens, w.stub.output_tokens = WORST - DEFAULT_OUTPUT_TOKENS, DEFAULT_OUTPUT_TOKENS
        names, paths, streams = ("writer", "reader"), (OPENAI, OLLAMA), (b"false", b" true")
        asks = [(names[n % 2], paths[n // 2 % 2], BODY % streams[n // 4 % 2]) for n in range(REQUESTS)]
        statuses = await burst(w, asks)
        assert statuses.count(200) == len(w.stub.requests) == FIT
        assert statuses.count(429) == REQUESTS - FIT
        usage = w.gateway.spent("group:team")["tokens_per_day"]
        assert usage.used == FIT * WORST <= usage.limit


async def test_a_thousand_at_once_on_a_budget_of_money_for_ten(tmp_path: Path) -> None:
    """Not a micro-USD past it; and what the cached tokens saved makes room again."""
    prompt_microusd = -(-(WORST - DEFAULT_OUTPUT_TOKENS) * 25 // 10)
    usd = (FIT * WORST_MICROUSD + prompt_microusd) / 1e6
    limits = {"writer": BudgetConfig(usd_per_day=usd, max_in_flight=1_000)}
    database = Database(tmp_path / "costs.db", COST_SCHEMA)
    await database.open()
    async with world(tmp_path, budgets=limits) as w:
        extended(w, prices=Prices({"tiny": PRICE}), costs=CostBook(database, w.clock))
        w.stub.input_tokens, w.stub.output_tokens = WORST - DEFAULT_OUTPUT_TOKENS, DEFAULT_OUTPUT_TOKENS
        statuses = await burst(w, [("writer", OPENAI, BODY % b"false")] * REQUESTS)
        assert statuses.count(200) == len(w.stub.requests) == FIT
        usage = w.gateway.spent("writer")["microusd_per_day"]
        assert usage.used == FIT * WORST_MICROUSD <= usage.limit
        await w.closings(FIT)
        await w.gateway._turns.drain()
        assert sum(cost.microusd for cost in await CostBook(database, w.clock).load()) == usage.used
    await database.close()


async def test_the_refusal_of_money_speaks_of_money(tmp_path: Path) -> None:
    """Dollars in the message, micro-USD in the figures, the key of the configuration by its name."""
    limits = {"writer": BudgetConfig(usd_per_day=0.000_1)}
    async with world(tmp_path, budgets=limits) as w:
        extended(w, prices=Prices({"tiny": PRICE}))
        status, _, body = await w.chat()
        error = json.loads(body)["error"]
        assert (status, error["code"], error["budget"]["limit"]) == (
            400,
            "request_exceeds_budget",
            "microusd_per_day",
        )
        assert "of $0.000100 used (writer usd_per_day)" in error["message"]


async def test_a_model_without_a_price_is_refused_where_money_counts_unless_it_is_free(
    tmp_path: Path,
) -> None:
    """Unknown is not nothing; an upstream marked free is; and who has no budget in money may ask anyone."""
    limits = {"writer": BudgetConfig(usd_per_day=5.0), "reader": BudgetConfig()}
    async with world(tmp_path, budgets=limits) as w:
        status, headers, body = await w.chat()
        assert (status, json.loads(body)["error"]["code"]) == (403, "model_not_priced")
        assert headers["x-should-retry"] == "false"
        assert w.stub.requests == []
        assert (await w.chat("reader"))[0] == 200
        base = w.gateway._parts.upstreams.of("openai")[0].base
        (tmp_path / "free").mkdir()
        upstreams = {"local": UpstreamConfig(url=base, dialects=("openai",), free=True)}
        async with world(tmp_path / "free", budgets=limits, upstreams=upstreams) as free:
            assert (await free.chat())[0] == 200
            assert free.gateway.spent("writer")["microusd_per_day"].used == 0


@pytest.mark.parametrize("path", [OPENAI, OLLAMA])
async def test_a_prompt_cannot_be_counted_too_low_since_every_byte_is_a_token(
    tmp_path: Path, path: str
) -> None:
    """Four bytes a character, one token a byte: sixteen times a count of four characters a token, and within."""
    text = "\U0001f600" * 200
    async with world(tmp_path, budgets={"writer": BudgetConfig(tokens_per_day=100_000)}) as w:
        w.stub.input_tokens = len(text.encode())
        fields = {"model": "tiny", "messages": [{"role": "user", "content": text}], "stream": False}
        body = json.dumps({**fields, "max_tokens": 5, "options": {"num_predict": 5}}, ensure_ascii=False)
        async with w.http.post(w.url + path, data=body.encode(), headers=w.headers()) as response:
            assert response.status == 200
        [opened], [closed] = w.ledger.opened, await w.closings(1)
        assert closed.input_tokens >= 10 * (len(text) // 4)
        assert closed.charged_tokens <= opened.reserved_tokens
        assert w.budgets.overrun("writer") is None


@pytest.mark.parametrize("stream", [False, True])
async def test_an_upstream_that_counts_more_than_possible_is_recorded_told_and_stops_its_subsystem(
    tmp_path: Path, stream: bool
) -> None:
    """Far beyond the bound: charged in full, one finding with the evidence, nothing more until someone has looked."""
    limits = {name: BudgetConfig(tokens_per_day=100_000) for name in ("writer", "reader")}
    findings: list[Finding] = []
    async with world(tmp_path, budgets=limits) as w:
        extended(w, alarm=findings.append)
        w.stub.input_tokens = COUNTED
        assert (await w.chat(stream=stream))[0] == 200
        [closed] = await w.closings(1)
        assert closed.charged_tokens == COUNTED + 5 == w.gateway.spent("writer")["tokens_per_day"].used
        [finding] = findings
        assert (finding.probe, finding.subsystem, finding.severity, finding.hard) == (
            "overrun",
            "writer",
            Severity.ANOMALY,
            True,
        )
        assert finding.evidence["turn"] == closed.turn
        w.stub.input_tokens = 7
        status, _, body = await w.chat()
        assert (status, json.loads(body)["error"]["code"]) == (403, "reservation_overrun")
        assert (await w.chat("reader"))[0] == 200
        w.budgets.forget("writer")
        assert (await w.chat())[0] == 200


async def test_a_spent_budget_is_refused_before_the_body_is_read(tmp_path: Path) -> None:
    """No body can be small enough, so none is waited for."""
    async with world(tmp_path, budgets={"writer": BudgetConfig(tokens_per_minute=1_000)}) as w:
        held = w.budgets.reserve("writer", 1_000, w.clock.monotonic())
        assert isinstance(held, Reservation)
        w.budgets.settle(held, 1_000, w.clock.monotonic())
        host, port = w.url.removeprefix("http://").split(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        key = w.keys["writer"]
        writer.write(
            f"POST {OPENAI} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {key}\r\nContent-Length: 9999\r\n\r\n".encode()
        )
        async with asyncio.timeout(PATIENCE_SECONDS):
            assert (await reader.readline()).startswith(b"HTTP/1.1 429")
        writer.close()


async def test_what_a_crash_left_open_costs_its_reservation_after_the_restart(tmp_path: Path) -> None:
    """In money too; and what has left every window is still in the sum over all time."""
    clock = ManualClock()
    database = Database(tmp_path / "state.db", COST_SCHEMA)
    await database.open()
    book = CostBook(database, clock)
    await book.open("1", "writer", 500)
    await book.close("1", 120)
    clock.advance(40 * 86_400)
    await book.open("2", "writer", 700)
    for _ in range(2):  # loading twice counts nothing twice
        costs = await CostBook(database, clock).load()
        assert sorted((cost.microusd, cost.wall_ns > 0) for cost in costs) == [(120, False), (700, True)]
    now_ns = clock.utc().timestamp() * 1e9
    budgets = Budgets({"writer": BudgetConfig(usd_per_month=1.0, usd_in_all=1.0)}, 9)
    spends = [Spend(c.subsystem, 0, (now_ns - c.wall_ns) / 1e9, c.microusd, requests=0) for c in costs]
    budgets.restore(spends, clock.monotonic())
    used = {limit: usage.used for limit, usage in budgets.snapshot("writer", clock.monotonic()).items()}
    assert used == {"microusd_per_month": 700, "microusd_in_all": 820}
    await database.close()


async def test_requests_a_minute_are_capped_and_the_wait_is_told(tmp_path: Path) -> None:
    """429 with a Retry-After that is true."""
    limits = {"writer": BudgetConfig(requests_per_minute=2)}
    async with world(tmp_path, budgets=limits, config=gateway_config()) as w:
        assert [(await w.chat())[0] for _ in range(3)] == [200, 200, 429]
        _, headers, body = await w.chat()
        assert json.loads(body)["error"]["code"] == "too_many_requests"
        w.clock.advance(int(headers["Retry-After"]) + 1)
        assert (await w.chat())[0] == 200
