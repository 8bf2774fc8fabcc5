"""Print the progress of a run: lines, a progress bar, JSON, or next to nothing."""

from __future__ import annotations

import argparse
import json
import sys
import time
from typing import Any, Final, Protocol

from runners.wargame.engine import Engine
from runners.wargame.report.count import Report
from runners.wargame.store import RunRow

BAR_WIDTH: Final = 24


class Progress(Protocol):
    """Counts the progress of a run."""

    done: int
    scored: int
    in_flight: int


class Calls(Protocol):
    """Counts the calls in flight."""

    @property
    def in_flight(self) -> int: ...


class Speaker:
    """Lines on standard output."""

    def __init__(self, run: RunRow, *, quiet: bool = False) -> None:
        self.run = run
        self.quiet = quiet

    def watch(self, progress: Progress, calls: Calls) -> None:
        """Be told where to look for progress."""

    def start(self) -> None:
        """Print the plan of the run, after the banner that says the limits of its engine."""
        if banner := Engine(self.run.engine).banner:
            print(banner, flush=True)
        print(
            f"{self.run.run_id}: engine {self.run.engine}, {self.run.wanted} rounds against {self.run.base_url}",
            flush=True,
        )

    def say(self, line: str, values: dict[str, Any]) -> None:
        """Tell one thing that happened."""
        if not (self.quiet and values["event"] == "round"):
            print(line, flush=True)

    def late(self, seconds: float) -> None:
        """Tell that something blocked the loop."""
        self.say(f"LAG: the loop was blocked for {seconds:.1f} s", {"event": "lag", "seconds": seconds})

    def summary(self, report: Report) -> None:
        """Print the result."""
        print(
            f"attempted {report.attempted}, scored {report.scored}; held-out catch {report.headline.catch}, "
            f"false alarm {report.headline.false_alarm} by {report.rule} (engine: {report.engine})"
        )
        for obstacle in report.obstacles:
            print(f"NOT REPORTABLE: {obstacle}")
        for alarm in report.alarms:
            print(f"SMOKE ALARM: {alarm}")
        if report.engine.banner:
            print(report.engine.banner)


class JsonSpeaker(Speaker):
    """Prints one JSON object a line."""

    def start(self) -> None:
        run, banner = self.run, Engine(self.run.engine).banner
        self.say("", {"event": "start", "banner": banner, "run_id": run.run_id, "base_url": run.base_url})

    def say(self, line: str, values: dict[str, Any]) -> None:
        del line
        if not (self.quiet and values["event"] == "round"):
            print(json.dumps({"engine": self.run.engine, **values}), flush=True)

    def summary(self, report: Report) -> None:
        print(json.dumps({"event": "end", **report.as_json()}), flush=True)


class BarSpeaker(Speaker):
    """Draws a bar on the terminal; other news still gets its line above it."""

    def __init__(self, run: RunRow, *, quiet: bool = False) -> None:
        super().__init__(run, quiet=quiet)
        self._progress: Progress | None = None
        self._calls: Calls | None = None
        self._began = time.monotonic()
        self._first = 0

    def watch(self, progress: Progress, calls: Calls) -> None:
        self._progress, self._calls, self._began = progress, calls, time.monotonic()

    def say(self, line: str, values: dict[str, Any]) -> None:
        if values["event"] != "round":
            sys.stdout.write("\r\033[K")
            super().say(line, values)
        elif self._progress is not None and self._calls is not None:
            if not self._first:
                self._first = self._progress.done - 1
            elapsed = max(1e-6, time.monotonic() - self._began)
            shown = bar(self._progress, self._calls, self.run.wanted, self._first, elapsed)
            sys.stdout.write(f"\r\033[K{shown}")
            sys.stdout.flush()

    def summary(self, report: Report) -> None:
        sys.stdout.write("\n")
        super().summary(report)


def bar(progress: Progress, calls: Calls, wanted: int, first: int, elapsed_seconds: float) -> str:
    """Format one line: progress, speed, calls in flight, valid rounds, time left."""
    share = min(1.0, progress.done / wanted)
    rate = max(0, progress.done - first) / elapsed_seconds
    left = (wanted - progress.done) / rate if rate else 0.0
    filled = "#" * int(BAR_WIDTH * share)
    valid = progress.scored / progress.done if progress.done else 0.0
    return (
        f"[{filled:.<{BAR_WIDTH}}] {progress.done}/{wanted} {rate:.1f}/s {calls.in_flight} calls out "
        f"{valid:.0%} valid {_duration(left)} left"
    )


def _duration(seconds: float) -> str:
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}"


def speaker(options: argparse.Namespace, run: RunRow) -> Speaker:
    """Return the one that fits: JSON if asked for, a bar on a terminal, else lines."""
    if options.json:
        return JsonSpeaker(run, quiet=options.quiet)
    if sys.stdout.isatty() and not options.quiet:
        return BarSpeaker(run)
    return Speaker(run, quiet=options.quiet)
