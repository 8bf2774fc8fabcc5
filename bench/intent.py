"""What the classifier of intents tells on families that it has not seen, what a text costs, what the gateway pays.

`python bench/intent.py [--quick] [--json FILE]`. The areas are those of `python -m runners.intent report`. The gateway
is the installed one on one pinned core, which its child has to share: with the classifier off and on, in turns.
"""

from __future__ import annotations

import os
import statistics
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path

import psutil
from _gateway_load import Generator
from _gateway_targets import Launcher, Target, free_port
from _harness import Row, run

from runners.intent import report as figures
from runners.intent.corpus import shipped
from runners.intent.embedding import WordLlama
from runners.intent.judging import Interval
from runners.intent.report import Report, report

COMMAND = "python bench/intent.py"
ON = "\n[intent]\nenabled = true\n"
_MIB = 1 << 20
_READY_SECONDS = 120.0


def measure(quick: bool) -> Sequence[Row]:
    found = report(shipped(), WordLlama.installed(), 500 if quick else 2_000)
    return [
        *telling_rows(found),
        *cost_rows(found),
        *gateway_rows(rounds=3 if quick else 11, seconds=1.0 if quick else 3.0),
    ]


def telling_rows(found: Report) -> list[Row]:
    """The area on held-out families, beside what it must be compared with."""
    peers = {name: str(found.area(name)) for name in (figures.WORDS, figures.EMBEDDINGS, figures.SHUFFLED)}
    ours, blind = found.area(figures.OURS), found.area(figures.SHUFFLED)
    n = found.areas[0].texts
    rows = [
        _row(
            f"AUC on held-out families, interval {_span(ours)}",
            ours.value, "", "interval above that of shuffled labels",
            met=ours.low > blind.high, peers=peers, n=n,
        ),
        _row(
            f"AUC with labels shuffled, interval {_span(blind)}", blind.value, "", "0.5 in the interval",
            met=blind.low <= 0.5 <= blind.high, n=n,
        ),
        _row(
            f"AUC above words alone (TF-IDF), interval {_span(found.over_words)}",
            found.over_words.value, "", "none: told, also where it holds 0", n=n,
        ),
        _row("benign held-out texts called attacks", 100 * found.benign_called["attack"], "%", "about 5", n=n),
        _row("held-out attacks called attacks", 100 * found.attacks_called["attack"], "%", "", n=n),
        _row("held-out attacks called benign", 100 * found.attacks_called["benign"], "%", "about 10", n=n),
        _row("chance as said, distance from the true share", found.off, "", "", n=n),
        _row("long benign texts called attacks", 100 * found.long_alarms, "%", "", n=figures.LONG_TEXTS),
        _row("AUC with an attack among twelve parts", found.long_area, "", "", n=2 * figures.LONG_TEXTS),
    ]  # fmt: skip
    others = (figures.TWINS, figures.EASY, figures.LANGUAGES)
    return rows + [
        _row(f"AUC, {one.name}, interval {_span(one.interval)}", one.interval.value, "", "", n=one.texts)
        for one in found.areas
        if one.name in others
    ]


def cost_rows(found: Report) -> list[Row]:
    return [
        _row("time of one text", found.micros, "us", "below 200", met=found.micros < 200, n=len(shipped()))
    ]


def gateway_rows(rounds: int, seconds: float) -> list[Row]:
    """The median of whole answers with the classifier off and on, by turns; and what its child takes."""
    cores = sorted(os.sched_getaffinity(0))
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        directory = Path(folder)
        generator, launcher = Generator(cores[0], directory), Launcher(directory, cores[-1], free_port())

        def kept(target: Target) -> Target:
            stack.callback(target.stop)
            return target

        kept(launcher.stub(cores[0]))
        off, on = kept(launcher.epad()), kept(launcher.epad(more=ON))
        child = _child_of(on)
        rows = []
        for name, connections in (("1 connection", 1), ("8 connections", 8)):
            medians: dict[str, list[float]] = {"off": [], "on": []}
            asked = 0
            for number in range(rounds + 1):
                for state, target in (("off", off), ("on", on)):
                    load = generator.run(target.port, target.key, connections=connections, seconds=seconds)
                    if load.refused or load.broken or not load.requests:
                        raise RuntimeError(f"classifier {state}: {load}")
                    if number:  # the first round warms up
                        medians[state].append(load.p50_ms)
                        asked += load.requests
            alone, beside = (statistics.median(medians[state]) for state in ("off", "on"))
            goal = "at most 1.1 x off" if connections == 1 else ""
            rows.append(
                _row(
                    f"gateway's p50 with the classifier on, {name}, its child on the same core", beside, "ms", goal,
                    met=beside <= 1.1 * alone if goal else None, peers={"off, ms": alone}, n=asked,
                )
            )  # fmt: skip
        rows.append(
            _row("memory of the child", child.memory_full_info().pss / _MIB, "MiB", "at most 100", n=1)
        )
        return rows


def _child_of(target: Target) -> psutil.Process:
    """The classifier's process, once it is there and has fitted its first version."""
    daemon = psutil.Process(target.process.pid)
    until = time.monotonic() + _READY_SECONDS
    while time.monotonic() < until:
        for one in daemon.children(recursive=True):
            if (
                "runners.intent" in one.cmdline()
                and one.status() == psutil.STATUS_SLEEPING
                and one.cpu_times().user > 0.5
            ):
                time.sleep(2)
                return one
        time.sleep(0.1)
    raise RuntimeError("the classifier has not started: pip install 'epad[intent]'")


def _row(
    claim: str,
    value: float,
    unit: str,
    goal: str,
    *,
    met: bool | None = None,
    peers: Mapping[str, float | str] | None = None,
    n: int = 0,
) -> Row:
    return Row(claim, value, unit, goal, met, dict(peers or {}), n, COMMAND)


def _span(one: Interval) -> str:
    return f"[{one.low:.3f}, {one.high:.3f}]"


if __name__ == "__main__":
    sys.exit(run("intent", measure))
