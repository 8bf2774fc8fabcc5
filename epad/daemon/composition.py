"""Compose the daemon: make every part, hand it its dependencies, and open and close all in order.

`House.__init__` makes the parts, each after those it is given; it opens nothing and has no await. `Daemon._start`
(`process.py`) then calls the stages: `start_gateway` (phase and holds restored, then listeners), lanes and controller,
`start_surfaces`, `start_subsystems` (holds, keys, processes, open operations), probes. A subsystem has its hold before
it is adopted or spawned. After a crash, the next start adopts the processes.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Coroutine, Mapping
from pathlib import Path
from typing import Any

import structlog

from epad.answers.status import Status
from epad.api.server import ControlApi
from epad.checkpoint.critical_state import DATASTORES, critical_state
from epad.checkpoint.source import Source
from epad.configuration.directories import Directories
from epad.configuration.model_load import is_loading
from epad.configuration.schema import Config
from epad.control_loop.decider import Decider
from epad.control_loop.history import History
from epad.control_loop.loop import Controller
from epad.control_loop.responder import Responder
from epad.control_loop.rules import make_rules
from epad.control_loop.step import Lane, OperationEnded, Plan, Step, StepName, StepState
from epad.control_loop.stimulus import Requested
from epad.control_loop.world import WorldView
from epad.daemon.live_changes import LiveChanges
from epad.daemon.metrics import CLOCK_JUMPS, LOOP_LAGS, make_metrics
from epad.daemon.scheduled_jobs import Chores, checkpoint_finding
from epad.daemon.stores import Stores
from epad.datastore.datastores import Datastores
from epad.gateway.access import Access
from epad.gateway.child_environment import Environments
from epad.gateway.client_keys import Keys
from epad.gateway.idempotency import Answers
from epad.gateway.inference_check import OneToken
from epad.gateway.money import Prices
from epad.gateway.own_listeners import doors
from epad.gateway.parts import GatewayParts
from epad.gateway.server import Gateway
from epad.gateway.spending import SpendingBook
from epad.gateway.tokenizing import load_tokenizers
from epad.gateway.upstream import Upstreams
from epad.ledger.integrity import Integrity
from epad.metrics.server import MetricsServer
from epad.operations.implementation import Orders
from epad.operations.machine_status import MachineView
from epad.operations.reload import Changes, Reloader
from epad.operations.status import StatusBoard
from epad.probing.build import Senses, make_assessor, make_watchers
from epad.probing.cascade_signals import Sights
from epad.probing.fan_out import ExitFanout, TurnFanout
from epad.probing.host_reader import watch_lag
from epad.probing.loops import ProbeLoops
from epad.probing.metrics import SubsystemSeries
from epad.response.datastore import restores_begun
from epad.response.last_resort import Lent
from epad.response.step_table import Hands, Responses
from epad.runtime.cron import Schedule
from epad.runtime.listener_handover import NoHandover
from epad.simulate.recorder import Recorder
from epad.storage.event_log import EventKind, EventLog
from epad.supervisor.engine_choice import choose
from epad.supervisor.health import HealthChecker
from epad.supervisor.identity import ProcessTable
from epad.supervisor.launch import inherited
from epad.supervisor.log_pump import LogPump, log_configs
from epad.supervisor.supervisor import Supervisor, Surroundings
from epad.web.alerts import AlertDoor
from epad.web.reports import Reports
from epad.web.server import WebPage
from probes.subsystems import SubsystemExited
from probes.turns import TurnObserver
from statemachine.clock import Clock
from statemachine.containment import Hold
from statemachine.finding import HOST, Finding

PORT_NOTE = "gateway_port"


class House:
    """The composed daemon. Parts that tell each other things are joined by its own small methods."""

    def __init__(
        self,
        config: Config,
        read: Callable[[], Config],
        directories: Directories,
        stores: Stores,
        clock: Clock,
        boot_id: str,
        handover: NoHandover | None = None,
    ) -> None:
        self.config = config
        self._handover = handover or NoHandover()
        self.clock = clock
        self._directories = directories
        self._stores = stores
        self._boot_id = boot_id
        self.abandoned = asyncio.Event()
        self.begin_again = asyncio.Event()
        self.metrics = make_metrics(config.subsystems)
        self.events = EventLog(stores.database, clock, config.retention.events)
        self._history = History(stores.database)
        self._environments = Environments(config.subsystems, stores.identities)
        self._keys = Keys(config.subsystems, stores.identities, directories.keys)
        self._access = Access(clock)
        self.reloader = Reloader(config, read, self._apply, self.events)
        self._integrity = Integrity(
            directories.ledger_database,
            config.ledger,
            stores.ledger,
            clock,
            self.metrics,
            beside=[directories.state_database],
        )
        self._upstreams = self._make_upstreams()
        self.supervisor = self._make_supervisor()
        self.logs = LogPump(directories, self.supervisor.workloads, log_configs(config))
        self._datastores = Datastores(
            config.datastores, directories.state / DATASTORES, config.probes.datastore, clock, self.metrics
        )
        self._watchers = make_watchers(
            config,
            Senses(
                self.supervisor.snapshots,
                self._integrity,
                directories,
                lambda: self.decider.incident.parked,
                Sights(self._upstreams.status, self._hold_of, self._datastores.check, self._last_verified),
                self.supervisor.workloads,
            ),
            clock,
            self._push,
            self.events,
        )
        self._subsystems = SubsystemSeries(
            self.metrics, self.supervisor.snapshots, self._watchers.memory.footprints
        )
        self._exits = ExitFanout(self._watchers.cascade, self.events, self.metrics)
        self.probe_loops = ProbeLoops(self._watchers.all(), self._push, clock, self.events, self.metrics)
        self.recorder = Recorder(stores.database, clock, boot_id, config.retention.recordings)
        self._spending = SpendingBook(stores.totals, stores.budgets, clock, stores.spent_microusd)
        self._gateway = self._make_gateway()
        self.responses = self._make_responses()
        self.rescue = self.responses.rescue
        self._world = self._make_world()
        self._world.serve([upstream.served_by for upstream in config.upstreams.values()])
        self._world.on_journal_failed = self.rescue.journal_failed
        self._world.stores_to_restore = self._datastores.to_restore
        self.decider = self._make_decider()
        self.controller = Controller(
            self.decider, stores.journal, self._world, clock, self.events, self.metrics, self.recorder
        )
        self._responder = Responder(
            stores.journal,
            self.responses.work(),
            self.events,
            self.metrics,
            self._operation_ended,
            self.rescue.journal_failed,
        )
        self.schedule = self._make_schedule()
        self._machine = MachineView(self._watchers.vram, self._watchers.host, clock, self.metrics)
        self._metrics_server = MetricsServer(
            config.metrics.listen, self.metrics, self._refresh, config.metrics.hosts
        )
        self.board = self._make_board()
        self._access.tell = self.board.report.line_of
        self._orders = self._make_orders()
        self._control = ControlApi(self._orders, directories.control_socket, config.control.operator_group)
        self._page = self._make_page()
        self._live = self._make_live()

    # Joints.

    def exited(self, event: SubsystemExited) -> None:
        """A supervised process ended; implements `probes.subsystems.SubsystemObserver`."""
        self._exits.exited(event)

    def clock_jumped(self, seconds: float) -> None:
        """Somebody set the wall clock: say so, and let wall-clock jobs look again."""
        self.events.emit(EventKind.CLOCK_JUMPED, seconds=round(seconds, 3))
        self.metrics.of(CLOCK_JUMPS).inc()
        self._watchers.host.clock_jumped(seconds)
        self._stores.clock_marks.jumped()
        self.schedule.wakeup()

    def watch_own_loop(self) -> Coroutine[Any, Any, None]:
        """Notice when our own event loop stands still."""
        return watch_lag(self._watchers.lag, self._lagged)

    def _lagged(self, seconds: float) -> None:
        self.metrics.of(LOOP_LAGS).inc()
        self.events.emit(EventKind.LOOP_LAGGED, seconds=round(seconds, 3))

    def ledger_commits(self) -> int | None:
        """The ledger writer's count of commits, or None while nothing waits for it."""
        return self._stores.ledger.commits if self._stores.ledger.waiting else None

    def _last_verified(self) -> str:
        return self.responses.last_verified()

    def _hold_of(self, subsystem: str) -> Hold:
        return self._datastores.hold_on(subsystem) or self.controller.hold_of(subsystem)

    def _push(self, finding: Finding) -> None:
        self.controller.push(finding)

    def _operation_ended(self, ended: OperationEnded) -> None:
        self.controller.operation_ended(ended)
        if ended.operation.lane is Lane.MAINTENANCE and ended.state is not StepState.ABORTED:
            self._push(checkpoint_finding(ended, self.clock.monotonic()))
        saved = any(record.step.name is StepName.LIFEBOAT for record in ended.operation.steps)
        if saved and ended.state is not StepState.ABORTED and self.config.lifeboat.then == "exit":
            self.abandoned.set()

    def _refresh(self) -> Status:
        """Bring the series that follow state, not events, up to date."""
        self._subsystems.show()
        self._gateway.show_series()
        self._machine.show()
        self.board.report.observe(self.metrics)
        return self.board.render()

    async def _apply(self, changes: Changes) -> None:
        await self._live.apply(changes)

    def _configured(self, config: Config) -> None:
        self.config = self.board.config = config

    # Opened and closed in order.

    async def start_gateway(self) -> str:
        """Listen for turns, with every hold of a former life in place; return the URL. Raises GatewayError."""
        self.decider.restore(self._stores.loaded)
        self.recorder.started(self.config, self._stores.loaded)
        self.controller.resume()
        for name, hold in self.decider.holds.items():
            self._access.hold(name, hold.rung, hold.reason)
        host, port = await self._gateway.start(int(self._stores.loaded.notes.get(PORT_NOTE, 0)))
        # Adopted children keep the address they were given, so the next life must listen on it again.
        await self._stores.journal.note(PORT_NOTE, port)
        self._environments.gateway_url = f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
        return self._environments.gateway_url

    async def start_surfaces(self) -> str:
        """Open the metrics endpoint, the status page and the control socket; return the metrics URL."""
        url = await self._metrics_server.start()
        self.board.gateway_url, self.board.metrics_url = self._environments.gateway_url, url
        self.board.web_url = await self._page.start()
        await self._control.start()
        return url

    async def start_subsystems(self) -> None:
        """Adopt or spawn each subsystem, under its hold from the first moment; then finish interrupted steps."""
        for store in restores_begun(self._stores.loaded.open_operations):
            self._datastores.hold_writer(store)
        for name in self.decider.holds:
            hold = self._hold_of(name)
            await self.supervisor.hold(name, hold.rung, hold.reason, paused=hold.paused)
        await self._keys.give_to_clients()
        await self.supervisor.start()
        self.controller.attach(self._responder, self._stores.loaded.open_operations)
        if await self.rescue.lost_count():
            plan = Plan(Lane.REPLAY, "turns were open when the daemon died", [Step(StepName.REPLAY, HOST)])
            self.controller.request(Requested(plan))

    def lanes(self) -> list[tuple[Lane, Coroutine[Any, Any, None]]]:
        """A worker for each lane of the responder."""
        return [(lane, self._responder.run(lane)) for lane in Lane]

    async def stop_doors(self) -> None:
        """Let nothing new in: no wall-clock job, no order, no turn."""
        self.schedule.stop()
        await self._control.stop()
        await self._page.stop()
        await self._gateway.stop()

    async def close(self) -> None:
        """Write and close everything; the children are gone or on their own by now."""
        await self._metrics_server.stop()
        await self._watchers.vram.close()
        await self._datastores.close()
        self._integrity.close()
        await self.events.flush()
        await self.recorder.flush()
        await self._stores.close()

    # Made from parts.

    def _make_supervisor(self) -> Supervisor:
        surroundings = Surroundings(
            database=self._stores.database,
            directories=self._directories,
            environment=self._environments.of,
            engine=choose(
                self.config.daemon.engine, ProcessTable(self._boot_id), self._directories, os.environ
            ),
            clock=self.clock,
            observer=self,
            log=structlog.get_logger("epad.supervisor"),
            boot_id=self._boot_id,
            checker=HealthChecker(OneToken(self._upstreams).ask, inherited(os.environ)),
            remember=lambda *failures: self._watchers.cascade.remember(*failures),  # noqa: PLW0108 (made later)
            output=lambda name: self.logs.output(name),  # noqa: PLW0108 (made later)
        )
        return Supervisor(self.config.subsystems, surroundings)

    def _make_gateway(self) -> Gateway:
        observers: list[TurnObserver] = [*self._watchers.turn_observers(), self._spending, self.recorder]
        return Gateway(
            GatewayParts(
                config=self.config.gateway,
                identities=self._stores.identities,
                budgets=self._stores.budgets,
                access=self._access,
                upstreams=self._upstreams,
                ledger=self._stores.ledger,
                observer=TurnFanout(observers, self.events, self.clock),
                clock=self.clock,
                metrics=self.metrics,
                log=structlog.get_logger("epad.gateway"),
                prices=Prices(self.config.prices),
                costs=self._stores.costs,
                doors=doors(self.config.subsystems),
                answers=Answers(self._stores.database, self.config.gateway, self.clock),
                alarm=self._push,
                tokenizer_files=load_tokenizers(self.config.upstreams),
                handover=self._handover,
            )
        )

    def _make_upstreams(self) -> Upstreams:
        gateway, credentials = self.config.gateway, os.environ.get("CREDENTIALS_DIRECTORY")
        return Upstreams(
            self.config.upstreams,
            gateway.connect_seconds,
            gateway.idle_seconds,
            self.clock,
            Path(credentials) if credentials else None,
            lambda name: is_loading(name, self.supervisor.snapshots(), self.config, self.clock),
        )

    def _make_world(self) -> WorldView:
        return WorldView(
            subsystems=self.config.subsystems,
            supervisor=self.supervisor,
            access=self._access,
            forgetful=[*self._watchers.forgetful(), self._stores.budgets, self._datastores],
            ledger_faults=lambda: self._integrity.faults,
            blind_probes=self.probe_loops.blind,
            victims=self._watchers.cascade.waiting,
        )

    def _make_decider(self) -> Decider:
        assessor = make_assessor(self.config.hysteresis)
        return Decider(make_rules(self.config), assessor, self._world, self.clock, self._boot_id)

    def _make_responses(self) -> Responses:
        stores, directories = self._stores, self._directories
        lent = Lent(
            lambda: self.config, directories, stores, self.clock, self._history, self._sources, self._facts
        )
        hands = Hands(
            access=self._access,
            supervisor=self.supervisor,
            integrity=self._integrity,
            upstreams=self._upstreams,
            datastores=self._datastores,
            measure=self._watchers.vram.measure,
            hold_of=self._hold_of,
            gateway_url=lambda: self._environments.gateway_url,
            push=self._push,
            events=self.events,
            metrics=self.metrics,
        )
        return Responses(lent, hands)

    def _sources(self) -> list[Source]:
        return critical_state(self.config, self._directories)

    def _facts(self) -> Mapping[str, Any]:
        return self.board.facts()

    def _make_schedule(self) -> Schedule:
        stores, drill, calm = self._stores, self.responses.drill, lambda: self.decider.has_room_for_chores
        chores = Chores(self._integrity, stores.ledger, self.events, self.controller, drill, calm)
        return chores.schedule(self.config.schedule)

    def _make_board(self) -> StatusBoard:
        return StatusBoard(
            config=self.config,
            clock=self.clock,
            started_at=self.clock.monotonic(),
            decider=self.decider,
            controller=self.controller,
            snapshots=self.supervisor.snapshots,
            spending=self._spending,
            probes=self.probe_loops,
            ledger=self._integrity.status,
            directories=self._directories,
            upstreams=self._gateway.upstreams,
            incidents=self._watchers.cascade.incidents,
            gpus=self._machine.gpus,
            host=self._machine.host,
            footprints=self._watchers.memory.footprints,
            engine=self.supervisor.engine,
            newest_checkpoint=self.responses.newest_checkpoint,
            shut=self._stores.shut,
        )

    def _make_orders(self) -> Orders:
        return Orders(
            self.board,
            self.controller,
            self.decider,
            self._history,
            self.events,
            self.clock,
            self._keys,
            self.logs.files,
            self.reloader.reload,
            self._datastores,
            self._stores.budget_orders(self.reloader, self.clock),
            self.responses.newest_checkpoint,
            lambda reason: self._stores.accept_loss(self.config, reason, self.clock.monotonic()),
            self.begin_again.set,
            lambda: self.rescue.plan(self.decider),
        )

    def _make_page(self) -> WebPage:
        directories, reports = self._directories, Reports(self._directories.work)
        alerts = AlertDoor(directories.alerts_token, self._watchers.alerts.receive)
        return WebPage(self.config.web, self._orders, reports, directories.web_token, alerts)

    def _make_live(self) -> LiveChanges:
        return LiveChanges(
            configured=self._configured, access=self._access, board=self.board, decider=self.decider,
            environments=self._environments, gateway=self._gateway, keys=self._keys, logs=self.logs,
            metrics=self.metrics, metrics_server=self._metrics_server, page=self._page, recorder=self.recorder,
            stores=self._stores, supervisor=self.supervisor, watchers=self._watchers, world=self._world,
        )  # fmt: skip
