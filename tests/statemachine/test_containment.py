"""The containment ladder."""

from __future__ import annotations

import itertools
from dataclasses import replace
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from statemachine.assessor import Anomaly
from statemachine.containment import Containable, Hold, Rung, desired_holds
from statemachine.finding import HOST, Finding, Severity
from statemachine.phase import Phase
from statemachine.rung import RungName

PROCESS = Containable("wargame", essential=False, has_process=True)
ESSENTIAL = Containable("model", essential=True, has_process=True)
CLIENT = Containable("chat", essential=False, has_process=False)
RUNGS = {
    "burn": Rung.FREEZE,
    "vram": Rung.BLOCK,
    "slow": Rung.THROTTLE,
    "cascade": Rung.STOP,
    "own": Rung.OPEN,
}


def anomaly(probe: str, subsystem: str) -> Anomaly:
    return Anomaly(Finding(probe, subsystem, Severity.ANOMALY, 0.0, f"{probe} of {subsystem}"), 0.0, 0.0)


def hold(subsystem: Containable, *probes: str, phase: Phase = Phase.QUARANTINE, parked: bool = False) -> Hold:
    anomalies = [anomaly(probe, subsystem.name) for probe in probes]
    reasons = {subsystem.name: "parked after 2 attempts"} if parked else {}
    return desired_holds([subsystem], anomalies, phase, RUNGS, reasons)[subsystem.name]


@pytest.mark.parametrize("probes", list(itertools.permutations(["slow", "vram", "burn"])))
def test_the_highest_rung_wins_with_its_own_reason(probes: tuple[str, ...]) -> None:
    """Whatever the order, the firmest hold and the sentence that goes with it."""
    assert hold(PROCESS, *probes) == Hold(Rung.FREEZE, "burn of wargame")


def test_without_trouble_nothing_is_held() -> None:
    """An open hold needs no reason."""
    for phase in (Phase.NORMAL, Phase.QUARANTINE, Phase.RECOVERY):
        assert hold(PROCESS, phase=phase) == Hold(Rung.OPEN)


def test_an_anomaly_holds_its_own_subsystem_alone() -> None:
    """Neighbours, and the host's own trouble, leave a subsystem open."""
    holds = desired_holds(
        [PROCESS, ESSENTIAL, CLIENT],
        [anomaly("burn", "wargame"), anomaly("cascade", HOST)],
        Phase.QUARANTINE,
        RUNGS,
        {},
    )
    assert {name: h.rung for name, h in holds.items()} == {
        "wargame": Rung.FREEZE,
        "model": Rung.OPEN,
        "chat": Rung.OPEN,
    }


def test_a_probe_without_a_rung_blocks() -> None:
    """What nobody configured is held where it does no harm and costs nothing."""
    assert hold(PROCESS, "unheard-of").rung is Rung.BLOCK


@pytest.mark.parametrize("probe", ["burn", "cascade"])
def test_a_client_is_never_held_above_block(probe: str) -> None:
    """There is no process to freeze or stop; the reason stays."""
    assert hold(CLIENT, probe) == Hold(Rung.BLOCK, f"{probe} of chat")
    assert hold(CLIENT, phase=Phase.LIFEBOAT).rung is Rung.BLOCK
    assert hold(CLIENT, parked=True).rung is Rung.BLOCK
    assert hold(CLIENT, "slow").rung is Rung.THROTTLE


def test_preservation_pauses_what_says_that_it_may_be_paused() -> None:
    """`essential` says nothing about that: a bystander runs on, and so does a wargame that nobody marked."""
    for bystander in (PROCESS, ESSENTIAL, CLIENT):
        assert hold(bystander, phase=Phase.PRESERVATION).rung is Rung.OPEN
        assert hold(replace(bystander, background=True), phase=Phase.QUARANTINE).rung is Rung.OPEN
        marked = hold(replace(bystander, background=True), phase=Phase.PRESERVATION)
        assert marked.rung is (Rung.FREEZE if bystander.has_process else Rung.BLOCK)
        assert marked.paused
    assert hold(PROCESS, "cascade", phase=Phase.PRESERVATION).rung is Rung.STOP
    assert hold(ESSENTIAL, "burn", phase=Phase.PRESERVATION).rung is Rung.FREEZE


@pytest.mark.parametrize(
    ("probe", "unit", "short"),
    [
        ("host", "bytes", True),
        ("host", "ratio", True),
        ("memory", "", True),
        ("vram", "ratio", True),
        ("vram", "gpus", False),
        ("vram", "xid", False),
        ("ledger_integrity", "records", False),
        ("cascade", "subsystems", False),
        ("checkpoint", "", False),
    ],
)
def test_only_a_host_that_is_short_pauses_others_and_never_a_provider(
    probe: str, unit: str, short: bool
) -> None:
    """Nobody gives room back to a broken GPU; and a frozen provider gives nothing back and stops its users."""
    found = [Anomaly(Finding(probe, HOST, Severity.ANOMALY, 0.0, "why", unit=unit), 0.0, 0.0)]
    needed = replace(ESSENTIAL, needed=True)
    holds = desired_holds([PROCESS, ESSENTIAL, needed], found, Phase.PRESERVATION, RUNGS, {})
    assert holds["wargame"].rung is (Rung.FREEZE if short else Rung.OPEN)
    assert holds["model"].rung is Rung.OPEN
    assert desired_holds([PROCESS], found, Phase.QUARANTINE, RUNGS, {})["wargame"].rung is Rung.OPEN


