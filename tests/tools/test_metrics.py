"""The series of tools."""

from __future__ import annotations

from epad.daemon.metrics import make_metrics
from epad.tools.listing import Work
from epad.tools.metrics import ToolSeries
from probes.tool_calls import ToolCalled


def event(outcome: str = "done", row: str = "R1/NORMAL", category: str = "git") -> ToolCalled:
    return ToolCalled(
        "agent", 1.0, "t", "git_status", category, outcome, row=row, output_bytes=100, seconds=0.2
    )


def test_calls_refusals_output_and_workers_are_counted() -> None:
    """A refused call has no time and no output; a worker is lost once."""
    metrics = make_metrics(["agent"])
    series = ToolSeries(metrics)
    series.called(event())
    series.called(event("failed"))
    series.called(event("refused", "W2/tier"))
    for _ in range(2):
        series.show({"git": Work((7, 8), calls=3, lost=1)})
    told = metrics.render().decode()
    for line in (
        'epad_tool_calls_total{category="git",outcome="done",subsystem="agent"} 1.0',
        'epad_tool_calls_total{category="git",outcome="refused",subsystem="agent"} 1.0',
        'epad_tool_refusals_total{row="W2/tier",subsystem="agent"} 1.0',
        'epad_tool_call_seconds_count{category="git"} 2.0',
        'epad_tool_output_bytes_total{subsystem="agent"} 200.0',
        'epad_tool_workers{category="git"} 2.0',
        'epad_tool_calls_open{category="git"} 3.0',
        'epad_tool_workers_lost_total{category="git"} 1.0',
        'epad_tool_workers_lost_total{category="files"} 0.0',
    ):
        assert line in told
    series.show({})
    assert "epad_tool_workers{" not in metrics.render().decode()
