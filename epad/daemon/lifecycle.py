"""Open and close the parts of the composed daemon, in order.

`Daemon._start` (`process.py`) calls the stages: `start_gateway` (phase and holds restored, then listeners), lanes and
controller, `start_surfaces`, `start_subsystems` (holds, keys, processes, open operations), probes. A subsystem has its
hold before it is adopted or spawned. After a crash, the next start adopts the processes.
"""

from __future__ import annotations

import os
from collections.abc import Coroutine
from typing import Any

from epad.configuration.schema import Config
from epad.control_loop.step import Lane, Plan, Step, StepName
from epad.control_loop.stimulus import Requested
from epad.daemon.identity import open_identity
from epad.daemon.joints import Joints
from epad.daemon.metrics import CLOCK_JUMPS, LOOP_LAGS
from epad.daemon.parts import Core, Given, Surfaces
from epad.probing.host_reader import watch_lag
from epad.response.datastore import restores_begun
from epad.secrets.start import unlock_at_start
from epad.storage.event_log import EventKind
from statemachine.containment import Rung
from statemachine.finding import HOST

PORT_NOTE = "gateway_port"


class Composition:
    """The composed daemon: its parts, and the stages in which they are opened and closed."""

    def __init__(self, given: Given, joints: Joints, core: Core, surfaces: Surfaces) -> None:
        self._joints = joints
        self._core = core
        self._surfaces = surfaces
        self._stores = given.stores
        self.clock = given.clock
        self.abandoned = joints.abandoned
        self.begin_again = joints.begin_again
        self.events = core.foundation.events
        self.recorder = core.foundation.recorder
        self.supervisor = core.supervision.supervisor
        self.logs = core.supervision.logs
        self.way_out = core.foundation.way_out
        self.identity = core.foundation.identity
        self.probe_loops = core.probing.loops
        self.rescue = core.responses.rescue
        self.decider = core.control.decider
        self.controller = core.control.controller
        self.schedule = core.control.schedule
        self.daemon_status = surfaces.daemon_status
        self.reloader = surfaces.reloader

    @property
    def config(self) -> Config:
        """Return the configuration in force."""
        return self._joints.config

    @property
    def helpers(self) -> frozenset[int]:
        """Return the processes of ours that are no subsystem's."""
        foundation = self._core.foundation
        way_out = foundation.way_out.pid
        tools = foundation.tools.pids if foundation.tools is not None else frozenset()
        if foundation.intent is not None:
            tools |= foundation.intent.child.pids
        identity = foundation.identity.child.pids if foundation.identity is not None else frozenset()
        own = self.logs.pids | foundation.cells.pids | tools | identity
        return own | (frozenset() if way_out is None else {way_out})

    # Facts that the run loop passes on.

    def clock_jumped(self, seconds: float) -> None:
        """Somebody set the wall clock: say so, and let wall-clock jobs look again."""
        self.events.emit(EventKind.CLOCK_JUMPED, seconds=round(seconds, 3))
        self._core.foundation.metrics.of(CLOCK_JUMPS).inc()
        self._core.probing.watchers.host.clock_jumped(seconds)
        self._stores.clock_marks.jumped()
        self.schedule.wakeup()

    def watch_own_loop(self) -> Coroutine[Any, Any, None]:
        """Notice when our own event loop stands still."""
        return watch_lag(self._core.probing.watchers.lag, self._lagged)

    def _lagged(self, seconds: float) -> None:
        self._core.foundation.metrics.of(LOOP_LAGS).inc()
        self.events.emit(EventKind.LOOP_LAGGED, seconds=round(seconds, 3))

    def ledger_commits(self) -> int | None:
        """Return the ledger writer's count of commits, or None while nothing waits for it."""
        return self._stores.ledger.commits if self._stores.ledger.waiting else None

    # Opened and closed in order.

    async def start_gateway(self) -> str:
        """Listen for turns, with every hold of a former life in place; return the URL. Raises GatewayError."""
        foundation, loaded = self._core.foundation, self._stores.loaded
        await foundation.secret_uses.load()
        await unlock_at_start(foundation.secrets, os.environ)
        await foundation.authorities.load()
        self.decider.restore(loaded)
        self.recorder.started(self.config, loaded)
        self.controller.resume()
        for name, hold in self.decider.holds.items():
            foundation.access.hold(name, hold.rung, hold.reason)
        if foundation.tools is not None:
            await foundation.tools.start()
        if foundation.intent is not None:
            foundation.intent.start()
        host, port = await self._core.gateway.start(int(loaded.notes.get(PORT_NOTE, 0)))
        # Adopted children keep the address they were given, so the next life must listen on it again.
        await self._stores.journal.note(PORT_NOTE, port)
        url = f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
        foundation.environments.gateway_url = url
        return url

    async def start_surfaces(self) -> str:
        """Open the metrics endpoint, the status page and the control socket; return the metrics URL."""
        url = await self._surfaces.metrics_server.start()
        self.daemon_status.gateway_url = self._core.foundation.environments.gateway_url
        self.daemon_status.metrics_url = url
        self.daemon_status.web_url = await self._surfaces.page.start()
        await self._surfaces.api.start()
        return url

    async def start_subsystems(self) -> None:
        """Adopt or spawn each subsystem, under its hold from the first moment; then finish interrupted steps."""
        foundation, loaded = self._core.foundation, self._stores.loaded
        for store in restores_begun(loaded.open_operations):
            foundation.datastores.hold_writer(store)
        with_state = {
            one.name for one in self._joints.snapshots()
        }  # and tools, which have no process, have not
        for name in filter(with_state.__contains__, self.decider.holds):
            hold = self._joints.hold_of(name)
            if hold.rung >= Rung.BLOCK:
                await foundation.cells.shut(name)
            await self.supervisor.hold(name, hold.rung, hold.reason, paused=hold.paused)
        await foundation.keys.give_to_clients()
        if foundation.identity is not None:
            open_identity(foundation.identity)
        await self.supervisor.start()
        if foundation.tools is not None:
            await foundation.tools.adopt()
            foundation.way_out.configure()  # which has waited for the labels of sessions
        self.controller.attach(self._core.control.responder, loaded.open_operations)
        if await self.rescue.lost_count():
            plan = Plan(Lane.REPLAY, "turns were open when the daemon died", [Step(StepName.REPLAY, HOST)])
            self.controller.request(Requested(plan))

    def lanes(self) -> list[tuple[Lane, Coroutine[Any, Any, None]]]:
        """Return a worker for each lane of the responder."""
        return [(lane, self._core.control.responder.run(lane)) for lane in Lane]

    async def stop_doors(self) -> None:
        """Let nothing new in: no wall-clock job, no order, no turn, no agent."""
        if self._core.foundation.tools is not None:
            self._core.foundation.tools.spawning.close()
        self.schedule.stop()
        await self._surfaces.api.stop()
        await self._surfaces.page.stop()
        self._core.foundation.cells.refuse_all()
        await self._core.gateway.stop()
        if self._core.foundation.tools is not None:
            await self._core.foundation.tools.close()
        if self._core.foundation.intent is not None:
            await self._core.foundation.intent.close()

    async def close(self) -> None:
        """Write and close everything; the children are gone or on their own by now."""
        await self._surfaces.metrics_server.stop()
        await self._core.probing.watchers.vram.close()
        await self._core.foundation.datastores.close()
        self._core.foundation.integrity.close()
        await self._core.foundation.cells.close()
        await self._core.supervision.starts.close()
        await self._core.foundation.secret_uses.close()
        await self.events.flush()
        await self._core.foundation.audit.close()
        await self.recorder.flush()
        await self._stores.close()
