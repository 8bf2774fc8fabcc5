"""Join the parts that repair or save: recovery, replay, lifeboat."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import msgspec
import structlog

from epad.answers.decisions import Recovery
from epad.checkpoint.retention import list_bundles
from epad.checkpoint.source import DirectorySource, FileSource, Source
from epad.configuration.directories import Directories
from epad.configuration.schema import Config
from epad.control_loop.decider import Decider
from epad.control_loop.history import History
from epad.control_loop.recovery_plan import recovery_attempts, recovery_plan
from epad.control_loop.responder import StepWork
from epad.control_loop.step import StepName
from epad.copying.errors import CheckpointError
from epad.gateway.costs import CostBook
from epad.gateway.identity import Identities
from epad.ledger.anchor import HEAD_FILE, KEYS_FILE, LOG_FILE
from epad.ledger.errors import LedgerError
from epad.ledger.head import Signer
from epad.ledger.store import Ledger
from epad.lifeboat.ballast import Ballast
from epad.lifeboat.contents import Cargo
from epad.lifeboat.first_tier import FirstTier
from epad.lifeboat.relaunch import FIRST_TIER_FILE
from epad.response.lifeboat import Lifeboat
from epad.response.replay import Replay
from epad.runtime.timers import sleep_to_beat
from epad.storage.database import Database, DatabaseError
from statemachine.clock import Clock
from statemachine.phase import Phase

KEEP_READY_SECONDS = 30.0
CHECKPOINTS_SHOWN = 3


class OpenStores(Protocol):
    """The part of `epad.daemon.stores.Stores` that rescue and replay use."""

    @property
    def ledger(self) -> Ledger: ...

    @property
    def database(self) -> Database: ...

    @property
    def identities(self) -> Identities: ...

    @property
    def costs(self) -> CostBook: ...


@dataclass(frozen=True, slots=True)
class Lent:
    """Gives the rescue its parts of the daemon."""

    configured: Callable[[], Config]
    directories: Directories
    stores: OpenStores
    clock: Clock
    history: History
    sources: Callable[[], list[Source]]
    facts: Callable[[], Mapping[str, Any]]

    @property
    def config(self) -> Config:
        """Return the configuration in force; a reload changes it."""
        return self.configured()


class Rescue:
    """Keeps the lifeboat ready, does its steps, and describes the plan of a recovery."""

    def __init__(self, lent: Lent, replay: Replay, signer: Signer | None) -> None:
        self._lent = lent
        self.replay = replay
        room = lent.directories.lifeboat
        self._ballast = Ballast(room / "ballast", lent.config.lifeboat.ballast_bytes)
        self._first = FirstTier(
            room / FIRST_TIER_FILE, lent.config.lifeboat.first_tier_bytes, self._cargo().items
        )
        self._lifeboat = Lifeboat(
            lent.directories.checkpoints,
            lent.config.checkpoint,
            self._sources,
            lent.facts,
            lent.history,
            lent.clock,
            self._first,
            self._ballast,
            signer,
        )
        self._log = structlog.get_logger("epad.rescue")

    def work(self) -> dict[StepName, StepWork]:
        """Return the steps it does."""
        return {
            StepName.REPLAY: self.replay.replay,
            StepName.FIRST_TIER: self._lifeboat.save_first,
            StepName.LIFEBOAT: self._lifeboat.save,
        }

    async def journal_failed(self, reason: str) -> None:
        """Save the irreplaceable while possible, and give the journal the ballast's room, since it takes no write."""
        await self._first.write(reason)
        self._log.warning("lifeboat.ballast_released", result=await self._lifeboat.make_room())

    async def keep_ready(self, phase: Callable[[], Phase]) -> None:
        """Have the first tier's file and, in NORMAL, the ballast; a side task that never ends."""
        told = ""
        while True:
            trouble = await self._first.prepare() or await self._keep_ballast(phase())
            if trouble != told and trouble:
                self._log.warning("lifeboat.not_ready", reason=trouble)
            told = trouble
            await sleep_to_beat(KEEP_READY_SECONDS)

    async def _keep_ballast(self, phase: Phase) -> str:
        if phase is not Phase.NORMAL or not self._lent.config.lifeboat.ballast_bytes:
            return ""
        try:
            made = await asyncio.to_thread(self._ballast.make)
        except OSError as error:
            return f"ballast: {error.strerror or error}"
        return "" if made else "ballast: too little room on the disk for it"

    async def plan(self, decider: Decider) -> Recovery:
        """Return the plan that `epactl recovery` shows. Raises DatabaseError."""
        try:
            lost, trouble = await self.replay.lost(), ""
        except LedgerError as error:
            lost, trouble = [], str(error)
        policy, incident = self._lent.config.policy, decider.incident
        items = recovery_plan(
            decider.prospect(),
            decider.assessor.active,
            {name: spec.depends_on for name, spec in self._lent.config.subsystems.items()},
            await asyncio.to_thread(self._verified),
            sum(one.state == "waiting" for one in lost),
        )
        return {
            "phase": decider.phase,
            "attempts": incident.attempts,
            "attempts_allowed": policy.recovery_attempts,
            "running": incident.attempt_running,
            "recoveries_this_hour": incident.recent_recoveries(self._lent.clock.monotonic()),
            "plan": [item.as_json() for item in items],
            "tried": await recovery_attempts(self._lent.stores.database),
            "parked": dict(incident.parked),
            "lost_turns": [one.as_json() for one in lost],
            "trouble": trouble,
        }

    async def lost_count(self) -> int:
        """Return how many turns the previous run left open; 0 if that cannot be read, which is reported elsewhere."""
        try:
            return len(await self.replay.lost())
        except (LedgerError, DatabaseError):
            return 0

    def _verified(self) -> Sequence[str]:
        try:
            bundles = list_bundles(self._lent.directories.checkpoints).bundles
        except CheckpointError:
            return []
        return [bundle.id for bundle in bundles if bundle.verified][:CHECKPOINTS_SHOWN]

    def _saved_records(self) -> int:
        """Return the last record that is surely in the newest good checkpoint's copy of the ledger."""
        bundles = list_bundles(self._lent.directories.checkpoints).bundles
        newest = next((b for b in bundles if b.verified and not b.partial), None)
        records = newest.manifest.facts.get("ledger_records") if newest else 0
        return records if isinstance(records, int) else 0

    def _cargo(self) -> Cargo:
        directories = self._lent.directories
        return Cargo(
            directories.state_database,
            directories.ledger_database,
            self._anchor,
            lambda: msgspec.json.format(msgspec.json.encode(self._lent.config)),
            self._lent.facts,
            self._saved_records,
        )

    @property
    def _anchor(self) -> Path:
        return self._lent.directories.state / "anchor"

    def _sources(self) -> list[Source]:
        """Return a checkpoint's sources, after those that a clean start elsewhere needs too: heads, keys, segments."""
        sources = self._lent.sources()
        names = {source.name for source in sources}
        heads = [name for name in (KEYS_FILE, LOG_FILE, HEAD_FILE) if (self._anchor / name).exists()]
        own: list[Source] = [FileSource(f"anchor/{name}", self._anchor / name) for name in heads]
        segments = self._lent.directories.state / "segments"
        folders = {"keys": self._lent.directories.keys, "segments": segments}
        own += [DirectorySource(name, path) for name, path in folders.items() if path.is_dir()]
        return [*(source for source in own if source.name not in names), *sources]
