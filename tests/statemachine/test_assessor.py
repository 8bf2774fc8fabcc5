"""Findings in, anomalies out."""

from __future__ import annotations

from dataclasses import dataclass

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from shipped_settings import hysteresis

from statemachine.assessor import LONGEST_MEMORY, Anomaly, Assessor, Cleared, Hysteresis, Raised
from statemachine.finding import Finding, Severity
from statemachine.rung import Rung

RULE = hysteresis(raise_after=2, out_of=3, clear_after_seconds=60.0)


def finding(
    at: float, severity: Severity = Severity.ANOMALY, *, hard: bool = False, subsystem: str = "wargame"
) -> Finding:
    return Finding("burn", subsystem, severity, at, reason=f"at {at}", hard=hard)


def raised(assessor: Assessor, at: float = 0.0) -> Anomaly:
    """Raise one at once, by a hard fact."""
    changes = assessor.observe(finding(at, hard=True))
    assert isinstance(changes[0], Raised)
    return changes[0].anomaly


@pytest.mark.parametrize(
    ("pattern", "raises_at"),
    [("bb", 1), ("bgb", 2), ("bggb", None), ("gbgbg", 3), ("b", None), ("wwww", None), ("bwgb", None)],
)
def test_m_of_n_raises(pattern: str, raises_at: int | None) -> None:
    """Two bad ones among the last three raise, at the second; a warning counts as good."""
    severities = {"b": Severity.ANOMALY, "g": Severity.OK, "w": Severity.WARNING}
    assessor = Assessor({}, RULE)
    outcome = [bool(assessor.observe(finding(i, severities[letter]))) for i, letter in enumerate(pattern)]
    assert outcome == [i == raises_at for i in range(len(pattern))]
    assert bool(assessor.active) is (raises_at is not None)


def test_a_hard_fact_raises_at_once_if_it_is_bad() -> None:
    """A broken chain is not a sample; a hard good one is no trouble."""
    assessor = Assessor({}, RULE)
    assert assessor.observe(finding(0.0, Severity.WARNING, hard=True)) == []
    assert raised(assessor).raises == 1


def test_a_firmer_rung_is_taken_up_and_a_milder_one_is_not() -> None:
    """What began as told only is held once a finding calls for it; and stays so until it clears."""
    assessor = Assessor({}, RULE)
    rungs = [Rung.OPEN, Rung.THROTTLE, Rung.OPEN, None, Rung.STOP, Rung.STOP]
    seen = []
    for at, rung in enumerate(rungs):
        assessor.observe(Finding("burn", "a", Severity.ANOMALY, at, hard=True, rung=rung))
        seen.append(assessor.active[0].finding.rung)
    assert seen == [Rung.OPEN, *[Rung.THROTTLE] * 3, Rung.STOP, Rung.STOP]


def test_growing_worse_is_said_once_and_easing_is_not() -> None:
    """An anomaly becomes critical at the first critical finding, and stays so until it clears."""
    assessor = Assessor({}, RULE)
    raised(assessor)
    assert assessor.observe(finding(1.0)) == []
    (change,) = assessor.observe(finding(2.0, Severity.CRITICAL))
    assert isinstance(change, Raised)
    assert change.anomaly.severity is Severity.CRITICAL
    assert change.anomaly.raised_at == 0.0
    assert assessor.observe(finding(3.0, Severity.CRITICAL)) == []
    assert assessor.observe(finding(4.0)) == []
    assert assessor.active[0].severity is Severity.CRITICAL
    assert assessor.active[0].last_bad_at == 4.0


def test_quiet_clears_and_a_good_finding_alone_does_not() -> None:
    """What counts is the time without a bad one."""
    assessor = Assessor({}, RULE)
    raised(assessor, 0.0)
    assessor.observe(finding(30.0))
    assert assessor.observe(finding(31.0, Severity.OK)) == []
    assert assessor.sweep(89.9) == []
    (change,) = assessor.sweep(90.0)
    assert isinstance(change, Cleared)
    assert change.reason == "quiet for 60 s"
    assert assessor.active == ()
    assert assessor.sweep(1e9) == []


