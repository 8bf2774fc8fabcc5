"""The audit of 30 days: what it takes to read, export and sum up a million records, and in how much memory.

`python bench/audit.py [--quick] [--json FILE]`. The ledger is written by the real writer's own code, without waiting
for its fsyncs: a third turns of models, a third calls of tools, a third orders, consents and egress. Times are CPU
seconds and memory the peak resident set of `epactl` itself, as the kernel counts both. Reading all lines into a list
first, as a script would that asks for all of it, stands beside it.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import msgspec
from _harness import Peers, Row, run
from _startup_ledger import GivenClock

from epad.audit.described import entry
from epad.configuration.load import load
from epad.ledger.append import Appender
from epad.ledger.entry import CloseTool, CloseTurn, Entry, OpenTool, OpenTurn
from epad.ledger.record import Outcome, ToolOutcome, UsageSource

RECORDS, QUICK_RECORDS, FEW = 1_000_000, 100_000, 10_000
DAYS = 30.0
AT_ONCE = 6_000
HASH = bytes(range(32))
EPACTL = Path(sys.executable).with_name("epactl")
MICROSECONDS, GROWTH_MIB = 100.0, 16.0
_HELD = "import sys; lines = sys.stdin.readlines(); print(len(lines))"
_RUN = """
import json, os, resource, sys
pid = os.fork()
if not pid:
    os.execv(sys.argv[2], sys.argv[2:])
status, used = os.waitpid(pid, 0)[1], resource.getrusage(resource.RUSAGE_CHILDREN)
with open(int(sys.argv[1]), "w") as told:
    cost = {"cpu_seconds": used.ru_utime + used.ru_stime, "peak_mib": used.ru_maxrss / 1024}
    json.dump({"status": os.waitstatus_to_exitcode(status), **cost}, told)
"""


@dataclass(frozen=True)
class Cost:
    """What a command took, and how many lines it printed."""

    cpu_seconds: float
    peak_mib: float
    lines: int


def six(number: int) -> Iterator[Entry]:
    """Six records: a turn, a tool's call, a consent and a connection."""
    turn, tool = f"{2 * number:032x}", f"{2 * number + 1:032x}"
    name, now = f"agent-{number % 8}", 0
    yield OpenTurn(turn, name, "openai", "a-model", 400, 600, 1_000, HASH)
    yield CloseTurn(turn, name, Outcome.DONE, 400, 120, 520, UsageSource.USAGE, 200)
    yield OpenTool(tool, name, "file_write", "s1", 2, "W1", 1, "W1/NORMAL", HASH, HASH, turn)
    yield CloseTool(tool, name, "file_write", "s1", ToolOutcome.DONE, "W1/NORMAL", result_bytes=90)
    answer = {"order": "approve", "name": str(number), "reason": "it is needed"}
    what = f"approve {number}: {name} may call file_write once"
    yield entry(
        "answer.ended", subsystem=name, who="ada", what=what, outcome="done", happened_ns=now, evidence=answer
    )
    host = f"host-{number % 40}.example"
    moved = {"host": host, "port": 443, "sent_bytes": 900, "received_bytes": 40_000, "unsaid_before": 0}
    yield entry(
        "egress.closed",
        subsystem=name,
        who=name,
        what=host,
        outcome="closed",
        happened_ns=now,
        evidence=moved,
    )


def written(state: Path, records: int) -> Path:
    """Make a state directory with a ledger of so many records, evenly over the days that end now."""
    state.mkdir()
    clock = GivenClock(time.time() - DAYS * 86_400 + 60)
    appender = Appender(state / "ledger.db", load().ledger, clock, "boot")
    appender.open()
    appender.connection().pragma("synchronous", 0)
    for first in range(0, records // 6, AT_ONCE // 6):
        batch = [one for number in range(first, first + AT_ONCE // 6) for one in six(number)]
        stamp = appender.stamp().wall_ns
        appender.append([_at(one, stamp) for one in batch])
        clock.wall += (DAYS * 86_400 - 120) * AT_ONCE / records
    appender.close()
    return state


def _at(one: Entry, wall_ns: int) -> Entry:
    """Return an entry of the audit with the time of its commit."""
    return msgspec.structs.replace(one, happened_ns=wall_ns) if hasattr(one, "happened_ns") else one


def cost(state: Path, *words: str) -> Cost:
    """Run `epactl audit`; stdout is counted and dropped."""
    argv = [str(EPACTL), "audit", *words, "--since", "30d", "--state", str(state)]
    told, lines = _measured(argv)
    return Cost(told["cpu_seconds"], told["peak_mib"], lines)


def _measured(argv: Sequence[str], source: int | None = None) -> tuple[dict[str, float], int]:
    """Run a program by a small one, since the kernel counts the memory of whoever forked before the program's own."""
    ours, theirs = os.pipe()
    with subprocess.Popen(
        [sys.executable, "-S", "-c", _RUN, str(theirs), *argv],
        stdin=source,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        pass_fds=[theirs],
    ) as process:
        os.close(theirs)
        assert process.stdout is not None
        read = partial(process.stdout.read, 1 << 20)
        lines = sum(chunk.count(b"\n") for chunk in iter(read, b""))
    with open(ours) as told:  # noqa: PTH123 - a descriptor
        answer: dict[str, float] = json.load(told)
    assert answer["status"] == 0, argv
    return answer, lines


def held_in_memory(state: Path) -> float:
    """Return the peak of a program that takes all lines before it looks at the first, in MiB."""
    argv = [str(EPACTL), "audit", "--format", "jsonl", "--since", "30d", "--state", str(state)]
    source = subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    assert source.stdout is not None
    told, _ = _measured([sys.executable, "-S", "-c", _HELD], source.stdout.fileno())
    assert source.wait() == 0
    return told["peak_mib"]


def main(*, quick: bool) -> Sequence[Row]:
    """Measure each command over many records and over few."""
    command, count = (
        "python bench/audit.py" + (" --quick" if quick else ""),
        QUICK_RECORDS if quick else RECORDS,
    )
    rows: list[Row] = []
    with tempfile.TemporaryDirectory(prefix="epad-bench-") as name:
        many, few = written(Path(name) / "many", count), written(Path(name) / "few", FEW)
        for told, words in (
            ("as JSON lines", ("--format", "jsonl")),
            ("as OTLP", ("--format", "otlp")),
            ("as CEF", ("--format", "cef")),
            ("for the consents of one person", ("--kind", "consent", "--who", "ada")),
            ("summed up as a page", ("report",)),
        ):
            large, small = cost(many, *words), cost(few, *words)
            value = (large.cpu_seconds - small.cpu_seconds) / (count - FEW) * 1e6
            rows.append(
                Row(
                    f"CPU of a record, {count:,} of 30 days {told}",
                    value,
                    "us",
                    f"at most {MICROSECONDS:g}",
                    value <= MICROSECONDS,
                    {},
                    count,
                    command,
                )
            )
            growth = large.peak_mib - small.peak_mib
            peers: Peers = {f"peak with {count:,}": large.peak_mib}
            if "jsonl" in words:
                assert large.lines > count * 0.99, "not all were printed"
                peers["a script that reads all lines first, peak"] = held_in_memory(many)
            rows.append(
                Row(
                    f"memory that {count - FEW:,} more records take, {told}",
                    growth,
                    "MiB",
                    f"at most {GROWTH_MIB:g}",
                    growth <= GROWTH_MIB,
                    peers,
                    count,
                    command,
                )
            )
    return rows


if __name__ == "__main__":
    sys.exit(run("audit", lambda quick: main(quick=quick)))
