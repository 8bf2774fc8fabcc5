"""The series of turns, their costs, the budgets and the upstreams."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from epad.gateway.health import State
from epad.ledger.record import Outcome
from epad.metrics.family import counter, durations, gauge
from epad.metrics.registry import Metrics

# Seconds. The lower end resolves what the gateway adds (under a millisecond), the upper a slow model.
_GATEWAY_BUCKETS = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 1.0)
_TURN_BUCKETS = (0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0)

TOKEN_KINDS = ("input", "output", "forfeited")

TOKENS = counter(
    "epad_tokens_total",
    "Tokens charged.",
    "subsystem",
    "kind",
    begins=[(kind,) for kind in TOKEN_KINDS],
)
COST = counter(
    "epad_cost_microusd_total",
    "Money charged by the price table, in millionths of a dollar.",
    "subsystem",
    begins=[()],
)
TURNS = counter(
    "epad_turns_total",
    "Turns closed.",
    "subsystem",
    "outcome",
    begins=[(outcome,) for outcome in Outcome],
)
REFUSALS = counter("epad_refusals_total", "Requests turned away.", "subsystem", "code")
IN_FLIGHT = gauge("epad_turns_in_flight", "Turns open now.", "subsystem")
UPSTREAM_STATE = gauge("epad_upstream_state", "1 for the state an upstream is in.", "name", "state")
BUDGET_LIMIT = gauge("epad_token_budget_limit_tokens", "The budget.", "subsystem", "window")
BUDGET_USED = gauge(
    "epad_token_budget_used_tokens", "Spent and reserved within the window.", "subsystem", "window"
)
ADDED_SECONDS = durations(
    "epad_gateway_added_seconds",
    "Time from a request's arrival to its forwarding: what the gateway adds.",
    buckets=_GATEWAY_BUCKETS,
)
TURN_SECONDS = durations(
    "epad_turn_duration_seconds",
    "Time from a request's arrival to the end of its answer.",
    "subsystem",
    buckets=_TURN_BUCKETS,
)


def show_upstreams(metrics: Metrics, upstreams: Iterable[Mapping[str, object]]) -> None:
    """Bring the series of the upstreams up to date; one that is configured no more has none."""
    states = metrics.of(UPSTREAM_STATE)
    states.clear()
    for upstream in upstreams:
        for state in State:
            states.labels(upstream["name"], state).set(state == upstream["state"])
