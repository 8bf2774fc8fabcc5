"""The series that are there before anything has happened: the gateway says which values their labels have."""

from __future__ import annotations

from pathlib import Path

from gateway_world import world

from epad.gateway.health import State
from epad.gateway.metrics import show_upstreams
from epad.ledger.record import Outcome


async def test_every_outcome_and_every_state_of_an_upstream_has_its_series(tmp_path: Path) -> None:
    """A counter that is born at 1 has not increased, and a state that was never shown cannot be asked for."""
    async with world(tmp_path) as w:
        w.metrics.configure(["writer"])
        show_upstreams(w.metrics, [{"name": "local", "state": "gone"}])
        value = w.metrics.registry.get_sample_value
        for outcome in Outcome:
            assert value("epad_turns_total", {"subsystem": "writer", "outcome": outcome}) == 0
        shown = {state: value("epad_upstream_state", {"name": "local", "state": state}) for state in State}
        assert shown == {state: float(state is State.GONE) for state in State}
