"""A finding shows its number under its probe's series."""

from __future__ import annotations

from epad.control_loop.metrics import show_finding
from epad.metrics.registry import Metrics
from statemachine.finding import Finding, Severity


def test_a_finding_shows_its_number_under_its_probes_series() -> None:
    """In base units; one without a number shows none, and a detector's number is of something else."""
    metrics = Metrics()

    def find(subsystem: str, **number: object) -> None:
        show_finding(metrics, Finding("token_burn", subsystem, Severity.OK, 0.0, **number))  # type: ignore[arg-type]

    find("chat", value=250, limit=1_000, unit="tokens")
    find("game")
    find("game", value=9, limit=0)
    find("game", value=9, limit=10, unit="tokens", evidence={"detector": "burn_rate"})
    value = metrics.registry.get_sample_value
    assert value("epad_token_burn_ratio", {"subsystem": "chat"}) == 0.25
    assert value("epad_token_burn_ratio", {"subsystem": "game"}) is None