def test_what_recovery_gave_up_on_is_stopped() -> None:
    """Parked means stopped, with the reason it was parked for."""
    assert hold(PROCESS, "burn", parked=True) == Hold(Rung.STOP, "parked after 2 attempts")


@pytest.mark.parametrize("subsystem", [PROCESS, ESSENTIAL])
def test_the_lifeboat_stops_everything(subsystem: Containable) -> None:
    """Essential or not."""
    assert hold(subsystem, phase=Phase.LIFEBOAT).rung is Rung.STOP


@given(
    st.lists(st.sampled_from([*RUNGS, "unheard-of"]), max_size=6),
    st.sampled_from(list(Phase)),
    st.sampled_from([PROCESS, ESSENTIAL, CLIENT]),
    st.booleans(),
)
def test_more_trouble_never_loosens_a_hold(
    probes: list[str], phase: Phase, subsystem: Containable, parked: bool
) -> None:
    """The ladder is monotonic, and each hold above open says why."""
    all_of_it = hold(subsystem, *probes, phase=phase, parked=parked)
    for count in range(len(probes)):
        assert hold(subsystem, *probes[:count], phase=phase).rung <= all_of_it.rung
    assert all_of_it.rung is Rung.OPEN or all_of_it.reason
    assert subsystem.has_process or all_of_it.rung <= Rung.BLOCK


@pytest.mark.parametrize(
    ("named", "expected"),
    [(Rung.THROTTLE, Rung.THROTTLE), (Rung.FREEZE, Rung.FREEZE), (Rung.OPEN, Rung.OPEN), (None, Rung.BLOCK)],
)
def test_a_finding_may_name_its_own_rung(named: Rung | None, expected: Rung) -> None:
    """It stands for the probe's rung, looser or firmer."""
    finding = Finding("vram", "wargame", Severity.ANOMALY, 0.0, "why", rung=named)
    holds = desired_holds([PROCESS], [Anomaly(finding, 0.0, 0.0)], Phase.QUARANTINE, RUNGS, {})
    assert holds["wargame"].rung is expected


def test_a_named_rung_does_not_loosen_what_another_anomaly_asks_for() -> None:
    """The firmest still wins, and a client is still not held above block."""
    gentle = Finding("vram", "wargame", Severity.ANOMALY, 0.0, "why", rung=Rung.THROTTLE)
    anomalies = [Anomaly(gentle, 0.0, 0.0), anomaly("burn", "wargame")]
    holds = desired_holds([PROCESS], anomalies, Phase.QUARANTINE, RUNGS, {})
    assert holds["wargame"] == Hold(Rung.FREEZE, "burn of wargame")
    firm = Finding("slow", "chat", Severity.ANOMALY, 0.0, "why", rung=Rung.STOP)
    holds = desired_holds([CLIENT], [Anomaly(firm, 0.0, 0.0)], Phase.QUARANTINE, RUNGS, {})
    assert holds["chat"] == Hold(Rung.BLOCK, "why")


def test_labels_are_the_words_of_the_configuration() -> None:
    """In the order of the ladder, and the same that a configuration may name."""
    labels = [rung.label for rung in sorted(Rung)]
    assert labels == ["open", "throttle", "block", "freeze", "release_vram", "stop"]
    assert labels == list(get_args(RungName))


def test_holds_of_a_parent_are_its_agents_too() -> None:
    """The firmest of all counts, through any depth, with whose it is; and nothing goes the other way."""
    child = Containable("coder-1", essential=False, has_process=True, parent="chat")
    below = Containable("scout-2", essential=False, has_process=True, parent="coder-1")
    those, quarantine = [CLIENT, PROCESS, child, below], Phase.QUARANTINE
    holds = desired_holds(those, [anomaly("burn", "chat")], quarantine, RUNGS, {})
    assert holds["chat"].rung is Rung.BLOCK
    assert holds["coder-1"].rung is holds["scout-2"].rung is Rung.BLOCK
    assert holds["coder-1"].reason == "its parent chat is held: burn of chat"
    assert holds["wargame"].rung is Rung.OPEN
    holds = desired_holds(
        those, [anomaly("vram", "chat"), anomaly("cascade", "scout-2")], quarantine, RUNGS, {}
    )
    assert (holds["coder-1"].rung, holds["scout-2"].rung) == (Rung.BLOCK, Rung.STOP)
