"""The daemon's side of the datastores: which is looked at next, what was found, and how much of a core it took."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from epad.checkpoint.child import ChildError, ask_child
from epad.config import DatastoreConfig
from epad.config_probes import DatastoreProbeConfig
from epad.datastore.look import ACCEPT, Look
from epad.metrics import Metrics
from probes.datastore import DatastoreCheck
from statemachine.clock import Clock
from statemachine.finding import HOST


class Datastores:
    """Looks at one store at a time, in a child, so often that all of it takes no more than a share of one core."""

    def __init__(
        self,
        stores: Mapping[str, DatastoreConfig],
        homes: Path,
        config: DatastoreProbeConfig,
        clock: Clock,
        metrics: Metrics,
    ) -> None:
        self._stores = stores
        self._homes = homes
        self._config = config
        self._clock = clock
        self._metrics = metrics
        self._looks: dict[str, Look] = {}
        self._due = dict.fromkeys(stores, clock.monotonic())
        self._accepted: set[str] = set()
        self._looking: asyncio.Task[None] | None = None

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(self._stores)

    async def check(self) -> list[DatastoreCheck]:
        """What is known of each store; a look that is due is begun, and nobody waits for it."""
        if self._looking is None or self._looking.done():
            name = min(self._due, key=lambda name: self._due[name], default="")
            if name and self._due[name] <= self._clock.monotonic():
                self._looking = asyncio.create_task(self._look(name), name=f"look at {name}")
        return [self._known(name, store) for name, store in self._stores.items()]

    def doubts(self) -> list[str]:
        """Which stores are known to be damaged, and how: no copy of them is a good one."""
        return [
            f"datastore {name}: {kind}: {detail}"
            for name, look in self._looks.items()
            for kind, detail in look.faults[:1]
        ]

    def accept(self, name: str) -> None:
        """Take a store as it is for sound, at a person's word; the next look begins anew from there."""
        self._accepted.add(name)
        self._due[name] = self._clock.monotonic()

    async def settle(self) -> None:
        """Wait for the look that is under way, if any."""
        if self._looking is not None:
            await asyncio.wait({self._looking})

    async def close(self) -> None:
        """End the look that is under way."""
        if self._looking is not None:
            self._looking.cancel()
            with suppress(asyncio.CancelledError):
                await self._looking

    async def _look(self, name: str) -> None:
        store, is_accepted = self._stores[name], name in self._accepted
        try:
            look = await ask_child(
                "epad.datastore.look",
                store.path,
                str(self._homes / name),
                store.kind,
                str(store.shrink_ratio),
                *([ACCEPT] if is_accepted else []),
                answer=Look,
                deadline_seconds=self._config.deadline_seconds,
            )
        except (ChildError, OSError) as error:
            look = Look(error=str(error), cpu_seconds=self._config.deadline_seconds * self._config.core_share)
        if is_accepted and not look.error:
            self._accepted.discard(name)
        known = self._looks.get(name)
        if look.error and known is not None and known.faults:
            look = known  # what could not be looked at has not become sound
        self._looks[name] = look
        rest_seconds = max(self._config.interval_seconds, look.cpu_seconds / self._config.core_share)
        self._due[name] = self._clock.monotonic() + rest_seconds
        self._metrics.datastore_sound.labels(name).set(not look.faults and not look.error)
        if not look.faults and not look.error:
            self._metrics.datastore_seen.labels(name).set(self._clock.utc().timestamp())

    def _known(self, name: str, store: DatastoreConfig) -> DatastoreCheck:
        look = self._looks.get(name)
        if look is None:
            return DatastoreCheck(name, store.subsystem or HOST)
        return DatastoreCheck(
            name, store.subsystem or HOST, True, look.faults, look.rows, look.note, look.error
        )
