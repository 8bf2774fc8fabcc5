"""Turn a look at all GPUs into findings."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from typing import Any

from probes.vram import NAME, GpuFailure, VramSettings, Xid
from probes.vram.attribution import FOREIGN, UNATTRIBUTED, GpuState
from statemachine.finding import HOST, Finding, Severity

MAX_NAMED = 16
"""How many GPUs and processes the evidence names."""

XID_FALLEN_OFF_THE_BUS = 79
XID_GRAVE = frozenset({48, 62, 64, 74, 79, 95, 119, 120})
"""Trouble of the card or the driver. Others (13, 31, 43) are a program's own fault, and that program fails."""


def judge(
    states: Sequence[GpuState],
    settings: VramSettings,
    now: float,
    *,
    concerned: Collection[str] = (),
    fills_by_design: Collection[str] = (),
) -> list[Finding]:
    """State the GPU in most trouble, for all of them: one finding for the host, one for each subsystem.

    Whatever the number of GPUs: they share one anomaly, and three cards that are fine would outvote a full one
    in every two of three. An anomaly is the subsystem's that gained most, the host's if it is nobody's of ours;
    `concerned` are those that need to hear that it is not theirs.
    """

    def severity_of(state: GpuState) -> Severity:
        return _severity(state, settings, fills_by_design)

    worst = max(states, key=lambda state: (severity_of(state), state.reading.ratio))
    severity = severity_of(worst)
    blamed = worst.culprit if severity >= Severity.ANOMALY else None
    if blamed in {FOREIGN, UNATTRIBUTED}:
        blamed = None
    named = {name for state in states for name in state.subsystems} | set(concerned)
    named |= {blamed} if blamed is not None else set()
    evidence = _evidence(worst, states)
    host = min(severity, Severity.WARNING) if blamed is not None else severity
    findings = [_finding(HOST, host, worst, settings, now, evidence)]
    for name in sorted(named):
        if name == blamed:
            findings.append(_finding(name, severity, worst, settings, now, evidence))
        else:
            held = sum(state.subsystems.get(name, 0) for state in states)
            reason = f"holds {held >> 20} MiB of VRAM"
            findings.append(Finding(NAME, name, Severity.OK, now, reason, value=held, unit="bytes"))
    return findings


def lost(failures: Iterable[GpuFailure], now: float) -> Finding:
    """State that GPUs are gone until the machine, or the card, is reset: a fact."""
    gone = list(failures)
    named = "; ".join(f"GPU {failure.gpu}: {failure.message}" for failure in gone[:MAX_NAMED])
    return Finding(
        NAME,
        HOST,
        Severity.CRITICAL,
        now,
        f"{named}: it needs a reset or a reboot",
        value=len(gone),
        limit=0,
        unit="gpus",
        evidence={"gpu": gone[0].gpu, "code": gone[0].code, "gpus": [f.gpu for f in gone[:MAX_NAMED]]},
        hard=True,
    )


def reported(xid: Xid, now: float) -> Finding:
    """State an error that the driver reported: a fact, and grave only if it is not a program's own fault."""
    severity, meaning = Severity.WARNING, "a program's fault, as a rule: look at what just failed"
    if xid.number in XID_GRAVE:
        severity, meaning = Severity.ANOMALY, "trouble of the card or its driver: look at dmesg"
    if xid.number == XID_FALLEN_OFF_THE_BUS:
        severity, meaning = Severity.CRITICAL, "it has fallen off the bus and needs a reboot"
    return Finding(
        NAME,
        HOST,
        severity,
        now,
        f"GPU {xid.gpu} reported Xid {xid.number}: {meaning}",
        value=xid.number,
        unit="xid",
        evidence={"gpu": xid.gpu, "xid": xid.number},
        hard=True,
    )


def _severity(state: GpuState, settings: VramSettings, fills_by_design: Collection[str] = ()) -> Severity:
    """A forecast alone warns, and so does a full card alone.

    Work that grows at first and then stays is everyday life. vLLM takes 0.9 of a card and a desktop the rest: an
    anomaly that never ends would have the policy freeze the house over it within the hour.
    """
    ratio, left = state.reading.ratio, state.exhaustion_seconds
    soon = left is not None and left <= settings.exhaustion_seconds
    if soon and ratio >= settings.warn_ratio:
        return Severity.ANOMALY
    filled_by = state.culprit
    innocent = {None, FOREIGN, UNATTRIBUTED, *fills_by_design}
    if ratio >= settings.limit_ratio and filled_by not in innocent:
        return Severity.ANOMALY
    ghosts = (state.reading.unattributed_bytes or 0) >= settings.ghost_bytes
    return Severity.WARNING if soon or ghosts or ratio >= settings.warn_ratio else Severity.OK


def _finding(
    subject: str,
    severity: Severity,
    worst: GpuState,
    settings: VramSettings,
    now: float,
    evidence: dict[str, Any],
) -> Finding:
    limits = settings
    return Finding(
        NAME,
        subject,
        severity,
        now,
        _reason(worst, settings),
        value=worst.reading.ratio,
        limit=limits.warn_ratio if severity is Severity.OK else limits.limit_ratio,
        unit="ratio",
        evidence=evidence,
    )


def _reason(state: GpuState, settings: VramSettings) -> str:
    reading, left = state.reading, state.exhaustion_seconds
    used = (reading.used_bytes + reading.reserved_bytes) >> 20
    text = f"GPU {reading.gpu} ({reading.name}) is {reading.ratio:.1%} full: {used} of {reading.total_bytes >> 20} MiB"
    if left is not None and left <= settings.exhaustion_seconds:
        text += f", none left in {left:.0f} s at this rate"
    if state.culprit is not None and _severity(state, settings) >= Severity.WARNING:
        gained = state.grown[state.culprit] >> 20
        text += f"; {_words(state.culprit)} gained {gained} MiB in {state.grown_seconds:.0f} s"
    ghosts = reading.unattributed_bytes or 0
    if ghosts >= settings.ghost_bytes:
        text += f"; {ghosts >> 20} MiB belong to no process"
    return text


def _words(owner: str) -> str:
    words = {FOREIGN: "programs that epad did not start", UNATTRIBUTED: "no process that the driver names"}
    return words.get(owner, owner)


def _evidence(worst: GpuState, states: Sequence[GpuState]) -> dict[str, Any]:
    reading = worst.reading
    processes = sorted(reading.processes or (), key=lambda process: -(process.used_bytes or 0))
    return {
        "gpu": reading.gpu,
        "uuid": reading.uuid,
        "used_bytes": reading.used_bytes,
        "reserved_bytes": reading.reserved_bytes,
        "total_bytes": reading.total_bytes,
        "unattributed_bytes": reading.unattributed_bytes,
        "subsystems": dict(worst.subsystems),
        "foreign_bytes": worst.foreign_bytes,
        "grown_bytes": {name: grown for name, grown in worst.grown.items() if grown},
        "grown_seconds": round(worst.grown_seconds, 1),
        "exhaustion_seconds": None if worst.exhaustion_seconds is None else round(worst.exhaustion_seconds),
        "processes": [[process.pid, process.used_bytes] for process in processes[:MAX_NAMED]],
        "ratios": [[state.reading.gpu, round(state.reading.ratio, 4)] for state in states[:MAX_NAMED]],
    }
