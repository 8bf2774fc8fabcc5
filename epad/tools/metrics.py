"""The series of tools: calls, refusals, seconds, output, and workers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from epad.metrics.family import counter, durations, gauge
from epad.metrics.registry import Metrics
from epad.tools.listing import Work
from probes.tool_calls import ToolCalled
from runners.tools.catalogue import CATEGORIES

BUCKETS: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 120.0)

CALLS = counter(
    "epad_tool_calls_total",
    "Calls of tools that have ended, refused ones too.",
    "subsystem",
    "category",
    "outcome",
)
REFUSALS = counter(
    "epad_tool_refusals_total", "Calls that were refused, by the row of the gate's table.", "subsystem", "row"
)
SECONDS = durations("epad_tool_call_seconds", "How long the worker had a call.", "category", buckets=BUCKETS)
OUTPUT = counter("epad_tool_output_bytes_total", "Bytes of results.", "subsystem", begins=[()])
WORKERS = gauge("epad_tool_workers", "Workers that run.", "category")
OPEN = gauge("epad_tool_calls_open", "Calls that workers have.", "category")
LOST = counter(
    "epad_tool_workers_lost_total",
    "Workers that ended unasked, their calls with them.",
    "category",
    begins=[(category,) for category in CATEGORIES],
)


class ToolSeries:
    """Counts calls as they end, and shows the workers at each scrape; implements `ToolObserver`."""

    def __init__(self, metrics: Metrics) -> None:
        self._calls, self._refusals, self._output = (
            metrics.of(CALLS),
            metrics.of(REFUSALS),
            metrics.of(OUTPUT),
        )
        self._seconds, self._lost = metrics.of(SECONDS), metrics.of(LOST)
        self._workers, self._open = metrics.of(WORKERS), metrics.of(OPEN)
        self._shown: dict[str, int] = {}

    def called(self, event: ToolCalled) -> None:
        """Count a call that has ended, or was refused."""
        self._calls.labels(event.subsystem, event.category, event.outcome).inc()
        if event.is_refused:
            self._refusals.labels(event.subsystem, event.row).inc()
            return
        self._seconds.add((event.category,), event.seconds)
        self._output.labels(event.subsystem).inc(event.output_bytes)

    def show(self, work: Mapping[str, Work]) -> None:
        """Bring the series of the workers up to date."""
        self._workers.clear()
        self._open.clear()
        for category, one in work.items():
            self._workers.labels(category).set(len(one.pids))
            self._open.labels(category).set(one.calls)
            self._lost.labels(category).inc(one.lost - self._shown.get(category, 0))
            self._shown[category] = one.lost
