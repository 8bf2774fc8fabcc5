"""Idempotency-Key: what was paid for is given again, what is under way is joined, and nobody reads another's."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from gateway_world import World, gateway_config, world
from patience import PATIENCE_SECONDS

from epad.configuration.schema import BudgetConfig
from epad.gateway.budget import Reservation
from epad.gateway.idempotency import ANSWER_SCHEMA, Answers, Claim, KeptAnswer, KeyReusedError
from epad.storage.database import Database
from statemachine.clock import ManualClock
from statemachine.containment import Rung

BUDGETS = {name: BudgetConfig(tokens_per_day=100_000) for name in ("writer", "reader")}
PATH = "/v1/chat/completions"


@asynccontextmanager
async def remembering(directory: Path) -> AsyncIterator[World]:
    """A gateway that keeps answers."""
    database = Database(directory / "answers.db", ANSWER_SCHEMA)
    await database.open()
    async with world(directory, budgets=BUDGETS) as w:
        answers = Answers(database, gateway_config(), w.clock)
        w.put(answers=answers)
        yield w
    await database.close()


async def ask(w: World, key: str, name: str = "writer", path: str = PATH, **fields: Any) -> Any:
    body = {"model": "tiny", "messages": [{"role": "user", "content": "hello"}], **fields}
    headers = {**w.headers(name), "Idempotency-Key": key}
    async with w.http.post(w.url + path, json=body, headers=headers) as response:
        return response.status, response.headers.copy(), await response.read()


@pytest.mark.parametrize("path", [PATH, "/api/chat"])
@pytest.mark.parametrize("stream", [False, True])
async def test_a_closed_turn_is_given_again_byte_for_byte_at_no_cost(
    tmp_path: Path, path: str, stream: bool
) -> None:
    """The same body and type, the turn that was paid for, and nothing in ledger, budget or upstream."""
    async with remembering(tmp_path) as w:
        first = await ask(w, "k", path=path, stream=stream)
        used = w.gateway.spent("writer")["tokens_per_day"].used
        again = await ask(w, "k", path=path, stream=stream)
        assert (first[0], again[0], again[2]) == (200, 200, first[2])
        assert again[1]["Content-Type"] == first[1]["Content-Type"]
        assert again[1]["x-epad-turn"] == first[1]["x-epad-turn"] == w.ledger.opened[0].turn
        assert (first[1].get("idempotent-replayed"), again[1]["idempotent-replayed"]) == (None, "true")
        assert (len(w.stub.requests), len(w.ledger.opened), used) == (1, 1, 12)
        assert w.gateway.spent("writer")["tokens_per_day"].used == used


async def test_a_turn_under_way_is_joined_not_doubled(tmp_path: Path) -> None:
    """Ten at once are one turn."""
    async with remembering(tmp_path) as w:
        w.stub.gate = asyncio.Event()
        asking = [asyncio.create_task(ask(w, "k")) for _ in range(10)]
        await w.stub.arrived.wait()
        await asyncio.sleep(0.05)
        w.stub.gate.set()
        answers = await asyncio.gather(*asking)
        assert {status for status, _, _ in answers} == {200}
        assert len({body for _, _, body in answers}) == 1
        assert len(w.stub.requests) == len(w.ledger.opened) == 1


@pytest.mark.parametrize("stream", [False, True])
async def test_a_client_that_hangs_up_with_its_whole_answer_finds_it_kept(
    tmp_path: Path, stream: bool
) -> None:
    """Before the disk had it, as the replay's own client does: what was paid for once is not paid for again."""
    disk = threading.Event()
    async with remembering(tmp_path) as w, aiohttp.ClientSession() as hasty:
        w.stub.gate = asyncio.Event()
        asking = asyncio.ensure_future(ask(replace(w, http=hasty), "k", stream=stream))
        await w.stub.arrived.wait()
        answers = w.gateway._parts.answers
        assert answers is not None
        stuck = asyncio.ensure_future(answers._database.read(lambda _: disk.wait(20)))
        w.stub.gate.set()
        first = await asking
        await hasty.close()
        async with asyncio.timeout(PATIENCE_SECONDS):
            while w.gateway._server.shared.connections:
                await asyncio.sleep(0.01)
        disk.set()
        assert await stuck
        again = await ask(w, "k", stream=stream)
        assert (first[0], again[2]) == (200, first[2])
        assert (len(w.stub.requests), len(w.ledger.opened)) == (1, 1)


