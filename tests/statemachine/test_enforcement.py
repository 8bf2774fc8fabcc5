"""A detector that only tells holds nobody, says so, and can be told otherwise for one subsystem."""

from __future__ import annotations

import pytest
from shipped_settings import hysteresis

from statemachine.assessor import Assessor
from statemachine.enforcement import OBSERVED, Enforcement
from statemachine.finding import HOST, OPERATOR, Finding, Severity
from statemachine.rung import Rung


def finding(
    detector: str = "busy_cusum",
    subsystem: str = "agent",
    probe: str = "token_rate",
    severity: Severity = Severity.ANOMALY,
) -> Finding:
    evidence, rung = ({"detector": detector}, Rung.THROTTLE) if detector else ({}, None)
    return Finding(probe, subsystem, severity, 1.0, "too much", evidence=evidence, hard=True, rung=rung)


def test_what_is_observed_is_a_warning_that_calls_for_nothing_and_says_so() -> None:
    judged = Enforcement(frozenset({"busy_cusum"})).judge(finding())
    assert (judged.severity, judged.hard, judged.rung) == (Severity.WARNING, False, Rung.OPEN)
    assert judged.reason == "too much" + OBSERVED
    assert judged.evidence["observed"]
    assert Assessor({}, hysteresis(1, 1)).observe(judged) == []


@pytest.mark.parametrize("severity", list(Severity))
def test_what_is_not_named_is_as_it_was(severity: Severity) -> None:
    other = finding("burn_rate", severity=severity)
    assert Enforcement(frozenset({"busy_cusum"})).judge(other) is other


def test_what_is_no_anomaly_is_as_it_was() -> None:
    calm = finding(severity=Severity.WARNING)
    assert Enforcement(frozenset({"busy_cusum"})).judge(calm) is calm


def test_a_probe_with_one_detector_goes_by_its_name_and_covers_all_it_has() -> None:
    enforcement = Enforcement(frozenset({"progress"}))
    assert enforcement.judge(finding("", probe="progress")).severity is Severity.WARNING
    assert enforcement.judge(finding("stall", probe="progress")).severity is Severity.WARNING


def test_one_subsystem_may_differ_either_way() -> None:
    enforcement = Enforcement(
        frozenset({"busy_cusum"}), {"strict": {"busy_cusum": False}, "free": {"burn_rate": True}}
    )
    assert enforcement.judge(finding(subsystem="strict")).bad
    assert not enforcement.judge(finding(subsystem="agent")).bad
    assert not enforcement.judge(finding("burn_rate", "free")).bad
    assert enforcement.judge(finding("burn_rate", "agent")).bad


def test_a_persons_word_is_always_done() -> None:
    order = finding("", probe=OPERATOR)
    assert Enforcement(frozenset({OPERATOR})).judge(order) is order


def test_the_host_is_no_subsystem() -> None:
    enforcement = Enforcement(frozenset({"host"}), {HOST: {"host": False}})
    assert not enforcement.judge(finding("", HOST, "host")).bad
