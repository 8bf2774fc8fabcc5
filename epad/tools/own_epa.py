"""Answer the tools of the category `epa`: what an agent may know of itself, and what it tells a person."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection
from dataclasses import dataclass
from typing import Final

from epad.answers.decisions import Explanation
from epad.answers.orders import Budgets
from epad.answers.status import Status, Subsystem
from epad.formatting.text import clean
from epad.tools.own import OwnCall, OwnTools
from runners.tools.epa import (
    BudgetArgs,
    BudgetResult,
    ExplainArgs,
    ExplainResult,
    Limit,
    Link,
    ReportArgs,
    ReportResult,
    StatusArgs,
    StatusResult,
)

MOST_LINKS: Final = 40
MOST_ANOMALIES: Final = 20


@dataclass(frozen=True, slots=True)
class Knowledge:
    """Gives the answers that the daemon's operations have.

    `scopes` names the scopes of limits that a subsystem is under; `calls_left` its calls of tools this minute;
    `report` takes a subsystem, a severity and a text.
    """

    status: Callable[[], Status]
    explain: Callable[[str], Awaitable[Explanation]]
    budgets: Callable[[], Budgets]
    scopes: Callable[[str], Collection[str]]
    calls_left: Callable[[str], int | None]
    report: Callable[[str, str, str], None]


def epa_tools(knowledge: Knowledge) -> OwnTools:
    """Return the tools of the category."""
    epa = _Epa(knowledge)
    return {
        "epa_status": epa.status,
        "epa_explain": epa.explain,
        "epa_budget": epa.budget,
        "epa_report": epa.report,
    }


class _Epa:
    def __init__(self, knowledge: Knowledge) -> None:
        self._knowledge = knowledge

    async def status(self, call: OwnCall) -> StatusResult:
        """Tell the phase, the caller's hold, and its troubles."""
        call.checked(StatusArgs)
        status, name = self._knowledge.status(), call.session.subsystem
        own = subsystem_of(status, name)
        told = [one["reason"] for one in status["anomalies"] if one["subsystem"] == name]
        hold, reason = ("open", "") if own is None else (own["hold"]["rung"], own["hold"]["reason"])
        return StatusResult(phase=status["phase"], hold=hold, reason=reason, anomalies=told[:MOST_ANOMALIES])

    async def explain(self, call: OwnCall) -> ExplainResult:
        """Tell the chain about the caller, or one link of it."""
        args = call.checked(ExplainArgs)
        told = await self._knowledge.explain(call.session.subsystem)
        chain = [
            Link(one["kind"], one["id"], one["at"], one["text"])
            for one in told["chain"]
            if args.id in {"", one["id"]}
        ]
        return ExplainResult(now=[one["line"] for one in told.get("summary", ())], chain=chain[-MOST_LINKS:])

    async def budget(self, call: OwnCall) -> BudgetResult:
        """Tell the limits that the caller is under."""
        call.checked(BudgetArgs)
        name = call.session.subsystem
        scopes = self._knowledge.scopes(name)
        limits = [
            Limit(one["scope"], one["name"], one["limit"], one["used"], one["left"])
            for one in self._knowledge.budgets()["budgets"]
            if one["scope"] in scopes and one["left"] is not None
        ]
        return BudgetResult(limits=limits, tool_calls_left=self._knowledge.calls_left(name))

    async def report(self, call: OwnCall) -> ReportResult:
        """Pass a text on to the person who reads the events."""
        args = call.checked(ReportArgs)
        self._knowledge.report(call.session.subsystem, args.severity, clean(args.text))
        return ReportResult(noted=True)


def subsystem_of(status: Status, name: str) -> Subsystem | None:
    """Return the part of a status that is about one subsystem."""
    return next((one for one in status["subsystems"] if one["name"] == name), None)
