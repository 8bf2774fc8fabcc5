"""The composition root: every part is made here, handed what it needs, opened and closed in order."""

from __future__ import annotations

import os
from collections.abc import Coroutine, Mapping
from pathlib import Path
from typing import Any

import structlog

from epad import __version__
from epad.checkpoint.critical_state import DATASTORES, critical_state
from epad.checkpoint.drill import RestoreDrill
from epad.checkpoint.source import Source
from epad.config import Config
from epad.control.api import ControlApi
from epad.controller import Controller
from epad.datastore.keeper import Datastores
from epad.directories import Directories
from epad.environment import Environments
from epad.events import EventKind, EventLog
from epad.explain import History
from epad.gateway.access import Access
from epad.gateway.idempotency import Answers
from epad.gateway.listeners import doors
from epad.gateway.money import Prices
from epad.gateway.parts import GatewayParts
from epad.gateway.server import Gateway
from epad.gateway.upstream import Upstreams
from epad.integrity import Integrity
from epad.keys import Keys
from epad.ledger.head import load_or_make_key
from epad.looks import Sights
from epad.metrics import Metrics
from epad.observers import ExitFanout, TurnFanout
from epad.orders import Orders
from epad.probe_loop import ProbeLoops
from epad.response.decider import Decider, Requested, Rules
from epad.response.lifeboat import Lifeboat
from epad.response.preservation import Preservation, Safeguards
from epad.response.quarantine import Containment
from epad.response.recovery import Recovery
from epad.response.responder import Responder, StepWork
from epad.response.step import Lane, OperationEnded, Plan, Step, StepName, StepState
from epad.schedule import Schedule
from epad.spending import SpendingBook
from epad.status import StatusBoard
from epad.stores import Stores
from epad.supervisor.engine import PlainEngine
from epad.supervisor.identity import ProcessTable
from epad.supervisor.supervisor import Supervisor, Surroundings
from epad.surface import MetricsServer
from epad.watchers import make_assessor, make_watchers
from epad.web.alerts import AlertDoor
from epad.web.reports import Reports
from epad.web.server import WebPage
from epad.world import WorldView
from probes.subsystems import SubsystemExited, SubsystemState
from probes.turns import TurnObserver
from statemachine.clock import Clock
from statemachine.containment import Hold, Rung
from statemachine.finding import HOST, Finding, Severity
from statemachine.situation import Limits

PORT_NOTE = "gateway_port"
DRILL_SECONDS = 3_600.0


