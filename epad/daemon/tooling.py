"""Open and close the tool door's parts."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from functools import partial

import structlog

from epad.agents.door import AgentDoor
from epad.agents.spawning import Spawning
from epad.answers.agents import SpawnedAgent
from epad.answers.orders import Limit
from epad.answers.tools import ToolCategory
from epad.confinement.zygote import Zygote
from epad.foreign.servers import ForeignServers
from epad.ledger.errors import LedgerError
from epad.operations.tool_looks import ToolsInForce
from epad.runtime.side_tasks import Tasks
from epad.storage.database import DatabaseError
from epad.tools.aftermath import sweep_for_ever, tell_of_unknown
from epad.tools.call import ToolCalls
from epad.tools.catalogue import Catalogue, CatalogueError, load
from epad.tools.consent import Consents
from epad.tools.file_labels import FileLabels
from epad.tools.listing import listed, names_of
from epad.tools.metrics import ToolSeries
from epad.tools.results import ResultStore
from epad.tools.sessions import Sessions
from epad.tools.undoing import Undoing
from epad.tools.wire.resources import Resources
from epad.tools.workers import Workers
from epad.vault.child import VaultChild
from epad.vault.watch import Watch
from statemachine.containment import Hold


@dataclass(slots=True)
class Labels:
    """Holds the sessions and the files with their labels. `known` once those of an earlier run are known again."""

    sessions: Sessions
    files: FileLabels
    known: bool = False


@dataclass(frozen=True, slots=True)
class Tooling:
    """The calls of tools, the questions about them, their workers' zygote, and the child that keeps the stores."""

    calls: ToolCalls
    workers: Workers
    zygote: Zygote
    in_force: ToolsInForce
    consents: Consents
    vault: VaultChild
    watch: Watch
    resources: Resources
    foreign: ForeignServers
    series: ToolSeries
    limits: Callable[[], list[Limit]]
    undoing: Undoing
    side: Tasks
    adopting: Callable[[], Awaitable[None]]
    labels: Labels
    results: ResultStore
    spawning: Spawning
    agent_door: AgentDoor
    agents: Callable[[], list[SpawnedAgent]]

    @property
    def pids(self) -> frozenset[int]:
        """Return the processes of ours that tools need."""
        own = self.workers.pids | self.vault.pids | self.foreign.pids
        return own | (frozenset() if self.zygote.pid is None else {self.zygote.pid})

    def show_series(self) -> None:
        """Bring the series of the workers up to date."""
        self.series.show(self.workers.work())

    def targets(self) -> frozenset[str]:
        """Return every tool and category as a target of holds."""
        return names_of(self.calls.catalogue.definitions.values())

    def categories(self, holds: Mapping[str, Hold], line_of: Callable[[str], str]) -> list[ToolCategory]:
        """Return the categories as people see them."""
        return listed(self.calls.catalogue.definitions.values(), self.workers.work(), holds, line_of)

    async def start(self) -> None:
        """Load the definitions; without them there are no tools, and the log says why."""
        log = structlog.get_logger("epad.tools")
        try:
            await self.labels.files.load()
            own = await load()
            self.foreign.serve(partial(self._serve, own))
            self._serve(own)
            unknown = await self.calls.unknown_since_crash()
        except (CatalogueError, DatabaseError, LedgerError) as error:
            log.error("tools.not_loaded", error=str(error))
            return
        self.side.start(tell_of_unknown(self.undoing, unknown, log), "tools-unknown")
        self.side.start(sweep_for_ever((self.undoing.store, self.results), log), "tools-sweep")
        log.info(
            "tools.loaded", tools=len(self.calls.catalogue.definitions), sha256=self.calls.catalogue.sha256
        )

    def reconfigure(self) -> None:
        """Have the foreign servers be as the configuration says now."""
        self.foreign.configure()

    def _serve(self, own: Catalogue) -> None:
        """Serve epad's own tools and those of the servers, as they are now."""
        self.calls.use(self.foreign.beside(own))

    async def adopt(self) -> None:
        """Go on with the sessions of adopted processes, and record the end of those that have ended meanwhile."""
        try:
            await self.adopting()
        except LedgerError as error:
            structlog.get_logger("epad.tools").error("tools.sessions_not_adopted", error=str(error))
        finally:
            self.labels.known = True
        await self.spawning.adopt()

    async def close(self) -> None:
        """End each call under way, the workers, the stores' child, and the zygote."""
        await self.side.cancel()
        await self.calls.close()
        await self.watch.close()
        await self.foreign.close()
        await self.vault.close()
        await self.zygote.close()
