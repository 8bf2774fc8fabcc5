"""A forced move spares the waiting and nothing else: in every situation there is."""

from __future__ import annotations

from dataclasses import replace
from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st
from shipped_settings import CONFIG

from statemachine.force import force, refusal
from statemachine.machine import Machine
from statemachine.phase import Phase
from statemachine.situation import Order, Persist, Situation

LIMITS = CONFIG.policy
TIMES = ("in_phase_seconds", "quiet_seconds", "since_attempt_seconds", "oldest_anomaly_seconds")
NOW = Situation(Phase.NORMAL)


@st.composite
def situations(draw: st.DrawFn) -> Situation:
    """Any there can be: what is held or critical is an anomaly, and an age is somebody's."""
    anomalies = draw(st.integers(0, 3))
    held = draw(st.integers(0, anomalies))
    seconds = st.floats(0, 4_000)
    return Situation(
        phase=draw(st.sampled_from(Phase)),
        in_phase_seconds=draw(seconds),
        anomalies=anomalies,
        held=held,
        critical=draw(st.integers(0, anomalies - held)),
        oldest_anomaly_seconds=draw(seconds) if anomalies > held else 0.0,
        quiet_seconds=draw(seconds),
        degraded=draw(st.integers(0, 2)),
        persist=draw(st.sampled_from(Persist)),
        attempt_running=draw(st.booleans()),
        attempts=draw(st.integers(0, 4)),
        since_attempt_seconds=draw(seconds),
        recent_recoveries=draw(st.integers(0, 7)),
        order=draw(st.sampled_from(Order)),
    )


@given(situations(), st.sampled_from(Phase))
def test_only_times_differ_and_the_machine_takes_it(now: Situation, wanted: Phase) -> None:
    """The guard holds of the same facts with more time passed, so the one table is all there is."""
    forced = force(now, wanted, LIMITS)
    if forced is None:
        return
    row, hastened = forced
    assert replace(hastened, **{name: getattr(now, name) for name in TIMES}) == now
    assert all(getattr(hastened, name) >= getattr(now, name) for name in TIMES)
    assert Machine(now.phase).take(row, hastened, LIMITS) is wanted


@given(situations(), st.sampled_from(Phase))
def test_no_safeguard_is_spared(now: Situation, wanted: Phase) -> None:
    """LIFEBOAT only past the persist step, NORMAL only where nothing is wrong, RECOVERY only of what is saved."""
    if force(now, wanted, LIMITS) is None:
        return
    if wanted is Phase.LIFEBOAT:
        assert now.persist in {Persist.DONE, Persist.FAILED}
    if wanted is Phase.NORMAL and now.phase is not Phase.LIFEBOAT:
        assert now.anomalies == 0
        assert not now.attempt_running or now.phase is not Phase.RECOVERY
    if wanted is Phase.RECOVERY and now.phase is Phase.PRESERVATION:
        assert now.persist is Persist.DONE


@given(situations(), st.sampled_from(Phase))
def test_what_is_refused_has_a_reason_and_what_is_not_has_none(now: Situation, wanted: Phase) -> None:
    """Never a bare no."""
    assert bool(refusal(now, wanted, LIMITS)) is (force(now, wanted, LIMITS) is None)


QUARANTINE = replace(NOW, phase=Phase.QUARANTINE)
PRESERVATION = replace(NOW, phase=Phase.PRESERVATION, persist=Persist.DONE)
RECOVERY = replace(NOW, phase=Phase.RECOVERY, persist=Persist.DONE)
TROUBLED = replace(QUARANTINE, anomalies=1, oldest_anomaly_seconds=3.0)


@pytest.mark.parametrize(
    ("now", "wanted"),
    [
        (QUARANTINE, Phase.NORMAL),
        (TROUBLED, Phase.PRESERVATION),
        (PRESERVATION, Phase.NORMAL),
        (replace(PRESERVATION, anomalies=1, oldest_anomaly_seconds=3.0), Phase.QUARANTINE),
        (RECOVERY, Phase.NORMAL),
        (replace(RECOVERY, degraded=1), Phase.RECOVERY),
    ],
)
def test_what_a_person_may_hasten(now: Situation, wanted: Phase) -> None:
    """Each wait of the ladder, which without force would go on."""
    assert refusal(now, wanted, LIMITS) == ""


@pytest.mark.parametrize(
    ("now", "wanted", "why"),
    [
        (NOW, Phase.NORMAL, "the phase is NORMAL already"),
        (NOW, Phase.QUARANTINE, "epactl quarantine NAME"),
        (NOW, Phase.PRESERVATION, "epactl checkpoint create"),
        (NOW, Phase.RECOVERY, "no row of the table leads from NORMAL to RECOVERY"),
        (NOW, Phase.LIFEBOAT, "epactl lifeboat enter"),
        (replace(NOW, phase=Phase.LIFEBOAT), Phase.NORMAL, "epactl lifeboat relaunch"),
        (TROUBLED, Phase.NORMAL, "1 active anomaly"),
        (replace(PRESERVATION, persist=Persist.RUNNING), Phase.NORMAL, "the checkpoint is being made"),
        (PRESERVATION, Phase.RECOVERY, "nothing is broken"),
        (replace(RECOVERY, attempt_running=True), Phase.NORMAL, "a recovery attempt is running"),
        (replace(RECOVERY, degraded=1, attempts=9), Phase.RECOVERY, "what follows now is LIFEBOAT [spent]"),
    ],
)
def test_what_cannot_be_forced_says_why(now: Situation, wanted: Phase, why: str) -> None:
    """With the order that leads there instead, where one does."""
    assert why in refusal(now, wanted, LIMITS)


def test_every_pair_of_phases_has_an_answer() -> None:
    """Also with nothing wrong at all."""
    for here, wanted in product(Phase, Phase):
        assert isinstance(refusal(replace(NOW, phase=here), wanted, LIMITS), str)
