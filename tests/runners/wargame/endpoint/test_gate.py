"""Places in flight are given in turn, taken back after anything, and batched by model where models are swapped."""

from __future__ import annotations

import asyncio
import itertools

from runners.wargame.endpoint.gate import BATCH, Gate


async def hold(gate: Gate, lane: str, model: str, order: list[str], release: asyncio.Event) -> None:
    key = await gate.enter(lane, model)
    order.append(f"{lane}/{model}")
    try:
        await release.wait()
    finally:
        gate.leave(key)


async def all_waiting(calls: list[tuple[Gate, str, str, list[str]]]) -> None:
    """Let every call ask for its place before the first of them is done."""
    release = asyncio.Event()
    tasks = [asyncio.create_task(hold(*call, release)) for call in calls]
    await settle()
    release.set()
    await asyncio.gather(*tasks)


async def settle() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


async def test_attackers_do_not_wait_behind_all_defenders() -> None:
    """Ten judges are waiting; the next scenario is written after one of them, not after ten."""
    gate, release = Gate(lambda: 1), asyncio.Event()
    order: list[str] = []
    tasks = [asyncio.create_task(hold(gate, "defender", "d", order, release)) for _ in range(10)]
    await settle()
    tasks.append(asyncio.create_task(hold(gate, "attacker", "a", order, release)))
    await settle()
    release.set()
    await asyncio.gather(*tasks)
    assert order.index("attacker/a") <= 2
    assert gate.in_flight == gate.waiting == 0


async def test_the_limit_may_change_while_calls_wait() -> None:
    """It is asked each time a place becomes free."""
    limit = 1
    gate, release = Gate(lambda: limit), asyncio.Event()
    order: list[str] = []
    tasks = [asyncio.create_task(hold(gate, "defender", "d", order, release)) for _ in range(6)]
    await settle()
    assert gate.in_flight == 1
    limit = 4
    first = asyncio.create_task(hold(gate, "defender", "d", order, release))
    await settle()
    assert gate.in_flight == 4
    release.set()
    await asyncio.gather(first, *tasks)


async def test_a_call_that_is_cancelled_gives_its_place_back() -> None:
    """While it waits, and in the very moment in which it is let in."""
    gate, release = Gate(lambda: 1), asyncio.Event()
    order: list[str] = []
    first = asyncio.create_task(hold(gate, "defender", "d", order, release))
    waiting = asyncio.create_task(hold(gate, "defender", "d", order, release))
    await settle()
    waiting.cancel()
    await settle()
    assert gate.waiting == 0
    admitted = asyncio.create_task(hold(gate, "defender", "d", order, release))
    await settle()
    release.set()
    first.cancel()
    admitted.cancel()
    await asyncio.gather(first, waiting, admitted, return_exceptions=True)
    await settle()
    assert gate.in_flight == gate.waiting == 0


async def test_calls_are_batched_by_model_where_one_model_is_loaded() -> None:
    """Five models asked in turn: one model's calls go out together, and there are five changes, not fifty."""
    gate = Gate(lambda: 2, loaded_models=1)
    order: list[str] = []
    await all_waiting([(gate, "defender", f"m{n % 5}", order) for n in range(50)])
    changes = sum(a != b for a, b in itertools.pairwise(order))
    assert len(order) == 50
    assert changes <= 6


async def test_no_model_waits_for_ever_behind_a_busy_one() -> None:
    """After a batch the others have their turn, however much the busy one still has to ask."""
    gate = Gate(lambda: 1, loaded_models=1)
    order: list[str] = []
    calls = [(gate, "defender", "busy", order)] * 5 * BATCH + [(gate, "defender", "rare", order)] * 3
    await all_waiting(calls)
    assert order.index("defender/rare") <= BATCH + 1
    assert len(order) == 5 * BATCH + 3
