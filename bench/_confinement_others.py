"""Measure the peers that are no matter of a cell's mode: npm's sandbox-runtime, and systemd's properties in a box."""

from __future__ import annotations

import json
import os
import statistics
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import cell_world
import pytest
from _confinement_peers import ENVIRONMENT, got_out, run_as_user, sandbox_runtime
from agent_needs import Need
from neighbourhood import neighbourhood
from systemd_box import systemd_box


@dataclass(frozen=True, slots=True)
class Measured:
    """What a peer let out, which needs it met, and how many milliseconds of a start it takes above a plain one."""

    out: frozenset[str]
    met: frozenset[str]
    start_ms: float


Peer = Callable[[Sequence[str], Sequence[Need], int], Measured | str]


def measure_sandbox_runtime(names: Sequence[str], needs: Sequence[Need], starts: int) -> Measured | str:
    """Measure npm's @anthropic-ai/sandbox-runtime; one line why not where it is not installed."""
    with neighbourhood() as here:
        readable, place = here.facts["readable"], str(here.workspace)
        with sandbox_runtime(place, [readable], [f"{readable}/hidden"]) as wrapper:
            if isinstance(wrapper, str):
                return wrapper
            out = got_out(run_as_user([*wrapper, *here.command(names)], place).stdout)
    met = frozenset(need.name for need in needs if _is_met(need))
    return Measured(frozenset(out), met, _start_above_plain(starts))


def _is_met(need: Need) -> bool:
    with cell_world.workspace(cell_world.UID) as place:
        home = place / "home"
        home.mkdir(mode=0o777)
        home.chmod(0o777)
        with sandbox_runtime(str(place)) as wrapper:
            variables = {**ENVIRONMENT, "HOME": str(home)}
            return need.is_met(run_as_user([*wrapper, *need.command], str(place), variables).stdout)


def _start_above_plain(count: int) -> float:
    taken: dict[str, list[float]] = {"plain": [], "walled": []}
    with cell_world.workspace(cell_world.UID) as place, sandbox_runtime(str(place)) as wrapper:
        for _ in range(count):
            for way, words in (("plain", []), ("walled", [*wrapper])):
                began = time.perf_counter()
                run_as_user([*words, "/bin/true"], str(place))
                taken[way].append((time.perf_counter() - began) * 1e3)
    return statistics.median(taken["walled"]) - statistics.median(taken["plain"])


def measure_systemd(names: Sequence[str], needs: Sequence[Need], starts: int) -> Measured | str:
    """Measure systemd's properties by a real systemd in a box; one line why not where there can be none."""
    order = json.dumps({"names": list(names), "needs": [need.name for need in needs], "starts": starts})
    script = Path(__file__).with_name("_confinement_box.py")
    try:
        with systemd_box(f"bench-{os.getpid()}") as box:
            told = json.loads(box.run(sys.executable, script, order).splitlines()[-1])
    except pytest.skip.Exception as skipped:
        return str(skipped)
    return Measured(frozenset(told["out"]), frozenset(told["met"]), told["start_ms"])


OTHERS: Final[Mapping[str, Peer]] = {
    "sandbox-runtime": measure_sandbox_runtime,
    "systemd properties": measure_systemd,
}


def figures(
    measured: Mapping[str, Measured | str], names: Sequence[str]
) -> tuple[dict[str, float | str], dict[str, float | str], dict[str, float | str]]:
    """Return each peer's figure for the three claims: escapes held of these, needs met, a start above a plain one."""
    held: dict[str, float | str] = {}
    met: dict[str, float | str] = {}
    start: dict[str, float | str] = {}
    for peer, found in measured.items():
        if isinstance(found, str):
            held[peer] = met[peer] = start[peer] = found
        else:
            held[peer] = len(set(names) - found.out)
            met[peer] = len(found.met)
            start[peer] = found.start_ms
    return held, met, start
