"""Whether a process that ended is started again, and when. Pure: facts in, a verdict out."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from epad.config import RestartConfig

ENDED_ON_PURPOSE = "the daemon ended it"
NEVER = "restart policy is never"
SUCCEEDED = "it ended successfully"
WITHIN_BUDGET = "restart within budget"
BUDGET_SPENT = "restart budget spent"

# Nomad's share: enough that subsystems felled together do not come back together.
JITTER_RATIO = 0.25
# 2^30 times any back-off is beyond any limit, and still a float.
_MAX_DOUBLINGS = 30


class Decision(StrEnum):
    """What becomes of a process that ended."""

    RESTART = "restart"
    LEAVE = "leave"
    GIVE_UP = "give_up"


@dataclass(frozen=True, slots=True)
class History:
    """Earlier restarts: when, within the period; and how many since the last healthy time."""

    restarted_at: tuple[float, ...] = ()
    in_a_row: int = 0


@dataclass(frozen=True, slots=True)
class Ending:
    """How a process ended. `succeeded` is None where nobody saw its status."""

    at: float
    started_at: float
    wanted: bool
    succeeded: bool | None


@dataclass(frozen=True, slots=True)
class Verdict:
    """What to do, after how long, why, and the history from now on."""

    decision: Decision
    delay_seconds: float
    reason: str
    history: History


def decide(config: RestartConfig, history: History, ending: Ending, chance: float) -> Verdict:
    """Judge one ending. `chance`, in 0 to 1, is the jitter's random part.

    More than `intensity` restarts within `period_seconds` is giving up, as in OTP; an end whose status is
    unknown counts as a failure; an end the daemon wanted is no crash and changes nothing.
    """
    if ending.wanted:
        return Verdict(Decision.LEAVE, 0.0, ENDED_ON_PURPOSE, history)
    if config.policy != "always" and ending.succeeded:
        return Verdict(Decision.LEAVE, 0.0, SUCCEEDED, History())
    if config.policy == "never":
        return Verdict(Decision.LEAVE, 0.0, NEVER, history)
    healthy = ending.at - ending.started_at >= config.healthy_seconds
    before = History() if healthy else history
    recent = tuple(at for at in before.restarted_at if ending.at - at < config.period_seconds)
    if len(recent) >= config.intensity:
        return Verdict(Decision.GIVE_UP, 0.0, BUDGET_SPENT, History(recent, before.in_a_row))
    after = History((*recent, ending.at), before.in_a_row + 1)
    return Verdict(Decision.RESTART, _delay_seconds(config, before.in_a_row, chance), WITHIN_BUDGET, after)


def _delay_seconds(config: RestartConfig, in_a_row: int, chance: float) -> float:
    base: float = config.backoff_seconds * 2 ** min(in_a_row, _MAX_DOUBLINGS)
    return min(base * (1 + JITTER_RATIO * chance), config.backoff_max_seconds)
