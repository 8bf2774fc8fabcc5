"""The stages of a supervised process: each stage, each event, and the stage that an event leads to. Pure.

| stage | a process is there | it is left by |
|---|---|---|
| WAITING | no | a spawn, once the subsystem is launched and nothing bars it |
| BACKING_OFF | no | the end of its back-off after a failure |
| SPAWNING | being made | the spawn: done, or judged as a failed start |
| RUNNING | yes | a freeze, a stop, or its exit |
| FROZEN | yes, and it stands still | a thaw, a stop, or its exit |
| STOPPING | yes, until it has been ended | its exit |
| ENDED | no | the judgement of its exit |
| FINISHED | no: its policy does not start it again | a fresh start that a person or a recovery orders |
| FAILED | no, or one that SIGKILL does not end | a fresh start that a person or a recovery orders |

BACKING_OFF, FROZEN and ENDED are finer than the record on the disk (`records.py`): a back-off is not waited out by the
next daemon, and an exit that was not judged is judged by it.

Readiness and hanging are no stages: they are what a running process reports, or no longer reports, about itself.
Rejected: stages for them too, since a frozen process keeps its readiness, and each would be there twice.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum, StrEnum

from epad.supervisor.errors import SupervisorError


class Stage(StrEnum):
    """Names the known progress of a subsystem's process."""

    WAITING = "waiting"
    BACKING_OFF = "backing off"
    SPAWNING = "spawning"
    RUNNING = "running"
    FROZEN = "frozen"
    STOPPING = "stopping"
    ENDED = "ended"
    FINISHED = "finished"
    FAILED = "failed"


class Event(Enum):
    """Names what happens to a process; the value completes "it cannot ..."."""

    SPAWN = "be spawned"
    SPAWNED = "have been spawned"
    ADOPT = "be adopted"
    FREEZE = "be frozen"
    THAW = "be thawed"
    STOP = "be stopped"
    VANISH = "have vanished between two daemons"
    EXIT = "exit"
    REST = "be left until it is wanted again"
    RESTART = "be restarted after a back-off"
    BACKED_OFF = "have waited out its back-off"
    FINISH = "finish for good"
    FAIL = "fail for good"
    RENEW = "begin afresh"


HAS_PROCESS = frozenset({Stage.RUNNING, Stage.FROZEN, Stage.STOPPING})
"""The stages in which a process is there and is ours."""

TABLE: Mapping[Stage, Mapping[Event, Stage]] = {
    Stage.WAITING: {
        Event.SPAWN: Stage.SPAWNING,
        Event.ADOPT: Stage.RUNNING,  # one that no record speaks of
        Event.FAIL: Stage.FAILED,
        Event.RENEW: Stage.WAITING,
    },
    Stage.BACKING_OFF: {
        Event.BACKED_OFF: Stage.WAITING,
        Event.FAIL: Stage.FAILED,
        Event.RENEW: Stage.WAITING,
    },
    Stage.SPAWNING: {
        Event.SPAWNED: Stage.RUNNING,
        Event.ADOPT: Stage.RUNNING,
        Event.VANISH: Stage.WAITING,
        Event.EXIT: Stage.ENDED,
        Event.FAIL: Stage.FAILED,
        Event.RENEW: Stage.WAITING,
    },
    Stage.RUNNING: {
        Event.ADOPT: Stage.RUNNING,
        Event.FREEZE: Stage.FROZEN,
        Event.STOP: Stage.STOPPING,
        Event.EXIT: Stage.ENDED,
        Event.FAIL: Stage.FAILED,
    },
    Stage.FROZEN: {
        Event.ADOPT: Stage.FROZEN,
        Event.FREEZE: Stage.FROZEN,  # again: the last daemon may have died before it was done
        Event.THAW: Stage.RUNNING,
        Event.STOP: Stage.STOPPING,
        Event.EXIT: Stage.ENDED,
        Event.FAIL: Stage.FAILED,
    },
    Stage.STOPPING: {
        Event.ADOPT: Stage.STOPPING,
        Event.STOP: Stage.STOPPING,  # again, if it was cut short
        Event.VANISH: Stage.WAITING,
        Event.EXIT: Stage.ENDED,
        Event.FAIL: Stage.FAILED,
    },
    Stage.ENDED: {
        Event.REST: Stage.WAITING,
        Event.RESTART: Stage.BACKING_OFF,
        Event.FINISH: Stage.FINISHED,
        Event.FAIL: Stage.FAILED,
        Event.RENEW: Stage.WAITING,
    },
    Stage.FINISHED: {
        Event.FAIL: Stage.FAILED,
        Event.RENEW: Stage.WAITING,
    },
    Stage.FAILED: {
        Event.FAIL: Stage.FAILED,
        Event.RENEW: Stage.WAITING,
    },
}
"""The stage after each event that may come in a stage; an event that is not here cannot come in it."""


class StageError(SupervisorError):
    """An event came in a stage in which it cannot come: a fault of epad's own."""


def after(stage: Stage, event: Event) -> Stage:
    """Return the stage that an event leads to. Raises StageError for an event that cannot come in this one."""
    try:
        return TABLE[stage][event]
    except KeyError:
        raise StageError(f"a process that is {stage} cannot {event.value}") from None
