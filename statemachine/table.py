"""The one transition table: data, in order of priority. Everything about *when* the phase changes is here.

For the present phase, the first row whose guard holds is taken. Guards are pure functions of a `Situation`
and the configured `Limits`; each is named in its row, so that the table can be printed, drawn and walked.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType

from statemachine.phase import Phase
from statemachine.situation import Limits, Order, Persist, Situation

Guard = Callable[[Situation, Limits], bool]


class Trigger(StrEnum):
    """The events of the machine."""

    ISOLATE = "isolate"
    PRESERVE = "preserve"
    RECOVER = "recover"
    RETRY = "retry"
    STEP_DOWN = "step_down"
    RESUME = "resume"
    ABANDON = "abandon"
    RELAUNCH = "relaunch"


@dataclass(frozen=True, slots=True)
class Row:
    """Describes one permitted transition: source, trigger, destination, guard, and the sentence that explains it."""

    source: Phase
    trigger: Trigger
    destination: Phase
    guard: str
    sentence: str


TABLE: tuple[Row, ...] = (
    Row(Phase.NORMAL, Trigger.ABANDON, Phase.LIFEBOAT, "hopeless", "nothing can be persisted any more"),
    Row(Phase.NORMAL, Trigger.PRESERVE, Phase.PRESERVATION, "boarding", "an operator ordered the lifeboat"),
    Row(Phase.NORMAL, Trigger.PRESERVE, Phase.PRESERVATION, "grave", "the trouble is critical or not alone"),
    Row(Phase.NORMAL, Trigger.ISOLATE, Phase.QUARANTINE, "troubled", "one subsystem misbehaves"),
    Row(Phase.QUARANTINE, Trigger.ABANDON, Phase.LIFEBOAT, "hopeless", "nothing can be persisted any more"),
    Row(
        Phase.QUARANTINE, Trigger.PRESERVE, Phase.PRESERVATION, "boarding", "an operator ordered the lifeboat"
    ),
    Row(
        Phase.QUARANTINE,
        Trigger.PRESERVE,
        Phase.PRESERVATION,
        "grave",
        "the trouble is critical or not alone",
    ),
    Row(
        Phase.QUARANTINE,
        Trigger.PRESERVE,
        Phase.PRESERVATION,
        "outlasted",
        "the quarantine outlasts its limit",
    ),
    Row(Phase.QUARANTINE, Trigger.RESUME, Phase.NORMAL, "settled", "the anomaly has cleared"),
    Row(Phase.PRESERVATION, Trigger.ABANDON, Phase.LIFEBOAT, "hopeless", "the state could not be persisted"),
    Row(
        Phase.PRESERVATION, Trigger.ABANDON, Phase.LIFEBOAT, "ordered_out", "an operator ordered the lifeboat"
    ),
    Row(
        Phase.PRESERVATION, Trigger.RECOVER, Phase.RECOVERY, "degraded", "state is safe, something is broken"
    ),
    Row(
        Phase.PRESERVATION, Trigger.STEP_DOWN, Phase.QUARANTINE, "eased", "state is safe, one trouble is left"
    ),
    Row(
        Phase.PRESERVATION,
        Trigger.RESUME,
        Phase.NORMAL,
        "settled",
        "state is safe, the anomalies have cleared",
    ),
    Row(Phase.RECOVERY, Trigger.ABANDON, Phase.LIFEBOAT, "hopeless", "nothing can be persisted any more"),
    Row(Phase.RECOVERY, Trigger.ABANDON, Phase.LIFEBOAT, "ordered_out", "an operator ordered the lifeboat"),
    Row(
        Phase.RECOVERY,
        Trigger.ABANDON,
        Phase.LIFEBOAT,
        "spent",
        "recovery failed: attempts or time are spent",
    ),
    Row(
        Phase.RECOVERY,
        Trigger.RETRY,
        Phase.RECOVERY,
        "unhealed",
        "an attempt ended and something is still broken",
    ),
    Row(
        Phase.RECOVERY,
        Trigger.STEP_DOWN,
        Phase.QUARANTINE,
        "verified_held",
        "recovered; a subsystem waits for a person",
    ),
    Row(Phase.RECOVERY, Trigger.RESUME, Phase.NORMAL, "verified", "every probe has been clear for a while"),
    Row(Phase.LIFEBOAT, Trigger.RELAUNCH, Phase.NORMAL, "relaunched", "an operator ordered the relaunch"),
)
# NORMAL and QUARANTINE have no `ordered_out` row: an operator's lifeboat goes through the persist step too.


def hopeless(now: Situation, _: Limits) -> bool:
    """A persist step was tried and is recorded as failed."""
    return now.persist is Persist.FAILED


def ordered_out(now: Situation, _: Limits) -> bool:
    """The operator wants the lifeboat and the persist step has run."""
    return now.order is Order.LIFEBOAT and now.persist in {Persist.DONE, Persist.FAILED}


def boarding(now: Situation, _: Limits) -> bool:
    """The operator wants the lifeboat; the persist step comes first."""
    return now.order is Order.LIFEBOAT


def grave(now: Situation, _: Limits) -> bool:
    """Hold for one critical anomaly, or two independent troubles: roots count, symptoms do not."""
    return now.critical > 0 or now.anomalies - now.held - now.dependent >= _SEVERAL


def troubled(now: Situation, _: Limits) -> bool:
    """Hold for at least one anomaly; one that waits for a person counts."""
    return now.anomalies > 0


def outlasted(now: Situation, limits: Limits) -> bool:
    """An anomaly that waits for no person is older than a quarantine may last."""
    return now.oldest_anomaly_seconds >= limits.quarantine_limit_seconds


def settled(now: Situation, limits: Limits) -> bool:
    """Hold if nothing is wrong and the phase has lasted its dwell time."""
    return now.anomalies == 0 and _rested(now, limits) and now.persist is not Persist.RUNNING


def degraded(now: Situation, _: Limits) -> bool:
    """The persist step succeeded and something needs repair."""
    return now.persist is Persist.DONE and now.degraded > 0


def eased(now: Situation, limits: Limits) -> bool:
    """Persisted, nothing to repair, and only as much trouble left as a quarantine handles."""
    calm = not (grave(now, limits) or boarding(now, limits) or outlasted(now, limits))
    return now.persist is Persist.DONE and now.anomalies > 0 and calm and _rested(now, limits)


def spent(now: Situation, limits: Limits) -> bool:
    """No attempt is running, the last one did not heal, and none is left (or the time is up)."""
    if now.attempt_running or now.persist not in {Persist.DONE, Persist.FAILED}:
        return False
    out_of_time = now.in_phase_seconds >= limits.recovery_limit_seconds
    return _broken(now) and (_no_attempts_left(now, limits) or out_of_time) and _verdict_due(now, limits)


def unhealed(now: Situation, limits: Limits) -> bool:
    """An attempt has ended, its verdict is due, something is still broken, and an attempt is left."""
    waiting = now.attempt_running or not _verdict_due(now, limits)
    return _broken(now) and not waiting and not spent(now, limits)


def verified(now: Situation, limits: Limits) -> bool:
    """No attempt is running and every probe has been clear for the verification time."""
    return now.held == 0 and _healed(now, limits)


def verified_held(now: Situation, limits: Limits) -> bool:
    """The same, but a subsystem waits for a person."""
    return now.held > 0 and _healed(now, limits)


def relaunched(now: Situation, _: Limits) -> bool:
    """The operator ordered the relaunch."""
    return now.order is Order.RELAUNCH


def _rested(now: Situation, limits: Limits) -> bool:
    return now.in_phase_seconds >= limits.dwell_seconds


def _broken(now: Situation) -> bool:
    return now.degraded > 0 or now.anomalies > now.held


def _healed(now: Situation, limits: Limits) -> bool:
    verified_long_enough = now.quiet_seconds >= limits.verify_seconds
    rested = _rested(now, limits) and _verdict_due(now, limits)
    return not now.attempt_running and not _broken(now) and verified_long_enough and rested


def _verdict_due(now: Situation, limits: Limits) -> bool:
    return now.since_attempt_seconds >= limits.verify_seconds


def _no_attempts_left(now: Situation, limits: Limits) -> bool:
    return now.attempts >= limits.recovery_attempts or now.recent_recoveries > limits.recoveries_per_hour


_SEVERAL = 2

GUARDS: Mapping[str, Guard] = MappingProxyType(
    {
        guard.__name__: guard
        for guard in (
            hopeless,
            ordered_out,
            boarding,
            grave,
            troubled,
            outlasted,
            settled,
            degraded,
            eased,
            spent,
            unhealed,
            verified,
            verified_held,
            relaunched,
        )
    }
)


def rows_from(phase: Phase) -> tuple[Row, ...]:
    """Return the rows that leave a phase, first match first."""
    return tuple(row for row in TABLE if row.source is phase)


def mermaid() -> str:
    """Return the table as a Mermaid state diagram."""
    lines = ["stateDiagram-v2", f"    [*] --> {Phase.NORMAL}"]
    lines += [f"    {r.source} --> {r.destination}: {r.trigger} [{r.guard}]" for r in TABLE]
    return "\n".join(lines) + "\n"
