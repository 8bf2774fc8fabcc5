"""What each subsystem has used."""

from __future__ import annotations

from epad.configuration.schema import BudgetConfig
from epad.gateway.budget import Budgets, Reservation
from epad.gateway.spending import SpendingBook
from epad.ledger.store import Totals
from probes.turns import TurnAdmitted, TurnFinished, TurnRefused
from statemachine.clock import ManualClock


def book(clock: ManualClock) -> tuple[SpendingBook, Budgets]:
    budgets = Budgets({"chat": BudgetConfig(tokens_per_minute=1_000), "guest": BudgetConfig()}, 8)
    totals = {"chat": Totals(turns=3, input_tokens=30, output_tokens=12, charged_tokens=42)}
    return SpendingBook(totals, budgets, clock), budgets


def test_totals_go_on_from_the_ledgers() -> None:
    """A restart loses none; only what is finished has been used."""
    spending, _ = book(ManualClock())
    spending.admitted(TurnAdmitted("chat", 0.0, "t", "model", 500, b""))
    spending.refused(TurnRefused("chat", 0.0, "budget_exceeded"))
    assert spending.tokens("chat") == {"input": 30, "output": 12, "turns": 3}
    spending.finished(TurnFinished("chat", 0.0, "t", "done", 7, 5, 12))
    assert spending.tokens("chat") == {"input": 37, "output": 17, "turns": 4}


def test_money_goes_on_from_what_was_spent_before() -> None:
    """Each turn adds its cost; one without a price adds none."""
    spending = SpendingBook({}, book(ManualClock())[1], ManualClock(), {"chat": 5_000_000})
    spending.finished(TurnFinished("chat", 0.0, "t", "done", 7, 5, 12, microusd=250))
    spending.finished(TurnFinished("guest", 0.0, "u", "done", 7, 5, 12))
    assert (spending.microusd("chat"), spending.microusd("guest")) == (5_000_250, 0)


def test_one_that_never_asked_has_used_nothing() -> None:
    """And one that is new begins at its first turn."""
    spending, _ = book(ManualClock())
    assert spending.tokens("guest") == {"input": 0, "output": 0, "turns": 0}
    spending.finished(TurnFinished("guest", 0.0, "t", "cut", 1, 0, 1))
    assert spending.tokens("guest") == {"input": 1, "output": 0, "turns": 1}


def test_budgets_are_those_of_now_and_only_those_that_limit() -> None:
    """A reservation counts; a minute later what was spent does not."""
    clock = ManualClock()
    spending, budgets = book(clock)
    reservation = budgets.reserve("chat", 400, clock.monotonic())
    assert isinstance(reservation, Reservation)
    assert spending.budget("chat") == {"tokens_per_minute": (1_000, 400)}
    budgets.settle(reservation, 100, clock.monotonic())
    assert spending.budget("chat") == {"tokens_per_minute": (1_000, 100)}
    clock.advance(62)
    assert spending.budget("chat") == {"tokens_per_minute": (1_000, 0)}
    assert spending.budget("guest") == {}
    assert spending.budget("a subsystem without the gateway") == {}
