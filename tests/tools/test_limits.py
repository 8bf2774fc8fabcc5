"""Limits on tools, as `epactl budget` shows them."""

from __future__ import annotations

from epad.tools.limits import limit_rows
from epad.tools.output_budget import OutputBudget
from epad.tools.rates import CallRates
from statemachine.clock import ManualClock


def test_each_limit_is_a_row_with_its_use() -> None:
    """One that is not set is none."""
    clock = ManualClock()
    calls = {"agent": 10, "other": 0}
    rates, output = CallRates(calls.__getitem__, clock), OutputBudget(lambda _: 100_000, clock)
    rates.take("agent")
    room = output.reserve("agent", 60_000)
    assert room is not None
    kinds = (
        ("tool_calls_per_minute", calls.__getitem__, rates.left),
        ("tool_output_tokens_per_hour", lambda _: 100_000, output.left),
    )
    rows = [(row["scope"], row["name"], row["used"], row["left"]) for row in limit_rows(calls, kinds)]
    assert rows == [
        ("agent", "tool_calls_per_minute", 1, 9),
        ("agent", "tool_output_tokens_per_hour", 60_000, 40_000),
        ("other", "tool_output_tokens_per_hour", 0, 100_000),
    ]
