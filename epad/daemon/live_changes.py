"""Carry a reload out on the parts of a running daemon.

First come the steps that can be refused: new listeners, keys, the addresses of the page and the metrics. Then budgets,
before any request can spend by them; then the facts of every decision; last the processes. Opened parts are closed
again if any of it fails before decisions follow the new configuration; after that only a process can fail.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass

import structlog

from epad.configuration.schema import Config
from epad.confinement.cells import Cells
from epad.confinement.way_out import WayOut
from epad.control_loop.decider import Decider
from epad.control_loop.rules import make_rules
from epad.control_loop.world import DaemonWorld
from epad.daemon.stores import Stores
from epad.daemon.tooling import Tooling
from epad.gateway.access import Access
from epad.gateway.change import ReadyChange
from epad.gateway.child_environment import Environments
from epad.gateway.client_keys import Keys
from epad.gateway.errors import GatewayError, UpstreamError
from epad.gateway.server import Gateway
from epad.ledger.errors import LedgerError
from epad.metrics.registry import Metrics
from epad.metrics.server import MetricsServer, SurfaceError
from epad.operations.reload import ChangeRefusedError, Changes
from epad.operations.status import DaemonStatus
from epad.probing.build import Watchers, configure_assessor
from epad.simulate.recorder import Recorder
from epad.storage.database import DatabaseError
from epad.supervisor.errors import SupervisorError
from epad.supervisor.intent import Held
from epad.supervisor.log_pump import LogPump, log_configs
from epad.supervisor.supervisor import Supervisor
from epad.web.server import WebPage, WebPageError
from statemachine.containment import Hold, Rung


@dataclass(frozen=True, slots=True)
class LiveChanges:
    """The parts that a reload reaches. `configured` is told the configuration once it is in force."""

    configured: Callable[[Config], None]
    access: Access
    cells: Cells
    way_out: WayOut
    daemon_status: DaemonStatus
    decider: Decider
    environments: Environments
    gateway: Gateway
    keys: Keys
    logs: LogPump
    metrics: Metrics
    metrics_server: MetricsServer
    page: WebPage
    recorder: Recorder
    stores: Stores
    supervisor: Supervisor
    tools: Tooling | None
    watchers: Watchers
    world: DaemonWorld

    async def apply(self, changes: Changes) -> None:
        """Bring the parts from its configuration to a changed one: leaving parts accept nothing new.

        Raises ChangeRefusedError, and then nothing has changed; SupervisorError, DatabaseError, and then all decisions
        follow it, and the next reload does the rest.
        """
        async with AsyncExitStack() as undo:
            ready = await self._make_ready(changes, undo)
            for name in changes.removed:
                undo.callback(self._hold_as, name, self.access.held(name))
                self.access.hold(name, Rung.BLOCK, "it is configured no more")
            try:
                await self.stores.change_budgets(changes.config)
            except (DatabaseError, LedgerError) as error:
                raise ChangeRefusedError(f"what was spent cannot be read: {error}") from error
            self._configure(changes)
            undo.pop_all()
        for name in changes.removed:
            self.access.sever(name)
            await self.cells.shut(name)
        self.way_out.configure()
        if self.tools is not None and "tools" in changes.tables:
            self.tools.reconfigure()
        await self.gateway.changes.take(ready)
        if "upstreams" in changes.tables:
            await self.cells.watch_anew()
        await self._bring_subsystems(changes)

    async def _make_ready(self, changes: Changes, undo: AsyncExitStack) -> ReadyChange:
        """Do the steps that can be refused; `undo` gets the ways back. Raises ChangeRefusedError."""
        config, former, tables = changes.config, self.daemon_status.config, changes.tables
        try:
            ready = await self.gateway.changes.make_ready(config, tables)
            undo.push_async_callback(self.gateway.changes.give_up, ready)
            if "web" in tables:
                await self._move_page(config)
                undo.push_async_callback(self._move_back, self._move_page, former)
            if "metrics" in tables:
                await self._move_metrics(config)
                undo.push_async_callback(self._move_back, self._move_metrics, former)
        except (GatewayError, UpstreamError, SurfaceError, WebPageError) as error:
            raise ChangeRefusedError(str(error)) from error
        return ready

    async def _move_page(self, config: Config) -> None:
        """Open the page where it is to be. Raises WebPageError."""
        try:
            await self.page.move(config.web)
        finally:
            self.daemon_status.web_url = self.page.url

    async def _move_metrics(self, config: Config) -> None:
        """Open the metrics where they are to be. Raises SurfaceError."""
        try:
            await self.metrics_server.move(config.metrics.listen, config.metrics.hosts)
        finally:
            self.daemon_status.metrics_url = self.metrics_server.url

    async def _move_back(self, move: Callable[[Config], Awaitable[None]], former: Config) -> None:
        """Open the page, or the metrics, where it was; why the change is given up is told, and not this."""
        try:
            await move(former)
        except (SurfaceError, WebPageError) as error:
            structlog.get_logger("epad.reload").error("config.not_moved_back", error=str(error))

    def _hold_as(self, name: str, hold: Hold) -> None:
        self.access.hold(name, hold.rung, hold.reason)

    def _configure(self, changes: Changes) -> None:
        """Have every part go by the configuration, at once: no decision is made by half of it."""
        config = changes.config
        gone = self.daemon_status.config.upstreams.keys() - config.upstreams.keys()
        self.configured(config)
        self.recorder.configured(config)
        for part in (self.environments, self.keys, self.world, self.watchers.roster, self.metrics):
            part.configure(config.subsystems)
        self.world.serve([upstream.served_by for upstream in config.upstreams.values()])
        self.watchers.serve(config.upstreams, gone)
        self.logs.configure(log_configs(config))
        self.decider.configure(make_rules(config))
        configure_assessor(self.decider.assessor, config.hysteresis)

    async def _bring_subsystems(self, changes: Changes) -> None:
        """Start, restart and stop subsystems as configured. Raises SupervisorError, DatabaseError."""
        try:
            await self.keys.give_to_clients()
        except OSError as error:
            raise SupervisorError(f"a client's key cannot be written: {error}") from error
        holds = {name: self.decider.hold_for(name) for name in changes.added}
        for name, hold in holds.items():
            self.access.hold(name, hold.rung, hold.reason)
            if hold.rung >= Rung.BLOCK:
                await self.cells.shut(name)
        await self.supervisor.reconfigure(
            changes.config.subsystems,
            {name: Held(hold.rung, hold.reason, hold.paused) for name, hold in holds.items()},
        )
        await asyncio.gather(*(self.supervisor.restart(name) for name in changes.restarted))
        for name in changes.removed:
            await self.keys.forget(name)
            self.access.release(name)
            await self.cells.open(name)
            self.metrics.forget(name)