class House:
    """The composed daemon. Parts that tell each other things are joined by its own small methods."""

    def __init__(
        self, config: Config, directories: Directories, stores: Stores, clock: Clock, boot_id: str
    ) -> None:
        self.config = config
        self.clock = clock
        self._directories = directories
        self._stores = stores
        self._boot_id = boot_id
        self.metrics = Metrics(__version__)
        self.events = EventLog(stores.database, clock)
        self._history = History(stores.database)
        self._environments = Environments(config.subsystems, stores.identities)
        self._keys = Keys(config.subsystems, stores.identities, directories.keys)
        self._access = Access(clock)
        self._integrity = Integrity(
            directories.ledger_database, config.ledger, stores.ledger, clock, self.metrics
        )
        self.supervisor = self._make_supervisor()
        self._datastores = Datastores(
            config.datastores, directories.state / DATASTORES, config.probes.datastore, clock, self.metrics
        )
        self._watchers = make_watchers(
            config,
            clock,
            self._push,
            self.supervisor.snapshots,
            self._integrity,
            self.events,
            Sights(self._upstream_status, self._hold_of, self._datastores.check, self._last_verified),
        )
        self._exits = ExitFanout(self._watchers.cascade, self.events, self.metrics)
        self.probe_loops = ProbeLoops(self._watchers.all(), self._push, clock, self.events, self.metrics)
        self._spending = SpendingBook(stores.totals, stores.budgets, clock)
        self._gateway = self._make_gateway()
        self._world = self._make_world()
        self.decider = self._make_decider()
        self.controller = Controller(
            self.decider, stores.journal, self._world, clock, self.events, self.metrics
        )
        self._preservation = self._make_preservation()
        self._preservation.observe()
        self._responder = Responder(
            stores.journal, self._step_work(), self.events, self.metrics, self._operation_ended
        )
        self.schedule = self._make_schedule()
        self._metrics_server = MetricsServer(config.metrics.listen, self.metrics, self._refresh)
        self.board = self._make_board()
        self._orders = Orders(
            self.board, self.controller, self.decider, self._history, self.events, clock, self._keys
        )
        self._orders.datastores = self._datastores
        self._control = ControlApi(self._orders, directories.control_socket, config.control.operator_group)
        self._page = self._make_page()

    # Joints.

    def exited(self, event: SubsystemExited) -> None:
        """A supervised process ended; implements `probes.subsystems.SubsystemObserver`."""
        self._exits.exited(event)

    def clock_jumped(self, seconds: float) -> None:
        """Somebody set the wall clock: say so, and let wall-clock jobs look again."""
        self.events.emit(EventKind.CLOCK_JUMPED, seconds=round(seconds, 3))
        self.schedule.wakeup()

    def ledger_commits(self) -> int | None:
        """The ledger writer's count of commits, or None while nothing waits for it."""
        return self._stores.ledger.commits if self._stores.ledger.waiting else None

    def _upstream_status(self) -> list[dict[str, object]]:
        return self._gateway.upstreams()

    def _hold_of(self, subsystem: str) -> Hold:
        return self.controller.hold_of(subsystem)

    def _push(self, finding: Finding) -> None:
        self.controller.push(finding)

    def _operation_ended(self, ended: OperationEnded) -> None:
        self.controller.operation_ended(ended)
        if ended.operation.lane is Lane.MAINTENANCE:
            self._push(_checkpoint_finding(ended, self.clock.monotonic()))

    def _refresh(self) -> dict[str, Any]:
        """Bring the series that follow state, not events, up to date."""
        for snapshot in self.supervisor.snapshots():
            for state in SubsystemState:
                self.metrics.subsystem_state.labels(snapshot.name, state).set(state is snapshot.state)
            if snapshot.progress_done is not None:
                self.metrics.progress.labels(snapshot.name).set(snapshot.progress_done)
        self._gateway.observe_budgets()
        return self.board.render()

    # Opened and closed in order.

    async def start_gateway(self) -> str:
        """Listen for turns, with every hold of a former life in place; return the URL. Raises GatewayError."""
        self.decider.restore(self._stores.loaded)
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
        """Adopt or spawn, each under its hold from the first moment; then finish what was left undone."""
        for name, hold in self.decider.holds.items():
            await self.supervisor.hold(name, hold.rung, hold.reason, paused=hold.paused)
        await self._keys.give_to_clients()
        await self.supervisor.start()
        self.controller.attach(self._responder, self._stores.loaded.open_operations)

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
        await self._stores.close()

    # Made from parts.

    def _make_supervisor(self) -> Supervisor:
        surroundings = Surroundings(
            database=self._stores.database,
            directories=self._directories,
            environment=self._environments.of,
            engine=PlainEngine(ProcessTable(self._boot_id)),
            clock=self.clock,
            observer=self,
            log=structlog.get_logger("epad.supervisor"),
            boot_id=self._boot_id,
        )
        return Supervisor(self.config.subsystems, surroundings)

    def _make_gateway(self) -> Gateway:
        observers: list[TurnObserver] = [*self._watchers.turn_observers(), self._spending]
        gateway = self.config.gateway
        return Gateway(
            GatewayParts(
                config=gateway,
                identities=self._stores.identities,
                budgets=self._stores.budgets,
                access=self._access,
                upstreams=self._make_upstreams(),
                ledger=self._stores.ledger,
                observer=TurnFanout(observers, self.events, self.clock),
                clock=self.clock,
                metrics=self.metrics,
                log=structlog.get_logger("epad.gateway"),
                prices=Prices(self.config.prices),
                costs=self._stores.costs,
                doors=doors(self.config.subsystems),
                answers=Answers(self._stores.database, gateway, self.clock),
                alarm=self._push,
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
        )

    def _make_world(self) -> WorldView:
        return WorldView(
            subsystems=self.config.subsystems,
            supervisor=self.supervisor,
            access=self._access,
            forgetful=[*self._watchers.forgetful(), self._stores.budgets],
            ledger_faults=lambda: self._integrity.faults,
            blind_probes=self.probe_loops.blind,
            victims=self._watchers.cascade.victims,
        )

    def _make_decider(self) -> Decider:
        policy = self.config.policy
        limits = Limits(
            dwell_seconds=policy.dwell_seconds,
            quarantine_limit_seconds=policy.quarantine_limit_seconds,
            verify_seconds=policy.verify_seconds,
            recovery_attempts=policy.recovery_attempts,
            recovery_limit_seconds=policy.recovery_limit_seconds,
            recoveries_per_hour=policy.recoveries_per_hour,
        )
        rungs = {probe: Rung[name.upper()] for probe, name in self.config.containment.items()}
        rules = Rules(limits, policy.attempts_per_subsystem, rungs, self.config.probes.cascade.blast_ratio)
        assessor = make_assessor(self.config.hysteresis)
        return Decider(rules, assessor, self._world, self.clock, self._boot_id)

    def _step_work(self) -> dict[StepName, StepWork]:
        hold_of = self.controller.hold_of
        containment = Containment(self._access, self.supervisor, hold_of)
        checkpoints = self._directories.checkpoints
        recovery = Recovery(self._access, self.supervisor, hold_of, self._integrity.repair, checkpoints)
        lifeboat = Lifeboat(
            checkpoints, self.config.checkpoint, self._sources, self._facts, self._history, self.clock
        )
        return {
            StepName.HOLD: containment.hold,
            StepName.CHECKPOINT: self._preservation.checkpoint,
            StepName.RESTART: recovery.restart,
            StepName.REPAIR_LEDGER: recovery.repair_ledger,
            StepName.LIFEBOAT: lifeboat.save,
        }

    def _make_preservation(self) -> Preservation:
        places = self._stores.ledger.places
        return Preservation(
            self._directories.checkpoints,
            self.config.checkpoint,
            self._sources,
            self._facts,
            self.clock,
            self.metrics,
            Safeguards(
                state=self._directories.state,
                signer=load_or_make_key(places.key) if places else None,
                doubts=self._datastores.doubts,
                ask_to_save=self.supervisor.ask_to_save,
            ),
        )

    def _last_verified(self) -> str:
        bundle = self._preservation.last_verified()
        return bundle.id if bundle else ""

    def _make_drill(self) -> RestoreDrill:
        return RestoreDrill(
            self._preservation.last_verified,
            self._directories.state,
            DRILL_SECONDS,
            self._push,
            self.clock,
            self.events,
            self.metrics,
        )

    def _sources(self) -> list[Source]:
        return critical_state(self.config, self._directories)

    def _facts(self) -> Mapping[str, Any]:
        ledger = self._integrity.status()
        return {
            "phase": self.decider.phase,
            "sentence": self.controller.sentence,
            "anomalies": [f"{a.key}: {a.finding.reason}" for a in self.decider.assessor.active],
            "ledger_records": ledger.records,
            "ledger_verdict": ledger.verdict,
        }

    def _make_schedule(self) -> Schedule:
        return Schedule(
            {
                "nightly": (self.config.schedule.nightly_verify, self._nightly),
                "checkpoint": (self.config.schedule.checkpoint, self._scheduled_checkpoint),
                "restore_drill": (self.config.schedule.restore_drill, self._restore_drill),
            }
        )

    async def _nightly(self) -> None:
        report = await self._integrity.verify_all()
        self.events.emit(
            EventKind.LEDGER_VERIFIED,
            verdict=report.verdict,
            checked=report.checked,
            faults=len(report.faults),
        )
        await self.events.prune()
        await self._stores.ledger.prune_payloads()

    async def _restore_drill(self) -> None:
        await self._make_drill().run()

    async def _scheduled_checkpoint(self) -> None:
        reason = "scheduled"
        plan = Plan(Lane.MAINTENANCE, reason, [Step(StepName.CHECKPOINT, HOST, {"reason": reason})])
        await self.controller.order(Requested(plan), wait_for=Lane.MAINTENANCE)

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
            log_file=self._directories.log,
            upstreams=self._gateway.upstreams,
            incidents=self._watchers.cascade.incidents,
        )

    def _make_page(self) -> WebPage:
        directories = self._directories
        alerts = AlertDoor(directories.alerts_token, self._watchers.alerts.receive)
        reports = Reports(directories.work)
        return WebPage(self.config.web, self._orders, reports, directories.web_token, alerts)


def _checkpoint_finding(ended: OperationEnded, now: float) -> Finding:
    """A checkpoint that could not be written is an anomaly of the host, before it is needed."""
    if ended.state is not StepState.DONE:
        reason = f"no checkpoint could be written: {'; '.join(ended.failures) or ended.state}"
        return Finding("checkpoint", HOST, Severity.ANOMALY, now, reason, hard=True)
    return Finding("checkpoint", HOST, Severity.OK, now, "a checkpoint was written")
