"""Decide the next step from a subsystem's intended state: values and pure functions."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum, auto
from pathlib import Path
from random import random

from structlog.typing import FilteringBoundLogger

from epad.configuration.directories import Directories
from epad.configuration.schema import SubsystemConfig
from epad.runtime.side_tasks import Tasks
from epad.supervisor.causes import OomKills
from epad.supervisor.cell_maker import CellMaker, NoCells
from epad.supervisor.engine import Engine
from epad.supervisor.health import Checker, NoChecker
from epad.supervisor.records import ProcessRecords
from epad.supervisor.stage import HAS_PROCESS, Stage
from epad.supervisor.start_check import NoStartCheck, StartCheck
from probes.subsystems import SubsystemObserver, SubsystemSnapshot, SubsystemState
from statemachine.clock import Clock
from statemachine.containment import Rung

Environment = Callable[[str], Awaitable[Mapping[str, str]]]
"""Gives a subsystem's extra environment, asked at each start."""

Remember = Callable[[str, Sequence[float]], None]
"""Told when a subsystem has failed before this daemon was started."""


def remember_nothing(_: str, __: Sequence[float]) -> None:
    """Do nothing with the former state."""


@dataclass(frozen=True, slots=True)
class Settings:
    """The supervisor's own times. A child is told `watchdog_seconds` and sends at least twice within it."""

    watch_seconds: float = 1.0
    watchdog_seconds: float = 15.0


@dataclass(frozen=True, slots=True)
class Room:
    """Holds the parts that every subsystem of one supervisor shares."""

    engine: Engine
    records: ProcessRecords
    directories: Directories
    environment: Environment
    output: Callable[[str], Path]
    environ: Mapping[str, str]
    clock: Clock
    observer: SubsystemObserver
    log: FilteringBoundLogger
    boot_id: str
    tasks: Tasks
    settings: Settings
    checker: Checker = field(default_factory=NoChecker)
    chance: Callable[[], float] = random
    oom_kills: OomKills = field(default_factory=OomKills)
    remember: Remember = remember_nothing
    cells: CellMaker = field(default_factory=NoCells)
    start_check: StartCheck = field(default_factory=NoStartCheck)


@dataclass(frozen=True, slots=True)
class Held:
    """The hold a subsystem is under. `paused` tells a pause for everybody's sake from a quarantine."""

    rung: Rung = Rung.OPEN
    reason: str = ""
    paused: bool = False


class Intent(Enum):
    """Names the intended state of a process: running, frozen, ended, or no longer ours."""

    RUN = auto()
    FREEZE = auto()
    DOWN = auto()
    LEAVE = auto()


class Step(Enum):
    """Names one move towards the intent."""

    NOTHING = auto()
    SPAWN = auto()
    FREEZE = auto()
    THAW = auto()
    STOP = auto()


def next_step(intent: Intent, stage: Stage, *, may_spawn: bool) -> Step:
    """Choose the next move, from facts alone; NOTHING once the intent is met or cannot be."""
    match intent, stage:
        case Intent.LEAVE, _:
            return Step.NOTHING
        case (_, Stage.STOPPING) | (Intent.DOWN, Stage.RUNNING | Stage.FROZEN):
            return Step.STOP  # in STOPPING again, if it was cut short
        case Intent.FREEZE, Stage.RUNNING:
            return Step.FREEZE
        case Intent.RUN, Stage.FROZEN:
            return Step.THAW
        case Intent.RUN, Stage.WAITING if may_spawn:
            return Step.SPAWN
        case _:
            return Step.NOTHING


@dataclass(frozen=True, slots=True)
class Facts:
    """What a process has reported of itself, or no longer reports."""

    ready: bool = False
    hung: bool = False
    restarted: bool = False


def shown_state(stage: Stage, facts: Facts, held: Held | None, *, is_ended: bool) -> SubsystemState:
    """Name the state of a subsystem for people: an end for good goes before a hold, and a hold before the rest."""
    if stage is Stage.FAILED:
        return SubsystemState.FAILED
    if stage is Stage.FINISHED or is_ended:
        return SubsystemState.STOPPED
    own = _own_state(stage, facts)
    return held_state(held, own) if held else own


def _own_state(stage: Stage, facts: Facts) -> SubsystemState:
    """Name its state without any hold."""
    if facts.hung:
        return SubsystemState.HUNG
    if stage in HAS_PROCESS and facts.ready:
        return SubsystemState.RUNNING
    return SubsystemState.RECOVERING if facts.restarted else SubsystemState.STARTING


def held_state(held: Held, otherwise: SubsystemState) -> SubsystemState:
    """Name the state that a hold puts a subsystem in; `otherwise` where it is not held."""
    match held.rung:
        case Rung.OPEN:
            return otherwise
        case Rung.THROTTLE:
            return SubsystemState.THROTTLED if otherwise is SubsystemState.RUNNING else otherwise
        case Rung.STOP:
            return SubsystemState.STOPPED
        case _:
            return SubsystemState.PAUSED if held.paused else SubsystemState.QUARANTINED


@dataclass(slots=True)
class ClientSubsystem:
    """A subsystem without a process of ours: an identity at the gateway, held there alone."""

    name: str
    spec: SubsystemConfig
    since: float
    held: Held = field(default_factory=Held)

    def hold(self, held: Held, now: float) -> None:
        if held_state(held, SubsystemState.RUNNING) is not self.state:
            self.since = now
        self.held = held

    @property
    def state(self) -> SubsystemState:
        return held_state(self.held, SubsystemState.RUNNING)

    def snapshot(self) -> SubsystemSnapshot:
        return SubsystemSnapshot(self.name, self.spec.kind, self.state, self.spec.essential, self.since)
