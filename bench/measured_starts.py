"""What it costs to digest what an agent is at its start: the child's processor time, beside reading every file.

`python bench/measured_starts.py [--quick] [--json FILE]`. The agents are scripts for the environment that this runs in;
`openai` is there with what it needs. The peer is `sha256sum` over the same files, by the same account of the kernel.
"""

from __future__ import annotations

import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import msgspec
from _harness import Row, run

from runners.measure.request import Measured, Start

COMMAND = "python bench/measured_starts.py"
STARTS, QUICK_STARTS = 20, 5
GOAL_MS = 500.0
_ROOT = Path(__file__).parents[1]
AGENTS = {"of the standard library alone": "import json, os", "of the openai package": "import openai"}


def spent(*command: object, text: bytes = b"") -> tuple[float, bytes]:
    """The processor time of a command, in milliseconds, and what it printed."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    environment = {**os.environ, "PYTHONPATH": str(_ROOT)}
    words = [str(word) for word in command]
    done = subprocess.run(words, input=text, stdout=subprocess.PIPE, check=True, env=environment)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return 1_000 * (after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime), done.stdout


def measure(quick: bool) -> Sequence[Row]:
    """Start each agent often; the first start has nothing to compare with."""
    rows: list[Row] = []
    for agent, script in AGENTS.items():
        with tempfile.TemporaryDirectory() as folder:
            rows += of_agent(Path(folder), agent, script, QUICK_STARTS if quick else STARTS)
    return rows


def of_agent(folder: Path, agent: str, script: str, starts: int) -> list[Row]:
    """The rows of one agent."""
    (folder / "agent.py").write_text(script)
    kept = folder / "kept.json"
    start = msgspec.json.encode(Start((sys.executable, "agent.py"), str(folder))).decode()
    took, told = [], Measured("", 0, is_first=True)
    for _ in range(starts + 1):
        milliseconds, printed = spent(sys.executable, "-P", "-m", "runners.measure", start, kept, kept)
        told = msgspec.json.decode(printed, type=Measured)
        took.append(milliseconds)
    files = [path for path, part in json.loads(kept.read_bytes())["parts"].items() if part[2] is not None]
    read = spent("xargs", "-0", "sha256sum", text="\0".join(files).encode())[0]
    (folder / "agent.py").write_text(f"{script}\n")
    _, printed = spent(sys.executable, "-P", "-m", "runners.measure", start, kept, kept)
    planted = msgspec.json.decode(printed, type=Measured).changed
    later, same = statistics.median(took[1:]), told.changed
    peers = {"sha256sum over the same files": read, "files": float(told.parts)}
    claim = f"processor time of a start's measurement, of an agent {agent}"
    return [
        Row(f"{claim}: the first", took[0], "ms", "", None, peers, 1, COMMAND),
        Row(f"{claim}: a later one", later, "ms", f"<= {GOAL_MS:g}", later <= GOAL_MS, peers, starts, COMMAND),
        Row(f"changes seen where nothing has changed, {agent}", same, "parts", "0", not same, {}, starts, COMMAND),
        Row(f"changes seen of one that was planted, {agent}", planted, "parts", "1", planted == 1, {}, 1, COMMAND),
    ]  # fmt: skip


if __name__ == "__main__":
    sys.exit(run("measured_starts", measure))