@pytest.mark.parametrize("status", [500, 307, 202])
async def test_a_turn_that_came_to_nothing_is_made_by_the_next(tmp_path: Path, status: int) -> None:
    """An error is no answer, nor is a redirect: it is not kept, and the key is free to be used again."""
    async with remembering(tmp_path) as w:
        w.stub.status = status
        assert (await ask(w, "k"))[0] == status
        w.stub.status = 200
        assert (await ask(w, "k"))[0] == 200
        assert len(w.stub.requests) == 2


async def test_the_same_key_with_another_request_is_refused_for_good(tmp_path: Path) -> None:
    """422, which no client repeats; while under way, when kept, and on another route alike."""
    async with remembering(tmp_path) as w:
        w.stub.gate = asyncio.Event()
        first = asyncio.create_task(ask(w, "k"))
        await w.stub.arrived.wait()
        during = await ask(w, "k", temperature=1)
        w.stub.gate.set()
        assert (await first)[0] == 200
        after, elsewhere = await ask(w, "k", temperature=1), await ask(w, "k", path="/api/chat")
        for status, headers, _ in (during, after, elsewhere):
            assert (status, headers["x-should-retry"]) == (422, "false")
        error = json.loads(after[2])["error"]
        assert error["code"] == "idempotency_key_reused"
        assert "'k'" in error["message"]
        assert len(w.stub.requests) == 1


async def test_a_key_is_its_subsystems_own_and_a_held_one_gets_nothing(tmp_path: Path) -> None:
    """No one reads another's answers with a guessed key; a quarantine closes replays too."""
    async with remembering(tmp_path) as w:
        await ask(w, "k")
        _, headers, _ = await ask(w, "k", name="reader")
        assert "idempotent-replayed" not in headers
        assert len(w.stub.requests) == 2
        w.access.hold("writer", Rung.BLOCK, "it loops")
        assert (await ask(w, "k"))[0] == 403


async def test_a_spent_budget_keeps_no_one_from_what_was_paid_for(tmp_path: Path) -> None:
    """The kept answer is given; a new one is refused."""
    async with remembering(tmp_path) as w:
        first = await ask(w, "k")
        now = w.clock.monotonic()
        left = 100_000 - w.gateway.spent("writer")["tokens_per_day"].used
        reservation = w.budgets.reserve("writer", left, now)
        assert isinstance(reservation, Reservation)
        w.budgets.settle(reservation, left, now)
        assert (await ask(w, "k"))[2] == first[2]
        assert (await ask(w, "other"))[0] == 429
        assert len(w.stub.requests) == 1


async def test_answers_are_bounded_in_age_and_in_bytes(tmp_path: Path) -> None:
    """The oldest go first, and one too large is not kept at all; a restart forgets nothing else."""
    clock, claims = ManualClock(), [Claim("writer", str(n), bytes(32)) for n in range(12)]
    database = Database(tmp_path / "answers.db", ANSWER_SCHEMA)
    await database.open()
    config = gateway_config(idempotency_bytes=1_000, idempotency_seconds=60.0)
    answers = Answers(database, config, clock)
    for claim in claims:
        assert await answers.keep(claim, KeptAnswer("t", (), b"x" * 100))
    assert not await answers.keep(claims[0], KeptAnswer("t", (), b"x" * 200))

    async def kept() -> list[str]:
        found = []
        for claim in claims:
            async with Answers(database, config, clock).claim(claim) as answer:
                found += [claim.key] if answer else []
        return found

    assert await kept() == [str(n) for n in range(3, 12)]
    with pytest.raises(KeyReusedError):
        async with answers.claim(replace(claims[-1], request_sha256=bytes(31) + b"1")):
            pass
    clock.advance(61)
    assert await kept() == []
    await database.close()
