"""The series of phases, anomalies and steps."""

from __future__ import annotations

from itertools import product

from epad.control_loop.step import StepName, StepState
from epad.metrics.family import counter, gauge
from epad.metrics.registry import Metrics
from statemachine.finding import Finding
from statemachine.table import TABLE

STEP_RESULTS = (StepState.DONE, StepState.FAILED)

PHASE = gauge("epad_phase", "1 for the phase the daemon is in.", "phase")
PHASE_ENTERED = gauge("epad_phase_entered_timestamp_seconds", "When the phase was entered.")
TRANSITIONS = counter(
    "epad_phase_transitions_total",
    "Phase transitions.",
    "source",
    "destination",
    "trigger",
    begins=[(row.source, row.destination, row.trigger) for row in TABLE],
)
ANOMALIES = gauge("epad_anomaly_active", "1 while an anomaly holds.", "probe", "subsystem")
STEPS = counter(
    "epad_response_steps_total",
    "Response steps.",
    "step",
    "result",
    begins=list(product(StepName, STEP_RESULTS)),
)
TOKEN_BURN = gauge(
    "epad_token_burn_ratio",
    "Tokens charged and reserved in the window, of the budget.",
    "subsystem",
    leaves=True,
)


def show_finding(metrics: Metrics, finding: Finding) -> None:
    """Show the number a finding was made from, under the series of its probe."""
    if finding.value is None:
        return
    # A detector's finding has a number of its own; the scheduled one is the burn against the budget.
    burn = finding.probe == "token_burn" and finding.unit == "tokens" and "detector" not in finding.evidence
    if burn and finding.limit:
        metrics.of(TOKEN_BURN).labels(finding.subsystem).set(finding.value / finding.limit)
