"""How near the wargame comes to what a 200 ms endpoint allows, and at what cost, beside tools that do the same.

The limit is in_flight / 0.2 s. A bare aiohttp loop is measured in the same minute: what it misses, the machine lacks.
inspect_ai, PyRIT and garak run in virtual environments of their own and are skipped where those cannot be made.
"""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import venv
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from _gateway_targets import CACHE
from _harness import Row, run

HERE = Path(__file__).parent
LATENCY_SECONDS = 0.2
COMMAND = "python bench/wargame.py"
GOALS = {16: 0.95, 64: 0.90, 256: 0.85}
CPU_GOAL_MS = 0.5
RSS_GOAL_MB = 120.0
PEERS = {"inspect_ai": ("inspect_ai", "openai"), "pyrit": ("pyrit",), "garak": ("garak",)}
PEER_TIMEOUT_SECONDS = 240.0
INSTALL_TIMEOUT_SECONDS = 900.0


@contextlib.contextmanager
def stub(milliseconds: float) -> Iterator[str]:
    """The endpoint, in a process of its own."""
    command = [sys.executable, HERE / "_wargame_stub.py", "0", str(milliseconds)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        try:
            yield f"http://127.0.0.1:{server.stdout.readline().strip()}/v1"
        finally:
            server.kill()


def measured(python: str | Path, script: str, *arguments: object) -> dict[str, Any] | str:
    """Run one measurement; what it printed last, or why there is nothing."""
    command = [python, HERE / script, *map(str, arguments)]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=PEER_TIMEOUT_SECONDS, check=False
        )
    except subprocess.TimeoutExpired:
        return f"not finished in {PEER_TIMEOUT_SECONDS:.0f} s"
    lines = done.stdout.strip().splitlines()
    if done.returncode or not lines:
        return (done.stderr.strip().splitlines() or ["failed"])[-1][:120]
    found: dict[str, Any] = json.loads(lines[-1])
    return found


def peer_python(name: str) -> Path | str:
    """The peer's interpreter, installed if need be; else why there is none."""
    home = CACHE / f"wargame-{name}"
    python = home / "bin/python"
    if not python.exists():
        venv.create(home, with_pip=True)
        try:
            subprocess.run(
                [python, "-m", "pip", "install", "-q", *PEERS[name]],
                check=True,
                capture_output=True,
                timeout=INSTALL_TIMEOUT_SECONDS,
            )
        except (subprocess.CalledProcessError, subprocess.TimeoutExpired):
            return "skipped: it does not install here"
    return python


def peers(url: str, in_flight: int, quick: bool) -> dict[str, float | str]:
    """Calls a second and CPU of each peer, as text; one line each."""
    shown: dict[str, float | str] = {}
    for name in PEERS:
        python = peer_python(name)
        number = 40 if quick else 4 * in_flight
        found = (
            python
            if isinstance(python, str)
            else measured(python, f"_wargame_peer_{name}.py", url, in_flight, number)
        )
        if isinstance(found, dict):
            share = found["per_second"] * LATENCY_SECONDS / in_flight
            shown[name] = (
                f"{found['per_second']:.1f} calls/s, {share:.0%} of the limit, {found['cpu_ms']:.1f} ms CPU a call"
            )
        else:
            shown[name] = found
    return shown


def call_rows(url: str, quick: bool) -> list[Row]:
    rows, last = [], {}
    for in_flight, goal in GOALS.items():
        number = in_flight * (8 if quick else 40)
        bare = measured(sys.executable, "_wargame_load.py", "bare", url, in_flight, number)
        ours = measured(sys.executable, "_wargame_load.py", "calls", url, in_flight, number)
        if isinstance(ours, str) or isinstance(bare, str):
            raise SystemExit(f"the measurement failed: {ours} {bare}")
        limit = in_flight / LATENCY_SECONDS
        share, last = ours["per_second"] / limit, ours
        beside: dict[str, float | str] = {
            "calls a second": ours["per_second"],
            "bare aiohttp loop, share of the limit": bare["per_second"] / limit,
            "bare aiohttp loop, CPU ms a call": bare["cpu_ms"],
        }
        beside |= peers(url, in_flight, quick) if in_flight == 64 or not quick else {}
        claim = f"verdicts at {in_flight} in flight reach the limit of a 200 ms endpoint"
        rows.append(Row(claim, share, "of it", f"at least {goal}", share >= goal, beside, number, COMMAND))
        rows.append(
            Row(
                f"CPU for a verdict at {in_flight} in flight, request to parsed vote",
                ours["cpu_ms"],
                "ms",
                f"at most {CPU_GOAL_MS}",
                ours["cpu_ms"] <= CPU_GOAL_MS,
                n=number,
                command=COMMAND,
            )
        )
    met = last["rss_mb"] <= RSS_GOAL_MB
    rows.append(
        Row(
            "memory at 256 in flight",
            last["rss_mb"],
            "MB",
            f"at most {RSS_GOAL_MB:.0f}",
            met,
            n=1,
            command=COMMAND,
        )
    )
    return rows


def round_rows(url: str, quick: bool) -> list[Row]:
    """Whole rounds: three turns one after the other, five verdicts at once, one commit; 0.8 s at best."""
    number = 200 if quick else 1_000
    found = measured(sys.executable, "_wargame_load.py", "rounds", url, 64, number)
    if isinstance(found, str):
        raise SystemExit(f"the measurement failed: {found}")
    # A pair asks its attacker four times and is judged twice: six steps for two rounds.
    limit = 64 * 2 / (6 * LATENCY_SECONDS)
    share = found["per_second"] / limit
    return [
        Row(
            "rounds with their commits, 64 pairs in flight, reach the limit",
            share,
            "of it",
            "at least 0.8",
            share >= 0.8,
            {"rounds a second": found["per_second"], "seconds for 1,000 rounds": 1_000 / found["per_second"]},
            number,
            COMMAND,
        ),
        Row(
            "CPU for a round of seven calls with its commit",
            found["cpu_ms"],
            "ms",
            "",
            None,
            n=number,
            command=COMMAND,
        ),
    ]


def measure(quick: bool) -> Sequence[Row]:
    with stub(1e3 * LATENCY_SECONDS) as url:
        return [*call_rows(url, quick), *round_rows(url, quick)]


if __name__ == "__main__":
    sys.exit(run("wargame", measure))
