"""PyRIT on the stub: one prompt an attack, in-memory database. `python _wargame_peer_pyrit.py URL IN_FLIGHT NUMBER`."""

from __future__ import annotations

import asyncio
import json
import resource
import sys
import time

from pyrit.executor.attack import AttackExecutor, PromptSendingAttack
from pyrit.prompt_target import OpenAIChatTarget
from pyrit.setup import IN_MEMORY, initialize_pyrit_async

URL, IN_FLIGHT, NUMBER = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])


async def main() -> None:
    await initialize_pyrit_async(memory_db_type=IN_MEMORY)
    attack = PromptSendingAttack(
        objective_target=OpenAIChatTarget(endpoint=URL, api_key="unused", model_name="bench")
    )
    executor = AttackExecutor(max_concurrency=IN_FLIGHT)
    await executor.execute_attack_async(attack=attack, objectives=["warm up"])
    cpu, began = time.process_time(), time.perf_counter()
    await executor.execute_attack_async(attack=attack, objectives=[f"question {n}" for n in range(NUMBER)])
    elapsed, spent = time.perf_counter() - began, time.process_time() - cpu
    rss = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(json.dumps({"per_second": NUMBER / elapsed, "cpu_ms": 1e3 * spent / NUMBER, "rss_mb": rss}))


asyncio.run(main())
