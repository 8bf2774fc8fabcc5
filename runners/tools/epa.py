"""Declare the tools of the category `epa`: an agent asks epad about itself, and tells it something.

`epad/tools/own_epa.py` answers them, about the caller alone. Of others an agent learns the name and the trouble of
one that it waits for, since that is why it is held.
"""

from __future__ import annotations

from typing import Annotated, Final, Literal

import msgspec
from msgspec import Meta

from runners.tools.signature import Args, Result, meta

MOST_TEXT: Final = 500


class StatusArgs(Args, frozen=True):
    """Holds nothing."""


class StatusResult(Result, frozen=True):
    """Holds the phase, the caller's own hold with its reason, and the troubles that were found of it."""

    phase: str
    hold: str
    reason: str
    anomalies: list[str]


EPA_STATUS: Final = meta(
    "epa_status",
    StatusArgs,
    StatusResult,
    risk="P",
    timeout=10,
    description="The phase of epad, and your own hold and troubles.",
    examples=({},),
)
epa_status = EPA_STATUS.answered_by_daemon()


class ExplainArgs(Args, frozen=True):
    """Holds an id out of an earlier answer, to see that alone."""

    id: Annotated[str, Meta(max_length=40)] = ""


class Link(msgspec.Struct, frozen=True):
    """Holds one link from a finding to the result of a step."""

    kind: str
    id: str
    at: str
    text: str


class ExplainResult(Result, frozen=True):
    """Holds sentences on the present, and the chain of findings, decisions and steps, oldest first."""

    now: list[str]
    chain: list[Link]


EPA_EXPLAIN: Final = meta(
    "epa_explain",
    ExplainArgs,
    ExplainResult,
    risk="P",
    timeout=10,
    description="Why you are or were held: finding, rule, step, result.",
    examples=({},),
)
epa_explain = EPA_EXPLAIN.answered_by_daemon()


class BudgetArgs(Args, frozen=True):
    """Holds nothing."""


class Limit(msgspec.Struct, frozen=True):
    """Holds one limit in its own unit. `scope` is the caller, a group of it, or all together."""

    scope: str
    name: str
    limit: float
    used: float
    left: float


class BudgetResult(Result, frozen=True):
    """Holds the limits that the caller is under, and the calls of tools left this minute; null: no limit."""

    limits: list[Limit]
    tool_calls_left: int | None


EPA_BUDGET: Final = meta(
    "epa_budget",
    BudgetArgs,
    BudgetResult,
    risk="P",
    timeout=10,
    description="Your limits, what is used and left of each, your tool calls left this minute.",
    examples=({},),
)
epa_budget = EPA_BUDGET.answered_by_daemon()


class ReportArgs(Args, frozen=True):
    """Holds a text for a person. `warning` counts as a finding of the probe `agent`, which holds nobody."""

    severity: Literal["info", "warning"]
    text: Annotated[str, Meta(min_length=1, max_length=MOST_TEXT)]


class ReportResult(Result, frozen=True):
    """Tells that it was noted."""

    noted: bool


EPA_REPORT: Final = meta(
    "epa_report",
    ReportArgs,
    ReportResult,
    risk="P",
    timeout=10,
    description="Tell the person who runs epad something; it becomes an event.",
    examples=({"severity": "info", "text": "the tests of round 2 pass"},),
)
epa_report = EPA_REPORT.answered_by_daemon()

TOOLS: Final = (EPA_BUDGET, EPA_EXPLAIN, EPA_REPORT, EPA_STATUS)
