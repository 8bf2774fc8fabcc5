"""Carry a reload out on the parts of a running house.

First come the steps that can be refused: new listeners, keys, the addresses of the page and the metrics. Then budgets,
before any request can spend by them; then the facts of every decision; last the processes.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

from epad.configuration.schema import Config
from epad.control_loop.decider import Decider
from epad.control_loop.rules import make_rules
from epad.control_loop.world import WorldView
from epad.daemon.stores import Stores
from epad.gateway.access import Access
from epad.gateway.change import ReadyChange
from epad.gateway.child_environment import Environments
from epad.gateway.client_keys import Keys
from epad.gateway.errors import GatewayError, UpstreamError
from epad.gateway.server import Gateway
from epad.metrics.registry import Metrics
from epad.metrics.server import MetricsServer, SurfaceError
from epad.operations.reload import ChangeRefusedError, Changes
from epad.operations.status import StatusBoard
from epad.probing.build import Watchers, configure_assessor
from epad.simulate.recorder import Recorder
from epad.supervisor.intent import Held
from epad.supervisor.log_pump import LogPump, log_configs
from epad.supervisor.supervisor import Supervisor
from epad.web.server import WebPage, WebPageError
from statemachine.containment import Rung


@dataclass(frozen=True, slots=True)
class LiveChanges:
    """The parts that a reload reaches. `configured` is told the configuration once it is in force."""

    configured: Callable[[Config], None]
    access: Access
    board: StatusBoard
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
    watchers: Watchers
    world: WorldView

    async def apply(self, changes: Changes) -> None:
        """Bring the house from its configuration to a changed one: leaving parts accept nothing new.

        Raises ChangeRefusedError, and then nothing has changed; SupervisorError, DatabaseError, LedgerError.
        """
        ready = await self._make_ready(changes)
        for name in changes.removed:
            self.access.hold(name, Rung.BLOCK, "it is configured no more")
            self.access.sever(name)
        await self.stores.change_budgets(changes.config)
        await self._configure(changes, ready)
        await self._bring_subsystems(changes)

    async def _make_ready(self, changes: Changes) -> ReadyChange:
        """Do the steps that can be refused. Raises ChangeRefusedError."""
        config = changes.config
        try:
            ready = await self.gateway.changes.make_ready(config)
        except (GatewayError, UpstreamError) as error:
            raise ChangeRefusedError(str(error)) from error
        try:
            await self._move_surfaces(config, changes.tables)
        except (SurfaceError, WebPageError) as error:
            await self.gateway.changes.give_up(ready)
            raise ChangeRefusedError(str(error)) from error
        return ready

    async def _move_surfaces(self, config: Config, tables: tuple[str, ...]) -> None:
        """Open the page and the metrics where they are to be. Raises SurfaceError, WebPageError."""
        if "web" in tables:
            self.board.web_url = await self.page.move(config.web)
        if "metrics" in tables:
            former = self.board.config.web
            try:
                self.board.metrics_url = await self.metrics_server.move(
                    config.metrics.listen, config.metrics.hosts
                )
            except SurfaceError:
                if "web" in tables:
                    self.board.web_url = await self.page.move(former)
                raise

    async def _configure(self, changes: Changes, ready: ReadyChange) -> None:
        """Have every part go by the configuration."""
        config = changes.config
        gone = self.board.config.upstreams.keys() - config.upstreams.keys()
        self.configured(config)
        self.recorder.configured(config)
        for part in (self.environments, self.keys, self.world, self.watchers.roster, self.metrics):
            part.configure(config.subsystems)
        self.world.serve([upstream.served_by for upstream in config.upstreams.values()])
        self.watchers.serve(config.upstreams, gone)
        self.logs.configure(log_configs(config))
        self.decider.configure(make_rules(config))
        configure_assessor(self.decider.assessor, config.hysteresis)
        await self.gateway.changes.take(ready)

    async def _bring_subsystems(self, changes: Changes) -> None:
        """Start, restart and stop subsystems as configured."""
        await self.keys.give_to_clients()
        holds = {name: self.decider.hold_for(name) for name in changes.added}
        for name, hold in holds.items():
            self.access.hold(name, hold.rung, hold.reason)
        await self.supervisor.reconfigure(
            changes.config.subsystems,
            {name: Held(hold.rung, hold.reason, hold.paused) for name, hold in holds.items()},
        )
        await asyncio.gather(*(self.supervisor.restart(name) for name in changes.restarted))
        for name in changes.removed:
            await self.keys.forget(name)
            self.access.release(name)
            self.metrics.forget(name)
