"""Hold the parts of the daemon, grouped by the step of `composition.py` that makes them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from epad.api.server import ControlApi
from epad.audit.trail import AuditTrail
from epad.configuration.directories import Directories
from epad.configuration.schema import Config
from epad.confinement.approvals import OpenQuestion
from epad.confinement.authorities import Authorities
from epad.confinement.cells import Cells
from epad.confinement.decoys import Decoys
from epad.confinement.way_out import WayOut
from epad.control_loop.decider import Decider
from epad.control_loop.history import History
from epad.control_loop.loop import Controller
from epad.control_loop.responder import Responder
from epad.control_loop.world import DaemonWorld
from epad.daemon.live_changes import LiveChanges
from epad.daemon.stores import Stores
from epad.daemon.tooling import Tooling
from epad.datastore.datastores import Datastores
from epad.gateway.access import Access
from epad.gateway.child_environment import Environments
from epad.gateway.client_keys import Keys
from epad.gateway.server import Gateway
from epad.gateway.spending import SpendingBook
from epad.gateway.upstream import Upstreams
from epad.identity.child import IdentityChild
from epad.identity.record import IdentityRecord
from epad.intent.screen import IntentScreen
from epad.ledger.integrity import Integrity
from epad.measurement.starts import Starts
from epad.metrics.registry import Metrics
from epad.metrics.server import MetricsServer
from epad.operations.implementation import DaemonOperations
from epad.operations.reload import Reloader
from epad.operations.status import DaemonStatus
from epad.probing.build import Watchers
from epad.probing.fan_out import ExitFanout
from epad.probing.loops import ProbeLoops
from epad.response.step_table import Responses
from epad.runtime.cron import Schedule
from epad.runtime.listener_handover import NoHandover
from epad.secrets.uses import LastUses
from epad.secrets.vault import Vault
from epad.simulate.recorder import Recorder
from epad.storage.event_log import EventLog
from epad.supervisor.log_pump import LogPump
from epad.supervisor.supervisor import Supervisor
from epad.web.server import WebPage
from probes.subsystems import SubsystemExited
from statemachine.clock import Clock


def _nobody(_: SubsystemExited) -> None:
    return


@dataclass(frozen=True, slots=True)
class Given:
    """What the daemon is composed from. `also_exited` is called with the end of each process, after the probes."""

    config: Config
    read: Callable[[], Config]
    directories: Directories
    stores: Stores
    clock: Clock
    boot_id: str
    handover: NoHandover = field(default_factory=NoHandover)
    also_exited: Callable[[SubsystemExited], None] = _nobody


@dataclass(frozen=True, slots=True)
class Identity:
    """The child that serves the Workload API, and the record of its SVIDs."""

    child: IdentityChild
    record: IdentityRecord


@dataclass(frozen=True, slots=True)
class Foundation:
    """The parts that need the stores alone."""

    metrics: Metrics
    audit: AuditTrail
    events: EventLog
    history: History
    environments: Environments
    keys: Keys
    access: Access
    cells: Cells
    decoys: Decoys
    authorities: Authorities
    way_out: WayOut
    integrity: Integrity
    datastores: Datastores
    recorder: Recorder
    spending: SpendingBook
    secrets: Vault
    secret_uses: LastUses
    tools: Tooling | None
    identity: Identity | None
    intent: IntentScreen | None

    def questions(self) -> Iterator[OpenQuestion]:
        """Yield the questions that wait for a person, of each kind."""
        yield from self.way_out.approvals.open()
        if self.tools is not None:
            yield from self.tools.consents.open()


@dataclass(frozen=True, slots=True)
class Supervision:
    """The processes and their logs, and the upstreams that some of them serve."""

    upstreams: Upstreams
    supervisor: Supervisor
    logs: LogPump
    starts: Starts


@dataclass(frozen=True, slots=True)
class Probing:
    """The probes and what calls them."""

    watchers: Watchers
    exits: ExitFanout
    loops: ProbeLoops


@dataclass(frozen=True, slots=True)
class Control:
    """The control loop, the responder of its steps, and the jobs of the wall clock."""

    world: DaemonWorld
    decider: Decider
    controller: Controller
    responder: Responder
    schedule: Schedule


@dataclass(frozen=True, slots=True)
class Core:
    """The daemon as it works, whether somebody looks or not."""

    foundation: Foundation
    supervision: Supervision
    probing: Probing
    gateway: Gateway
    responses: Responses
    control: Control


@dataclass(frozen=True, slots=True)
class Surfaces:
    """What shows the daemon, and what carries out the operations that are asked of it."""

    daemon_status: DaemonStatus
    metrics_server: MetricsServer
    reloader: Reloader
    operations: DaemonOperations
    api: ControlApi
    page: WebPage
    live: LiveChanges
