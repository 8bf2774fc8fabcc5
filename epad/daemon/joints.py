"""Join the parts whose calls run against the order in which they are made.

Two circles run through the daemon. Findings go from the probes, the gateway and the supervisor to the controller, which
acts on the supervisor and asks the probes; and a reload changes the parts that order it. Each such call goes through a
method here, to a part that a later step makes. `connect` closes the circles, once, when every part is there.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from epad.configuration.schema import Config
from epad.control_loop.step import Lane, OperationEnded, StepName, StepState
from epad.daemon.parts import Core, Given, Surfaces
from epad.daemon.scheduled_jobs import checkpoint_finding
from epad.daemon.tooling import Tooling
from epad.gateway.server import Gateway
from epad.operations.implementation import DaemonOperations
from epad.operations.reload import Changes
from epad.supervisor.footprints import Workload
from probes.egress import EgressDirect, EgressOpened, EgressRefused, EgressSent
from probes.intent import TurnScreened
from probes.subsystems import SubsystemExited, SubsystemSnapshot
from probes.tool_calls import ToolCalled
from statemachine.containment import Hold
from statemachine.finding import Finding
from statemachine.phase import Phase


class Joints:
    """The calls to later parts, and the facts that are changed from several places.

    `config` is the one in force. `abandoned` and `begin_again` end the daemon otherwise than by a signal.
    """

    def __init__(self, given: Given) -> None:
        self.config = given.config
        self.abandoned = asyncio.Event()
        self.begin_again = asyncio.Event()
        self._clock = given.clock
        self._also_exited = given.also_exited
        self._connected: tuple[Core, Surfaces] | None = None

    def connect(self, core: Core, surfaces: Surfaces) -> None:
        """Join the parts, now that all are made."""
        self._connected = core, surfaces

    @property
    def _core(self) -> Core:
        return self._all()[0]

    @property
    def _surfaces(self) -> Surfaces:
        return self._all()[1]

    def _all(self) -> tuple[Core, Surfaces]:
        if self._connected is None:
            raise RuntimeError("a part was called before all parts were made")
        return self._connected

    # To the controller.

    def push(self, finding: Finding) -> None:
        self._core.control.controller.push(finding)

    def operation_ended(self, ended: OperationEnded) -> None:
        """Take in the end of an operation; that of a lifeboat may end the daemon."""
        self._core.control.controller.operation_ended(ended)
        if ended.operation.lane is Lane.MAINTENANCE and ended.state is not StepState.ABORTED:
            self.push(checkpoint_finding(ended, self._clock.monotonic()))
        saved = any(record.step.name is StepName.LIFEBOAT for record in ended.operation.steps)
        if saved and ended.state is not StepState.ABORTED and self.config.lifeboat.then == "exit":
            self.abandoned.set()

    def hold_of(self, subsystem: str) -> Hold:
        """Return the hold of a subsystem: of the writer of a store that is restored, else of the last decision."""
        core = self._core
        return core.foundation.datastores.hold_on(subsystem) or core.control.controller.hold_of(subsystem)

    def phase(self) -> Phase:
        """Return the phase as of the last decision."""
        return self._core.control.decider.phase

    def parked(self) -> Collection[str]:
        """Name the subsystems that recovery has given up on."""
        return self._core.control.decider.incident.parked

    # To the probes.

    def exited(self, event: SubsystemExited) -> None:
        """Report the end of a process; implements `probes.subsystems.SubsystemObserver`."""
        self._core.probing.exits.exited(event)
        if (tools := self._core.foundation.tools) is not None:
            tools.calls.session_log.exited(event)
            tools.spawning.exited(event.subsystem, event.status, wanted=event.wanted)
        self._also_exited(event)

    def remember(self, subsystem: str, failed_at: Sequence[float]) -> None:
        """Report the failures of the previous run."""
        self._core.probing.watchers.cascade.remember(subsystem, failed_at)

    # To the tools.

    def tools(self) -> Tooling | None:
        """Return the tools, for whoever needs them once they are made; None in a daemon without."""
        return self._core.foundation.tools

    # To the gateway.

    def gateway(self) -> Gateway:
        """Return the gateway, for whoever needs it once it is made."""
        return self._core.gateway

    def gateway_port(self) -> int:
        """Return the port that the gateway listens on for everyone."""
        return int(self._core.foundation.environments.gateway_url.rpartition(":")[2])

    # To the probe of the way out; implements `probes.egress.EgressObserver`.

    def refused(self, event: EgressRefused) -> None:
        self._core.probing.watchers.egress.refused(event)

    def direct(self, event: EgressDirect) -> None:
        self._core.probing.watchers.egress.direct(event)

    def opened(self, event: EgressOpened) -> None:
        self._core.probing.watchers.egress.opened(event)

    def sent(self, event: EgressSent) -> None:
        self._core.probing.watchers.egress.sent(event)

    def tool_called(self, event: ToolCalled) -> None:
        """Report the end of a tool's call."""
        self._core.probing.watchers.tools.called(event)

    def screened(self, event: TurnScreened) -> None:
        """Report what a turn seemed to be for."""
        self._core.probing.watchers.intent.screened(event)

    # To the supervisor and its logs.

    def snapshots(self) -> tuple[SubsystemSnapshot, ...]:
        return self._core.supervision.supervisor.snapshots()

    def workloads(self) -> tuple[Workload, ...]:
        return self._core.supervision.supervisor.workloads()

    def snapshot(self, subsystem: str) -> SubsystemSnapshot | None:
        return self._core.supervision.supervisor.snapshot(subsystem)

    def output(self, subsystem: str) -> Path:
        """Return the file that a process prints into."""
        return self._core.supervision.logs.output(subsystem)

    # To the responses and the surfaces.

    def operations(self) -> DaemonOperations:
        """Return the operations, for the tools by which an agent asks about itself."""
        return self._surfaces.operations

    def gateway_url(self) -> str:
        """Return the address of the gateway's own listener."""
        return self._core.foundation.environments.gateway_url

    def last_verified(self) -> str:
        """Return the newest verified checkpoint; empty if there is none."""
        return self._core.responses.last_verified()

    def facts(self) -> Mapping[str, Any]:
        return self._surfaces.daemon_status.facts()

    def line_of(self, subsystem: str) -> str:
        """Say in one line how a subsystem is held."""
        return self._surfaces.daemon_status.report.line_of(subsystem)

    async def adopt(self, change: Callable[[Config], Config]) -> None:
        """Put a change in force that is in no file. Raises EpadError."""
        await self._surfaces.reloader.adopt(change)

    async def apply(self, changes: Changes) -> None:
        await self._surfaces.live.apply(changes)

    def configured(self, config: Config) -> None:
        """Take a configuration as the one in force."""
        self.config = self._surfaces.daemon_status.config = config
