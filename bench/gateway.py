"""What the gateway costs, in one run on one pinned core beside what else could stand in its place.

`python bench/gateway.py [--quick] [--json FILE]`. Load generator and stub upstream run on the first core, the
program under load on the last; targets take turns in every round, and a row is the median of its rounds. All
traffic stays on the loopback. The machine may be busy: read ratios within a run, not figures across runs.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shlex
import statistics
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from _gateway_disconnect import disconnect_rows
from _gateway_load import Generator, Load
from _gateway_targets import Launcher, Skip, Target, free_port
from _harness import Row, run

_MIB = 1 << 20
# Before other work on the machine: a figure made of somebody else's compiler helps nobody.
_NICE = -10


@dataclass(frozen=True, slots=True)
class Effort:
    """How much is measured."""

    rounds: int
    seconds: float
    memory_requests: int
    disconnects: int


FULL = Effort(rounds=5, seconds=2.0, memory_requests=100_000, disconnects=50)
QUICK = Effort(rounds=1, seconds=2.0, memory_requests=5_000, disconnects=10)


@dataclass(frozen=True, slots=True)
class Shape:
    """One kind of load."""

    name: str
    connections: int
    stream: bool


SATURATED = Shape("whole answers, 32 connections", 32, stream=False)
ALONE = Shape("whole answers, 1 connection", 1, stream=False)
STREAMED = Shape("20-event streams, 16 connections", 16, stream=True)


@dataclass(frozen=True, slots=True)
class Sample:
    """One round of one target."""

    load: Load
    cpu_micros: float


class Rounds:
    """Every sample, by shape and target."""

    def __init__(self) -> None:
        self._samples: dict[tuple[str, str], list[Sample]] = {}

    def add(self, shape: Shape, target: str, sample: Sample) -> None:
        self._samples.setdefault((shape.name, target), []).append(sample)

    def median(self, shape: Shape, target: str, of: Callable[[Sample], float]) -> float | None:
        """The median over the rounds; None for a target that did not run."""
        samples = self._samples.get((shape.name, target))
        return statistics.median(of(sample) for sample in samples) if samples else None

    def requests(self, shape: Shape, target: str) -> int:
        return sum(sample.load.requests for sample in self._samples.get((shape.name, target), []))


def cpu(sample: Sample) -> float:
    return sample.cpu_micros


def rate(sample: Sample) -> float:
    return sample.load.per_second


def p50(sample: Sample) -> float:
    return sample.load.p50_ms


TARGETS = ("direct", "nginx", "aiohttp", "litellm", "epad")


HAMMER_SECONDS = 15


class Bench:
    """One run."""

    def __init__(self, directory: Path, effort: Effort, command: str) -> None:
        cores = sorted(os.sched_getaffinity(0))
        self._generator = Generator(cores[0], directory)
        self._launcher = Launcher(directory, cores[-1], free_port())
        self._load_core = cores[0]
        self._effort = effort
        self._command = command
        self._stack = ExitStack()
        if cores[0] == cores[-1]:
            print("one core only: load and target share it, so rates and latencies say little")

    def measure(self) -> list[Row]:
        """Everything, one after the other."""
        with self._stack:
            stub = self._kept(self._launcher.stub(self._load_core))
            print(
                f"load: {self._generator.name} on core {self._load_core}; targets on core {self._launcher.core}"
            )
            rounds = self._interleave(stub)
            rows = comparison_rows(rounds, self._command)
        with ExitStack() as self._stack:
            self._kept(self._launcher.stub(self._load_core))
            rows += [self._memory_row(), *self._refusal_rows()]
        rows += asyncio.run(disconnect_rows(self._launcher, self._effort.disconnects, self._command))
        return rows

    def _kept(self, target: Target) -> Target:
        """Have a target stopped at the end, whatever happens."""
        self._stack.callback(target.stop)
        return target

    def _interleave(self, stub: Target) -> Rounds:
        targets = [stub]
        launch = self._launcher
        for start in (launch.nginx, launch.proxy, launch.litellm, launch.epad):
            try:
                targets.append(self._kept(start()))
            except Skip as skip:
                print(f"skipped: {skip}")
        rounds = Rounds()
        for number in range(self._effort.rounds + 1):
            for shape in (SATURATED, ALONE, STREAMED):
                for target in targets:
                    sample = self._sample(target, shape)
                    if number and sample is not None:  # the first round warms up
                        rounds.add(shape, target.name, sample)
            print(f"round {number} of {self._effort.rounds}{'' if number else ' (warm-up)'}", flush=True)
        return rounds

    def _sample(self, target: Target, shape: Shape) -> Sample | None:
        """Load a target once; None if it answered nothing in the time."""
        before = target.cpu_seconds()
        load = self._generator.run(
            target.port,
            target.key,
            connections=shape.connections,
            seconds=self._effort.seconds,
            stream=shape.stream,
        )
        target.settle()
        spent = target.cpu_seconds() - before
        if load.refused or load.broken:
            raise RuntimeError(f"{target.name}, {shape.name}: {load}")
        if not load.requests:
            print(f"{target.name}, {shape.name}: no answer in {load.seconds:.1f} s")
            return None
        # What was in flight at the end was worked on too; of a slow target that is a good part.
        return Sample(load, spent * 1e6 / (load.requests + shape.connections))

    def _memory_row(self) -> Row:
        """Keep asking until so many requests are through."""
        epad = self._kept(self._launcher.epad())
        wanted = self._effort.memory_requests
        done, start = 0, 0
        while done < wanted:
            load = self._generator.run(
                epad.port, epad.key, connections=32, seconds=10 if wanted > 9_999 else 1
            )
            if load.refused or load.broken:
                raise RuntimeError(f"memory: {load}")
            done += load.requests
            # Caches, thread stacks and the first GC generations fill during the first tenth.
            if not start and done >= wanted / 10:
                start = epad.pss_bytes()
        end = epad.pss_bytes()
        grown = (end - start) / start
        return Row(
            claim="memory of epad run (PSS) after the last request; flat means grown by at most 5 %",
            value=end / _MIB,
            unit="MiB",
            goal="at most 80 MiB, flat over 100,000 requests",
            met=end <= 80 * _MIB and grown <= 0.05 if wanted >= 100_000 else None,
            peers={"at a tenth of the requests, MiB": start / _MIB, "grown since": f"{grown:+.1%}"},
            n=done,
            command=self._command,
        )

    def _refusal_rows(self) -> list[Row]:
        """A subsystem over its budget hammers, is quarantined for it, and hammers on."""
        epad = self._kept(self._launcher.epad(rests=False))
        restless = self._hammered(epad, epad.port)
        epad.stop()
        met, n = restless.refusal_micros <= 100, restless.refusals
        cost = "processor time of a refusal"
        rows = [
            Row(cost, restless.refusal_micros, "us", "at most 100 us", met, {}, n, self._command),
        ]
        epad = self._kept(self._launcher.epad())
        what = "p50 of the good subsystem while a refused one hammers with 16 connections"
        more: dict[str, float | str] = {"refused as fast as it asks, x alone": restless.slower}
        rows.append(self._hammered(epad, epad.port).row(what, 6.0, self._command, more))
        epad.stop()
        port = free_port()
        what = f"{what} on a socket of its own"
        try:
            own = self._hammered(self._kept(self._launcher.epad(hammer_port=port)), port)
        except Skip as skip:
            return [*rows, Row(what, None, "x alone", "at most 3 x", None, {"not measured": str(skip)})]
        return [*rows, own.row(what, 3.0, self._command, {})]

    def _hammered(self, epad: Target, hammer_port: int) -> Hammered:
        """Measure the good subsystem alone and beside one that is refused. Raises Skip."""
        good, hammer, seconds = epad.keys["good"], epad.keys["hammer"], self._effort.seconds
        load = self._generator
        load.run(epad.port, good, connections=1, seconds=1)
        # Until it is quarantined: a spent budget is no anomaly, asking again in ten seconds of a minute is.
        first = load.run(hammer_port, hammer, connections=16, seconds=HAMMER_SECONDS)
        if not first.requests:
            raise Skip(f"nothing answers the hammering subsystem: {first}")
        result = Hammered([], [], [], 0)
        for _ in range(self._effort.rounds):
            result.alone_ms.append(load.run(epad.port, good, connections=1, seconds=seconds).p50_ms)
            before = epad.cpu_seconds()
            refused = load.run(hammer_port, hammer, connections=16, seconds=seconds)
            # A listener that quarantine has shut refuses in the kernel: no request is ever made.
            if refused.requests:
                result.micros.append((epad.cpu_seconds() - before) * 1e6 / refused.requests)
            result.refusals += refused.refused
            noise = load.start(hammer_port, hammer, connections=16, seconds=seconds)
            result.beside_ms.append(load.run(epad.port, good, connections=1, seconds=seconds).p50_ms)
            load.finish(noise)
            if refused.refused != refused.requests:
                raise RuntimeError(f"the hammering subsystem was let through: {refused}")
        return result


@dataclass(slots=True)
class Hammered:
    """What a refused subsystem costs, and what it does to a good one."""

    alone_ms: list[float]
    beside_ms: list[float]
    micros: list[float]
    refusals: int

    @property
    def refusal_micros(self) -> float:
        return statistics.median(self.micros)

    @property
    def slower(self) -> float:
        """How much slower the good one is."""
        return statistics.median(self.beside_ms) / statistics.median(self.alone_ms)

    def row(self, claim: str, bound: float, command: str, more: Mapping[str, float | str]) -> Row:
        alone, beside = statistics.median(self.alone_ms), statistics.median(self.beside_ms)
        shown: dict[str, float | str] = {"alone, ms": alone, "beside, ms": beside, **more}
        met = self.slower <= bound
        return Row(
            claim, self.slower, "x alone", f"at most {bound:g} x", met, shown, len(self.alone_ms), command
        )


def comparison_rows(rounds: Rounds, command: str) -> list[Row]:
    """The claims that name a peer."""

    def peers(shape: Shape, of: Callable[[Sample], float], unit: str) -> dict[str, float | str]:
        found = {name: rounds.median(shape, name, of) for name in TARGETS}
        return {f"{name}, {unit}": "skipped" if v is None else v for name, v in found.items()}

    def ratio(shape: Shape, of: Callable[[Sample], float], above: str, below: str) -> float | None:
        over, under = rounds.median(shape, above, of), rounds.median(shape, below, of)
        return None if over is None or under is None else over / under

    def row(claim: str, value: float | None, unit: str, limit: tuple[str, float], shape: Shape) -> Row:
        of, of_unit = _SHOWN[shape.name] if unit != "x direct" else (rate, "streams/s")
        word, bound = limit
        met = None if value is None else (value <= bound if word == "at most" else value >= bound)
        n = rounds.requests(shape, "epad")
        return Row(claim, value, unit, f"{word} {bound:g} {unit}", met, peers(shape, of, of_unit), n, command)

    direct, ours = rounds.median(ALONE, "direct", p50), rounds.median(ALONE, "epad", p50)
    added = None if direct is None or ours is None else ours - direct
    return [
        row(
            f"processor time a request with the ledger durable ({SATURATED.name})",
            ratio(SATURATED, cpu, "epad", "aiohttp"),
            "x the bare aiohttp proxy",
            ("at most", 2.0),
            SATURATED,
        ),
        row(f"p50 added ({ALONE.name})", added, "ms", ("at most", 1.5), ALONE),
        row(
            "requests a processor second",
            ratio(SATURATED, cpu, "litellm", "epad"),
            "x LiteLLM's",
            ("at least", 25.0),
            SATURATED,
        ),
        row(
            f"throughput of {STREAMED.name}",
            ratio(STREAMED, rate, "epad", "direct"),
            "x direct",
            ("at least", 0.35),
            STREAMED,
        ),
        Row(
            f"processor time a stream ({STREAMED.name})",
            ratio(STREAMED, cpu, "epad", "aiohttp"),
            "x the bare aiohttp proxy",
            "",
            None,
            peers(STREAMED, cpu, "us"),
            rounds.requests(STREAMED, "epad"),
            command,
        ),
    ]


_SHOWN: dict[str, tuple[Callable[[Sample], float], str]] = {
    SATURATED.name: (cpu, "us of CPU"),
    ALONE.name: (p50, "ms"),
    STREAMED.name: (cpu, "us of CPU"),
}


def _go_first() -> None:
    try:
        os.nice(_NICE)
        # Without this the kernel weighs sessions against each other, and nice only within one: sched(7).
        with contextlib.suppress(FileNotFoundError):
            Path("/proc/self/autogroup").write_text(str(_NICE))
    except OSError:
        print("not root: cannot go before other work on this machine, so figures are noisier")


def measure(quick: bool) -> Sequence[Row]:
    command = shlex.join(["python", "bench/gateway.py", *sys.argv[1:]])
    _go_first()
    with tempfile.TemporaryDirectory(prefix="epad-bench-", dir="/tmp") as directory:
        return Bench(Path(directory), QUICK if quick else FULL, command).measure()


if __name__ == "__main__":
    sys.exit(run("gateway", measure))
