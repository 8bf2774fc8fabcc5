"""What hangs and what has failed is found; what is held, parked or merely slow is not."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from probes.all_clear import OKS_SAID
from probes.liveness import Liveness
from probes.subsystems import SubsystemSnapshot, SubsystemState
from statemachine.clock import ManualClock
from statemachine.finding import Finding, Severity

RUNNING = SubsystemSnapshot("model", "process", SubsystemState.RUNNING, essential=True, since=0.0, pid=7)


async def look(*snapshots: SubsystemSnapshot, parked: frozenset[str] = frozenset()) -> list[Finding]:
    probe = Liveness(1.0, snapshots=lambda: snapshots, parked=lambda: parked, clock=ManualClock())
    return list(await probe.sample())


@pytest.mark.parametrize(
    ("state", "essential", "severity"),
    [
        *(
            (state, essential, Severity.OK)
            for state in sorted(set(SubsystemState) - {SubsystemState.HUNG, SubsystemState.FAILED})
            for essential in (True, False)
        ),
        (SubsystemState.HUNG, True, Severity.ANOMALY),
        (SubsystemState.HUNG, False, Severity.ANOMALY),
        (SubsystemState.FAILED, True, Severity.CRITICAL),
        (SubsystemState.FAILED, False, Severity.ANOMALY),
    ],
)
async def test_each_state_has_its_severity(
    state: SubsystemState, *, essential: bool, severity: Severity
) -> None:
    """Every state there is; only what the house cannot do without is critical."""
    (finding,) = await look(replace(RUNNING, state=state, essential=essential))
    assert finding.severity is severity


async def test_what_the_cascade_probe_has_told_is_not_told_twice() -> None:
    """Two anomalies about one crash loop would be several troubles, and pause everything else."""
    failed = replace(RUNNING, state=SubsystemState.FAILED, essential=False, last_exit="exit 1")
    (finding,) = await look(failed)
    assert finding.severity is Severity.WARNING
    (finding,) = await look(replace(failed, essential=True))
    assert finding.severity is Severity.CRITICAL


async def test_the_reason_is_the_supervisors() -> None:
    """A person reads why, not only that."""
    (hung,) = await look(replace(RUNNING, state=SubsystemState.HUNG, hung_reason="no WATCHDOG=1 for 20 s"))
    assert hung.reason == "it hangs: no WATCHDOG=1 for 20 s"
    assert not hung.hard
    (failed,) = await look(
        replace(RUNNING, state=SubsystemState.FAILED, status_text="exit 1; restart budget spent")
    )
    assert failed.reason == "it has failed: exit 1; restart budget spent"
    assert failed.hard


async def test_what_is_parked_or_not_ours_is_let_be() -> None:
    """Recovery has given it up already; found again, it would take the whole house along."""
    failed = replace(RUNNING, state=SubsystemState.FAILED)
    assert await look(failed, parked=frozenset({"model"})) == []
    assert await look(replace(failed, kind="client")) == []


def test_an_interval_of_nothing_is_refused() -> None:
    """The configuration's bound, kept where it is used."""
    with pytest.raises(ValueError, match=r"probes\.liveness\.interval_seconds"):
        Liveness(0, snapshots=list, parked=list, clock=ManualClock())


async def test_nothing_is_said_of_what_epad_could_not_hear() -> None:
    """While its own loop stood still, silence is not the subsystem's; afterwards it counts as before."""
    lagged = True
    hung = replace(RUNNING, state=SubsystemState.HUNG)
    probe = Liveness(1.0, snapshots=lambda: [hung], parked=list, clock=ManualClock(), void=lambda *_: lagged)
    assert [f.severity for f in await probe.sample()] == [Severity.OK]
    lagged = False
    assert [f.severity for f in await probe.sample()] == [Severity.ANOMALY]


async def test_that_all_is_well_is_not_said_for_ever() -> None:
    """Once at first, and after each trouble as often as any rule looks back; trouble is always said."""
    state = [RUNNING]
    probe = Liveness(1.0, snapshots=lambda: state, parked=list, clock=ManualClock())
    assert [len(await probe.sample()) for _ in range(3)] == [1, 0, 0]
    state[0] = replace(RUNNING, state=SubsystemState.HUNG)
    assert [len(await probe.sample()) for _ in range(3)] == [1, 1, 1]
    state[0] = RUNNING
    said = [len(await probe.sample()) for _ in range(OKS_SAID + 5)]
    assert said == [1] * OKS_SAID + [0] * 5


async def test_a_victim_that_hangs_is_not_told_of_but_one_that_failed_is() -> None:
    """It waits for an upstream that does not answer; what has failed for good is down whoever is to blame."""
    for state, severity in ((SubsystemState.HUNG, Severity.OK), (SubsystemState.FAILED, Severity.CRITICAL)):
        probe = Liveness(
            1.0,
            snapshots=[replace(RUNNING, state=state)].copy,
            parked=frozenset,
            clock=ManualClock(),
            is_victim={"model"}.__contains__,
        )
        (finding,) = await probe.sample()
        assert finding.severity is severity
