"""inspect_ai on the stub, a generation a sample: `_wargame_peer_inspect.py URL IN_FLIGHT NUMBER` prints JSON."""

# ruff: noqa: E402 - the environment must be set before the library is imported

from __future__ import annotations

import json
import os
import resource
import sys
import tempfile
import time

URL, IN_FLIGHT, NUMBER = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
os.environ |= {"OPENAI_API_KEY": "unused", "OPENAI_BASE_URL": URL}

from inspect_ai import Task, eval  # noqa: A004 - the library's name for it
from inspect_ai.dataset import MemoryDataset, Sample
from inspect_ai.solver import generate


def play(number: int, folder: str) -> None:
    task = Task(
        dataset=MemoryDataset([Sample(input=f"question {n}") for n in range(number)]), solver=generate()
    )
    eval(
        task,
        model="openai/bench",
        model_args={"responses_api": False},
        log_dir=folder,
        display="none",
        log_realtime=False,
        max_connections=IN_FLIGHT,
        max_samples=IN_FLIGHT,
        score=False,
    )


with tempfile.TemporaryDirectory() as folder:
    play(4, folder)
    cpu, began = time.process_time(), time.perf_counter()
    play(NUMBER, folder)
    elapsed, spent = time.perf_counter() - began, time.process_time() - cpu
rss = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
print(json.dumps({"per_second": NUMBER / elapsed, "cpu_ms": 1e3 * spent / NUMBER, "rss_mb": rss}))