def test_after_clearing_m_of_n_starts_afresh() -> None:
    """Bad findings from before do not help to raise it again."""
    assessor = Assessor({}, RULE)
    assessor.observe(finding(0.0))
    assessor.observe(finding(1.0))
    assessor.sweep(100.0)
    assert assessor.observe(finding(101.0)) == []
    assert assessor.observe(finding(102.0)) != []


def test_what_flaps_is_held_longer_each_time_up_to_a_cap() -> None:
    """60, 120, 240, then the cap; and after a quiet window it starts over."""
    rule = hysteresis(1, 1, 60.0, flap_window_seconds=3_600.0, flap_hold_max_seconds=300.0)
    assessor = Assessor({}, rule)
    now = 0.0
    needed = []
    for _ in range(5):
        anomaly = raised(assessor, now)
        needed.append(assessor.quiet_needed(anomaly))
        assert assessor.sweep(now + needed[-1] - 0.1) == []
        now += needed[-1]
        assert len(assessor.sweep(now)) == 1
    assert needed == [60.0, 120.0, 240.0, 300.0, 300.0]
    assert assessor.quiet_needed(raised(assessor, now + 3_600.0)) == 60.0


@pytest.mark.parametrize(("later", "needed"), [(3_599.5, 120.0), (3_600.0, 60.0), (3_600.5, 60.0)])
def test_a_comeback_after_the_window_is_none(later: float, needed: float) -> None:
    """The window has passed when it is over: what comes back then begins anew."""
    assessor = Assessor({}, hysteresis(1, 1, 60.0, flap_window_seconds=3_600.0))
    raised(assessor, 100.0)
    assert len(assessor.sweep(160.0)) == 1
    assert assessor.quiet_needed(raised(assessor, 100.0 + later)) == needed


def test_a_cap_below_the_quiet_time_does_not_shorten_it() -> None:
    """The hold is never less than a first clearing needs."""
    assessor = Assessor({}, hysteresis(1, 1, 60.0, flap_hold_max_seconds=5.0))
    assert assessor.quiet_needed(raised(assessor)) == 60.0


def test_many_comebacks_do_not_overflow() -> None:
    """A thousand raises in an hour are still a number of seconds."""
    assessor = Assessor({}, RULE)
    assert assessor.quiet_needed(Anomaly(finding(0.0), 0.0, 0.0, raises=10_000)) == 1_800.0


def test_a_blind_probe_is_not_quiet() -> None:
    """Not seeing is not seeing nothing: only its own anomalies wait for it."""
    assessor = Assessor({}, RULE)
    raised(assessor)
    other = Finding("vram", "wargame", Severity.ANOMALY, 0.0, hard=True)
    assessor.observe(other)
    assert [change.anomaly.key for change in assessor.sweep(100.0, {"burn"})] == [other.key]
    assert len(assessor.sweep(101.0)) == 1


def test_acknowledging_clears_one_subsystem() -> None:
    """A person's word clears all of a subsystem's anomalies and no other's."""
    assessor = Assessor({}, RULE)
    raised(assessor)
    assessor.observe(Finding("vram", "wargame", Severity.CRITICAL, 0.0, hard=True))
    assessor.observe(finding(0.0, hard=True, subsystem="chat"))
    changes = assessor.acknowledge("wargame", "released by alice")
    assert {change.anomaly.key.probe for change in changes} == {"burn", "vram"}
    assert {change.reason for change in changes if isinstance(change, Cleared)} == {"released by alice"}
    assert [anomaly.key.subsystem for anomaly in assessor.active] == ["chat"]


def test_dismissing_clears_what_is_named_and_it_must_be_found_again() -> None:
    """A recovery starts with a clean slate for what it repaired, and one bad finding is not yet an anomaly."""
    assessor = Assessor({}, RULE)
    anomaly = raised(assessor)
    raised_too = assessor.observe(finding(0.0, hard=True, subsystem="chat"))
    assert [change.anomaly for change in assessor.dismiss({anomaly.key}, "repaired")] == [anomaly]
    assert len(raised_too) == len(assessor.active) == 1
    assert assessor.observe(finding(1.0)) == []
    assert assessor.observe(finding(2.0)) != []


