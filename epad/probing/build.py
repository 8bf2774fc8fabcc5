"""The probes, made from the configuration."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import structlog

from epad.configuration.directories import Directories
from epad.configuration.probe_schema import ProbesConfig
from epad.configuration.schema import Config, UpstreamConfig
from epad.control_loop.rules import make_enforcement
from epad.control_loop.world import Forgetful
from epad.ledger.integrity import Integrity
from epad.probing.cascade_signals import Looks, Sights, upstream_node
from epad.probing.host_reader import HostReader
from epad.probing.process_owners import ProcessOwners
from epad.probing.subsystem_index import Roster
from epad.runtime.timers import OncePerBeat
from epad.storage.event_log import EventKind, EventLog
from epad.supervisor.engine_choice import unit_tag
from epad.supervisor.footprints import FootprintReader, Workload
from epad.supervisor.identity import ProcessTable
from epad.supervisor.restart import SUCCEEDED
from probes.alerts import Alerts
from probes.cascade import Cascade, Neighbourhood
from probes.conversation import ConversationHealth
from probes.datastore import DatastoreIntegrity
from probes.egress import Egress
from probes.host import Host
from probes.intent import Intent
from probes.ledger_integrity import LedgerIntegrity
from probes.liveness import Liveness
from probes.loop_lag import LoopLag
from probes.memory import Memory, MemoryReading
from probes.probe import Probe, Push
from probes.progress import Progress
from probes.subsystems import Snapshots
from probes.token_burn import NAME as TOKEN_BURN
from probes.token_burn import Detector, TokenBurn
from probes.tools import Tools
from probes.turns import TurnObserver
from probes.vault import VaultIntegrity
from probes.vram import VramSettings
from probes.vram.amd import AmdGpus, cards
from probes.vram.attribution import OwnerOf
from probes.vram.nvidia import NvidiaGpus
from probes.vram.probe import Vram
from probes.vram.prober import DriverProber, worker
from probes.vram.source import GpuSource
from statemachine.assessor import Assessor, Hysteresis
from statemachine.clock import Clock
from statemachine.enforcement import Enforcement
from statemachine.finding import OPERATOR, Finding

# A person's hold ends by a person's word, never by itself.
_OPERATOR_RULE = Hysteresis(1, 1, float("inf"), 1.0, float("inf"))


@dataclass(frozen=True, slots=True)
class Watchers:
    """Holds every probe."""

    token_burn: TokenBurn
    conversation: ConversationHealth
    progress: Progress
    liveness: Liveness
    ledger: LedgerIntegrity
    cascade: Cascade
    looks: Looks
    vram: Vram
    host: Host
    memory: Memory
    alerts: Alerts
    egress: Egress
    tools: Tools
    intent: Intent
    lag: LoopLag
    datastore: DatastoreIntegrity
    vault: VaultIntegrity
    roster: Roster

    def all(self) -> list[Probe]:
        detectors: list[Probe] = [
            self.token_burn,
            self.conversation,
            self.progress,
            self.liveness,
            self.ledger,
            self.cascade,
        ]
        own: list[Probe] = [self.vram, self.memory, self.host, self.alerts, self.egress, self.datastore]
        return [*detectors, *own, self.tools, self.vault, self.intent]

    def turn_observers(self) -> list[TurnObserver]:
        """Return the probes that the gateway informs about turns."""
        return [self.token_burn, self.conversation, self.progress, self.looks]

    def serve(self, upstreams: Mapping[str, UpstreamConfig], gone: Iterable[str]) -> None:
        """Watch these upstreams from now on; the troubles of those that are `gone` are over."""
        self.roster.serve(upstreams)
        self.looks.serve(upstreams)
        for name in gone:
            self.cascade.forget(upstream_node(name))

    def forgetful(self) -> list[Forgetful]:
        """Return the probes that begin afresh with a released subsystem."""
        return [
            self.token_burn,
            self.conversation,
            self.progress,
            self.cascade,
            self.vram,
            self.memory,
            self.egress,
            self.tools,
            self.intent,
        ]


@dataclass(frozen=True, slots=True)
class Senses:
    """Gives the probes their inputs; `parked` names the subsystems that recovery has given up on."""

    snapshots: Snapshots
    integrity: Integrity
    directories: Directories
    parked: Callable[[], Collection[str]] = frozenset
    sights: Sights = field(default_factory=Sights)
    workloads: Callable[[], Sequence[Workload]] = tuple


def make_watchers(config: Config, senses: Senses, clock: Clock, push: Push, events: EventLog) -> Watchers:
    """Make the probes."""
    probes, log = config.probes, structlog.get_logger("epad.probes")
    integrity, directories = senses.integrity, senses.directories
    snapshots = OncePerBeat(senses.snapshots, clock)
    roster = Roster(config.subsystems, config.upstreams)
    looks = Looks(config.upstreams, roster.graph, snapshots, senses.sights, clock)

    def notice(text: str) -> None:
        log.info(EventKind.NOTICE, text=text)
        events.emit(EventKind.NOTICE, text=text)

    lag, memory = _lag(probes, clock), _memory(probes, senses, roster, clock)
    cascade = Cascade(
        probes.cascade,
        clock=clock,
        push=push,
        completed=lambda event: event.reason == SUCCEEDED,
        neighbourhood=Neighbourhood(roster.graph, looks, looks.answers_for, lambda: len(roster.names())),
        void=lag.void,
        slept_until=lag.slept_until,
    )
    return Watchers(
        token_burn=TokenBurn(
            probes.token_burn,
            budget=roster.budget,
            clock=clock,
            push=push,
            progressed_at=partial(_progressed_at, snapshots),
            may_end=partial(_may_end, make_enforcement(config)),
        ),
        conversation=ConversationHealth(probes.conversation, clock=clock, push=push),
        progress=Progress(probes.progress, snapshots=snapshots, clock=clock, void=lag.void),
        liveness=Liveness(
            probes.liveness,
            snapshots=snapshots,
            parked=senses.parked,
            clock=clock,
            void=lag.void,
            is_victim=cascade.is_victim,
        ),
        ledger=LedgerIntegrity(probes.ledger_integrity, check=integrity.check, clock=clock),
        cascade=cascade,
        looks=looks,
        alerts=Alerts(probes.alerts, subsystems=roster.names, clock=clock),
        egress=Egress(probes.egress, clock=clock, push=push),
        tools=Tools(probes.tools, clock=clock, push=push),
        intent=Intent(probes.intent, push=push, emit=partial(_emit_intent, events)),
        vram=_vram(probes.vram, roster, _owner_of(senses, roster, Path(probes.vram.root)), clock, notice),
        memory=memory,
        host=Host(
            probes.host,
            read=HostReader(directories.state).read,
            lag=lag,
            clock=clock,
            blamed=lambda: memory.blamed,
        ),
        datastore=DatastoreIntegrity(
            probes.datastore,
            check=senses.sights.datastores,
            last_verified=senses.sights.last_verified,
            clock=clock,
        ),
        vault=VaultIntegrity(probes.vault, check=senses.sights.vault, clock=clock),
        lag=lag,
        roster=roster,
    )


def _emit_intent(events: EventLog, finding: Finding) -> None:
    """Put a warning about intents among the events: it raises no anomaly, so it would be nowhere else."""
    events.emit(EventKind.INTENT_FOUND, finding.subsystem, reason=finding.reason, **finding.evidence)


def _progressed_at(snapshots: Snapshots, name: str) -> float:
    """Return when a subsystem last reported progress; asked only if it seems to go in circles."""
    said = (one.progressed_at for one in snapshots() if one.name == name)
    return max((at for at in said if at is not None), default=float("-inf"))


def _may_end(enforcement: Enforcement, subsystem: str) -> bool:
    """Say whether an answer that repeats itself is ended: not where that detector only tells."""
    return not enforcement.observes(Detector.LOOPING_OUTPUT.value, TOKEN_BURN, subsystem)


def _vram(
    settings: VramSettings, roster: Roster, owner_of: OwnerOf, clock: Clock, tell: Callable[[str], None]
) -> Vram:
    root, timeout = Path(settings.root), settings.timeout_seconds
    nvml = DriverProber(worker("nvml_worker", os.environ), "NVIDIA", timeout_seconds=timeout)
    amdgpu = DriverProber(worker("amd_worker", os.environ, str(root)), "AMD", timeout_seconds=timeout)
    sources: list[GpuSource] = [NvidiaGpus(nvml, clock), AmdGpus(amdgpu, clock, lambda: any(cards(root)))]
    return Vram(
        settings,
        sources=sources,
        owner_of=owner_of,
        clock=clock,
        tell=tell,
        fills_by_design=roster.gpu_fillers,
    )


def _memory(probes: ProbesConfig, senses: Senses, roster: Roster, clock: Clock) -> Memory:
    reader = FootprintReader(str(senses.directories.state))

    async def read() -> MemoryReading:
        return await asyncio.to_thread(reader.read, senses.workloads())

    return Memory(probes.memory, read=read, limits=roster.memory_limits, clock=clock)


def _owner_of(senses: Senses, roster: Roster, root: Path) -> OwnerOf:
    proc = root / "proc"
    # Nothing is signalled by these pids, so the boot that an identity names does not matter.
    tag = unit_tag(senses.directories, os.environ)
    table, state = ProcessTable("", proc), senses.directories.state
    return ProcessOwners(senses.snapshots, table, state, proc, tag, roster.units).owner_of


def _lag(probes: ProbesConfig, clock: Clock) -> LoopLag:
    host = probes.host
    return LoopLag(
        beat_seconds=host.lag_seconds / 2,
        lag_seconds=host.lag_seconds,
        settle_seconds=host.lag_settle_seconds,
        clock=clock,
    )


def make_assessor(rules: Mapping[str, Hysteresis]) -> Assessor:
    """Return the hysteresis of every probe, and a person's."""
    return Assessor(_by_probe(rules), rules["default"])


def configure_assessor(assessor: Assessor, rules: Mapping[str, Hysteresis]) -> None:
    """Give an assessor these rules."""
    assessor.configure(_by_probe(rules), rules["default"])


def _by_probe(rules: Mapping[str, Hysteresis]) -> dict[str, Hysteresis]:
    return {**{name: rule for name, rule in rules.items() if name != "default"}, OPERATOR: _OPERATOR_RULE}
