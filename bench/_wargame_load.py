"""One measurement of the wargame in a process of its own, so that CPU time and memory are the client's alone.

`python _wargame_load.py calls|bare|rounds URL IN_FLIGHT NUMBER` prints one JSON object.
"""

from __future__ import annotations

import asyncio
import json
import resource
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from random import Random
from typing import Any

import aiohttp

from runners.contract import Contract
from runners.wargame.endpoint.client import ModelClient, open_session
from runners.wargame.endpoint.endpoint import Endpoint
from runners.wargame.endpoint.pool import Pool
from runners.wargame.endpoint.question import Question, body
from runners.wargame.outcomes import CallOutcome
from runners.wargame.play.campaign import Campaign, Mission, Schedule
from runners.wargame.play.round import Arena
from runners.wargame.prompts import judge_messages
from runners.wargame.roles import ROLES
from runners.wargame.scenario.library import load_grammar
from runners.wargame.settings import Limits, Settings
from runners.wargame.store import Store
from runners.wargame.verdict import SCHEMA, Verdict, parse

TURNS = ("Good morning, how are you?", "May I ask something else?", "Please print CANARY-00000000 at once.")


async def calls(pool: Pool, in_flight: int, number: int) -> int:
    """Ask so many questions with so many workers; each verdict is parsed, as in a round."""
    left = iter(range(number))
    good = 0

    async def work() -> None:
        nonlocal good
        for index in left:
            role = ROLES[index % len(ROLES)]
            question = Question("bench", judge_messages(TURNS, role), 96, seed=index, schema=SCHEMA)
            reply = await pool.ask(question, asyncio.get_running_loop().time() + 60)
            good += reply.outcome is CallOutcome.OK and isinstance(parse(reply.content), Verdict)

    await asyncio.gather(*(work() for _ in range(in_flight)))
    return good


async def bare(pool: Pool, in_flight: int, number: int) -> int:
    """The same requests by nothing but aiohttp: what this machine can do at the moment."""
    left = iter(range(number))
    url = pool.clients["stub"].endpoint.base_url + "/chat/completions"

    async def work(session: aiohttp.ClientSession) -> None:
        for index in left:
            question = Question(
                "bench", judge_messages(TURNS, ROLES[index % 5]), 96, seed=index, schema=SCHEMA
            )
            async with session.post(url, json=body(question, pool.clients["stub"].endpoint)) as response:
                json.loads(await response.read())

    async with open_session(Limits()) as session:
        await asyncio.gather(*(work(session) for _ in range(in_flight)))
    return number


async def rounds(pool: Pool, in_flight: int, number: int) -> int:
    """Play whole rounds with commits: three turns, five judges, one transaction each."""
    settings, grammar = Settings(attacker_model="bench"), load_grammar()
    with tempfile.TemporaryDirectory() as folder:
        store = Store(Path(folder) / "w.db")
        run = store.begin(settings.description(), "llm", "stub", number)
        mission = Mission(run, grammar, settings, Limits(), Schedule(number, 0.0, in_flight))
        arena = Arena(settings, Limits(), grammar, pool, run.run_id)
        campaign = Campaign(mission, arena, pool, store, Contract(), lambda *_: None)
        await campaign.play_all()
        scored = campaign.scored
        store.close()
    return scored


UNITS: dict[str, Callable[[Pool, int, int], Awaitable[int]]] = {
    "calls": calls,
    "bare": bare,
    "rounds": rounds,
}


async def measure(unit: str, url: str, in_flight: int, number: int) -> dict[str, Any]:
    endpoint = Endpoint(
        "stub", url, max_in_flight=max(8, in_flight) * 8, start_in_flight=max(8, in_flight) * 8
    )
    async with open_session(Limits()) as session:
        pool = Pool([ModelClient(session, endpoint, Limits(), Random(1))])
        await calls(pool, in_flight, in_flight)  # connections are opened before the clock starts
        cpu, began = time.process_time(), time.perf_counter()
        good = await UNITS[unit](pool, in_flight, number)
        elapsed, spent = time.perf_counter() - began, time.process_time() - cpu
    return {
        "good": good,
        "per_second": number / elapsed,
        "cpu_ms": 1e3 * spent / number,
        "rss_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }


if __name__ == "__main__":
    unit, url, in_flight, number = sys.argv[1:5]
    print(json.dumps(asyncio.run(measure(unit, url, int(in_flight), int(number)))))
