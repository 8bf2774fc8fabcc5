"""Decide if an ended process is started again, and when. Pure: facts in, a verdict out."""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum

from epad.configuration.schema import RestartConfig

ENDED_ON_PURPOSE = "the daemon ended it"
NEVER = "restart policy is never"
SUCCEEDED = "it ended successfully"
WITHIN_BUDGET = "restart within budget"
BUDGET_SPENT = "restart budget spent"
NEVER_HEALTHY = "it never ran healthily"

# Nomad's share: enough that subsystems felled together do not come back together.
JITTER_RATIO = 0.25
# 2^30 times any back-off is beyond any limit, and still a float.
_MAX_DOUBLINGS = 30
# Of so many failed runs the lives are remembered: enough to say how long it lives.
LIVES_REMEMBERED = 16
_HOUR_SECONDS = 3_600.0


class Decision(StrEnum):
    """Names the next step for a process that ended."""

    RESTART = "restart"
    LEAVE = "leave"
    GIVE_UP = "give_up"


@dataclass(frozen=True, slots=True)
class History:
    """Earlier restarts: when, within the period; how many since the last healthy run; how long those runs lasted.

    `failed_at` are the failures of the last hour, healthy runs between them or not: a daemon that comes back tells
    the cascade probe of them, which remembers nothing itself.
    """

    restarted_at: tuple[float, ...] = ()
    in_a_row: int = 0
    lives: tuple[float, ...] = ()
    failed_at: tuple[float, ...] = ()

    def for_trial(self) -> History:
        """Return the history with which a recovery starts it: an unspent budget, in a row that goes on.

        Only a healthy run ends the row. Without that, a loop that outlives the recovery's verification would begin
        anew with each of them, and no row would ever be long.
        """
        return replace(self, restarted_at=())


@dataclass(frozen=True, slots=True)
class Ending:
    """Describes a process's end. `succeeded` is None if its status is unknown; `ready` tells if it had become ready."""

    at: float
    started_at: float
    wanted: bool
    succeeded: bool | None
    ready: bool = True

    @property
    def life_seconds(self) -> float:
        return max(0.0, self.at - self.started_at)


@dataclass(frozen=True, slots=True)
class Verdict:
    """Holds the decision, its delay and reason, and the history from now on."""

    decision: Decision
    delay_seconds: float
    reason: str
    history: History


def decide(config: RestartConfig, history: History, ending: Ending, chance: float) -> Verdict:
    """Judge one ending. `chance`, in 0 to 1, is the jitter's random part.

    More than `intensity` restarts within `period_seconds` is giving up, as in OTP; and so are more than
    `failures_in_a_row` without a healthy run in between, however far apart they are: back-off and a slow start
    spread a loop over more than any period. An end whose status is unknown counts as a failure; an end the daemon
    wanted is no crash and changes nothing.
    """
    if ending.wanted:
        return Verdict(Decision.LEAVE, 0.0, ENDED_ON_PURPOSE, history)
    if config.policy != "always" and ending.succeeded:
        return Verdict(Decision.LEAVE, 0.0, SUCCEEDED, History())
    if config.policy == "never":
        return Verdict(Decision.LEAVE, 0.0, NEVER, history)
    before = History() if _was_healthy(config, ending) else history
    recent = tuple(at for at in before.restarted_at if ending.at - at < config.period_seconds)
    failed = History(
        recent,
        before.in_a_row,
        lives=(*before.lives, ending.life_seconds)[-LIVES_REMEMBERED:],
        failed_at=(*_within_an_hour(history.failed_at, ending.at), ending.at)[-LIVES_REMEMBERED:],
    )
    if len(recent) >= config.intensity:
        return Verdict(Decision.GIVE_UP, 0.0, BUDGET_SPENT, failed)
    if 0 < config.failures_in_a_row <= before.in_a_row:
        return Verdict(Decision.GIVE_UP, 0.0, NEVER_HEALTHY, failed)
    after = replace(failed, restarted_at=(*recent, ending.at), in_a_row=before.in_a_row + 1)
    return Verdict(Decision.RESTART, _delay_seconds(config, before.in_a_row, chance), WITHIN_BUDGET, after)


def _within_an_hour(times: tuple[float, ...], now: float) -> tuple[float, ...]:
    return tuple(at for at in times if now - at < _HOUR_SECONDS)


def in_words(config: RestartConfig, verdict: Verdict) -> str:
    """Say why no more starts are tried: the deaths, the length of the runs, and the limit that was reached."""
    lived = _lives_in_words(verdict.history.lives)
    if verdict.reason == BUDGET_SPENT:
        return f"{BUDGET_SPENT}: {config.intensity} in {config.period_seconds:g} s{lived}"
    died = f"died {verdict.history.in_a_row + 1} times in a row"
    return f"{NEVER_HEALTHY}: {died}{lived}, none was ready for {config.healthy_seconds:g} s"


def why_so(config: RestartConfig, verdict: Verdict) -> str:
    """Say why a process is started again, or is not."""
    return in_words(config, verdict) if verdict.decision is Decision.GIVE_UP else verdict.reason


def way_back(name: str) -> str:
    """Say what to do once no more starts are tried."""
    return f"mend that, then `epactl release {name}` and `epactl restart {name}`"


def _lives_in_words(lives: tuple[float, ...]) -> str:
    if not lives:
        return ""
    shortest, longest = round(min(lives)), round(max(lives))
    if longest <= max(1.25 * shortest, shortest + 1):
        return f", lives of about {longest} s"
    return f", lives of {shortest} to {longest} s"


def _was_healthy(config: RestartConfig, ending: Ending) -> bool:
    """Tell if a run is long enough to forget the failures before it. One that was never ready is not."""
    return ending.ready and ending.life_seconds >= config.healthy_seconds


def _delay_seconds(config: RestartConfig, in_a_row: int, chance: float) -> float:
    base: float = config.backoff_seconds * 2 ** min(in_a_row, _MAX_DOUBLINGS)
    return min(base * (1 + JITTER_RATIO * chance), config.backoff_max_seconds)
