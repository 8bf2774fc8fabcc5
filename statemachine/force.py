"""A forced move: a person spares the waiting, and nothing else.

Once its times had passed (the dwell, the verification, the limit of a quarantine) the table would take a row by itself;
a person may have that row taken now. Every other fact of a guard stays as it is, so no forced move does more than the
daemon would: none leaves an anomaly behind, recovers unsaved data, or reaches LIFEBOAT past the persist step.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from statemachine.phase import Phase
from statemachine.policy import decide
from statemachine.situation import Limits, Persist, Situation
from statemachine.table import Row, rows_from


def force(now: Situation, wanted: Phase, limits: Limits) -> tuple[Row, Situation] | None:
    """The row that leads to `wanted` without waiting, and the situation in which its guard holds; None if none does."""
    for hastened in _hastened(now, limits):
        row = decide(hastened, limits)
        if row is not None and row.destination is wanted:
            return row, hastened
    return None


def refusal(now: Situation, wanted: Phase, limits: Limits) -> str:
    """Say why `wanted` cannot be forced, and which order leads there instead; empty if it can."""
    if force(now, wanted, limits) is not None:
        return ""
    if wanted is now.phase and wanted is not Phase.RECOVERY:
        return f"the phase is {wanted} already"
    if now.phase is Phase.LIFEBOAT:
        return "LIFEBOAT is left by `epactl lifeboat relaunch`"
    if wanted is Phase.LIFEBOAT:
        return "`epactl lifeboat enter` goes there, and saves what is critical first"
    if not any(row.destination is wanted for row in rows_from(now.phase)):
        return f"no row of the table leads from {now.phase} to {wanted}"
    return _lacking(now, wanted) or _foreseen(now, wanted, limits)


def _hastened(now: Situation, limits: Limits) -> Iterator[Situation]:
    """The situation with its waiting over: the times on the way down, then also the one on the way up."""
    rested = replace(
        now,
        in_phase_seconds=max(now.in_phase_seconds, limits.dwell_seconds),
        quiet_seconds=max(now.quiet_seconds, limits.verify_seconds),
        since_attempt_seconds=max(now.since_attempt_seconds, limits.verify_seconds),
    )
    yield rested
    # An age of 0 says that there is no anomaly whose time could run out.
    if now.oldest_anomaly_seconds > 0:
        oldest = max(now.oldest_anomaly_seconds, limits.quarantine_limit_seconds)
        yield replace(rested, oldest_anomaly_seconds=oldest)


def _lacking(now: Situation, wanted: Phase) -> str:
    """Name the obstacle other than time; empty if it has no name of its own."""
    sound, plural = now.anomalies == 0, "anomaly" if now.anomalies == 1 else "anomalies"
    trouble = f"{now.anomalies} active {plural}, and only waiting can be spared"
    obstacles = (
        (now.persist is Persist.RUNNING, "the checkpoint is being made; wait for it"),
        (now.attempt_running, "a recovery attempt is running; wait for its end"),
        (wanted is Phase.NORMAL and not sound, f"{trouble}: `epactl release NAME` ends one"),
        (
            wanted is Phase.QUARANTINE and sound,
            "nothing is wrong; `epactl quarantine NAME` holds a subsystem",
        ),
        (
            wanted is Phase.PRESERVATION and sound,
            "nothing is wrong; `epactl checkpoint create` saves the state",
        ),
        (
            wanted is Phase.RECOVERY and not now.degraded,
            "nothing is broken; `epactl restart NAME` starts one anew",
        ),
    )
    return next((text for stands, text in obstacles if stands), "")


def _foreseen(now: Situation, wanted: Phase, limits: Limits) -> str:
    """Name the move that the table makes next instead."""
    for hastened in _hastened(now, limits):
        row = decide(hastened, limits)
        if row is not None:
            return f"what follows now is {row.destination} [{row.guard}]: {row.sentence}"
    guards = ", ".join(row.guard for row in rows_from(now.phase) if row.destination is wanted)
    return f"[{guards}] does not hold, whatever time passes; `epactl explain` says how things are"
