"""Phases and their numbers."""

from __future__ import annotations

from statemachine.phase import Phase


def test_numbers_never_change() -> None:
    """Dashboards and alerts have them; a new phase takes a new number."""
    assert {phase.name: phase.number for phase in Phase} == {
        "NORMAL": 0,
        "QUARANTINE": 1,
        "PRESERVATION": 2,
        "RECOVERY": 3,
        "LIFEBOAT": 4,
    }


def test_a_phase_is_its_own_word() -> None:
    """Journals and metrics hold the name."""
    assert all(str(phase) == phase.name == phase.value for phase in Phase)