def test_a_new_life_takes_back_what_the_former_had_raised() -> None:
    """After a restart the anomaly still holds, clears by its own quiet time, and remembers its flapping."""
    former = Assessor({}, RULE)
    raised(former, 0.0)
    former.sweep(60.0)
    kept = raised(former, 61.0)
    assert kept.raises == 2
    later = Assessor({}, RULE)
    later.restore(former.active)
    assert later.active == former.active
    assert later.sweep(61.0 + 119.0) == []
    assert len(later.sweep(61.0 + 120.0)) == 1
    assert raised(later, 200.0).raises == 3


def test_each_probe_has_its_own_rule() -> None:
    """The default serves the probes that configuration does not name."""
    assessor = Assessor({"burn": hysteresis(1, 1)}, RULE)
    assert assessor.observe(finding(0.0)) != []
    assert assessor.observe(Finding("vram", "wargame", Severity.ANOMALY, 0.0)) == []
    assert assessor.rule("vram") == RULE


def test_a_rule_that_could_never_raise_is_refused() -> None:
    """Looking back at nothing, or for ever; three of two is refused by the configuration's checks."""
    for key, value in (("raise_after", -1), ("out_of", 0), ("out_of", LONGEST_MEMORY + 1)):
        with pytest.raises(msgspec.ValidationError, match=rf"`\$\.{key}`"):
            msgspec.convert(msgspec.to_builtins(RULE) | {key: value}, Hysteresis)


def test_none_of_any_is_only_looked_at() -> None:
    """Nothing is raised by it, however hard the fact; what had been raised before is not kept up, and clears."""
    assessor = Assessor({}, RULE)
    raised(assessor, 0.0)
    assessor.configure({}, hysteresis(raise_after=0, clear_after_seconds=60.0))
    assert len(assessor.active) == 1
    assert assessor.observe(finding(59.0, Severity.CRITICAL)) == []
    assert [type(change) for change in assessor.sweep(60.0)] == [Cleared]
    assert assessor.observe(finding(61.0, Severity.CRITICAL, hard=True)) == []
    assert assessor.active == ()


def test_a_late_finding_does_not_turn_back_the_clock() -> None:
    """Two reporters may deliver out of order; the latest bad time counts."""
    assessor = Assessor({}, RULE)
    raised(assessor, 100.0)
    assessor.observe(finding(50.0))
    assert assessor.active[0].last_bad_at == 100.0


@dataclass
class Model:
    """What a reader of the docstrings expects, kept the long way."""

    bad: list[bool]
    last_bad: float = 0.0


steps = st.lists(st.tuples(st.sampled_from("obb!gws"), st.floats(0.1, 50.0)), min_size=1, max_size=60)


@given(steps, st.integers(1, 3), st.integers(0, 3), st.floats(1.0, 100.0))
def test_never_raised_below_m_of_n_and_never_cleared_without_its_quiet(
    events: list[tuple[str, float]], raise_after: int, more: int, clear_after: float
) -> None:
    """For any history: raised only on m of n or a hard fact, cleared only after at least its quiet time."""
    rule = hysteresis(raise_after, raise_after + more, clear_after)
    assessor = Assessor({}, rule)
    model = Model([])
    now = 0.0
    kinds = {"b": Severity.ANOMALY, "!": Severity.CRITICAL, "g": Severity.OK, "w": Severity.WARNING}
    for kind, passed in events:
        now += passed
        if kind in "so":
            blind = {"burn"} if kind == "o" else set()
            for change in assessor.sweep(now, blind):
                assert isinstance(change, Cleared)
                assert not blind
                assert now - model.last_bad >= clear_after
                model.bad = []
            continue
        before = bool(assessor.active)
        changes = assessor.observe(finding(now, kinds[kind], hard=kind == "!"))
        model.bad.append(kind in "b!")
        if kind in "b!":
            model.last_bad = now
        expected = kind in "b!" and (kind == "!" or sum(model.bad[-rule.out_of :]) >= raise_after)
        if not before:
            assert bool(changes) is expected
        assert all(isinstance(change, Raised) for change in changes)
        assert bool(assessor.active) is (before or expected)
