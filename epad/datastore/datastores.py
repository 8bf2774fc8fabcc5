"""Look at the datastores in turn: choose the next, remember the result, and limit the share of a core."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from epad.configuration.schema import DatastoreConfig
from epad.copying.child import ChildError, ask_child
from epad.copying.errors import CheckpointError
from epad.datastore.metrics import LAST_SOUND, SOUND
from epad.datastore.restore import Answer, last_restored
from epad.inspection.inspect import ACCEPT, Look
from epad.metrics.registry import Metrics
from probes.datastore import DatastoreCheck, DatastoreSettings
from statemachine.clock import Clock
from statemachine.containment import Hold, Rung
from statemachine.finding import HOST

DAMAGE = frozenset({"rot", "flip", "structure"})
"""What no program has done, and a restore undoes. The other kinds may be somebody's doing: rows taken out, another
schema, a file moved away or its disk not mounted; and what could not be looked at may be whole."""


@dataclass(frozen=True, slots=True)
class RestoreOrder:
    """Orders a restore: its `key` is the same on every retry, `stop` ends a subsystem's processes.

    `was_begun` says that a former life of the daemon has begun with it.
    """

    key: str
    checkpoints: Path
    stop: Callable[[str], Awaitable[None]]
    was_begun: bool = False


class Datastores:
    """Looks at one store at a time, in a child, so often that all of it takes no more than a share of one core."""

    def __init__(
        self,
        stores: Mapping[str, DatastoreConfig],
        homes: Path,
        config: DatastoreSettings,
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
        self._held: dict[str, str] = {}
        self._restoring: set[str] = set()
        self._forgotten: set[str] = set()
        self._restored = {name: last_restored(homes / name) for name in stores}

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(self._stores)

    async def check(self) -> list[DatastoreCheck]:
        """Return the knowledge about each store; begin a look that is due, without waiting for it."""
        if self._looking is None or self._looking.done():
            due = [name for name in self._due if name not in self._restoring]
            name = min(due, key=lambda name: self._due[name], default="")
            if name and self._due[name] <= self._clock.monotonic():
                self._looking = asyncio.create_task(self._look(name), name=f"look at {name}")
        return [self._known(name, store) for name, store in self._stores.items()]

    def doubts(self) -> list[str]:
        """Name the stores that are known to be damaged, with the damage: no copy of them is a good one."""
        return [
            f"datastore {name}: {kind}: {detail}"
            for name, look in self._looks.items()
            for kind, detail in look.faults[:1]
        ]

    def forget(self, subsystem: str) -> None:
        """Withhold the findings about a subsystem's stores until another look, due now, has confirmed them.

        It stays doubted meanwhile.
        """
        names = {name for name, store in self._stores.items() if (store.subsystem or HOST) == subsystem}
        self._forgotten |= names
        self._due |= dict.fromkeys(names, self._clock.monotonic())

    def to_restore(self) -> dict[str, str]:
        """Return the damaged stores that RECOVERY may restore, each with who writes it."""
        return {name: self._stores[name].subsystem for name in self._looks if self._is_to_restore(name)}

    def hold_on(self, subsystem: str) -> Hold | None:
        """Return the hold on a store's writer: stopped from before a restore until the store is found sound."""
        if not self._held:
            return None
        reasons = [reason for name, reason in self._held.items() if self._stores[name].subsystem == subsystem]
        return Hold(Rung.STOP, reasons[0]) if reasons else None

    def hold_writer(self, name: str) -> str:
        """Begin a restore: nobody looks at the store, and who writes it is held, `hold_on` says how.

        Return its name; empty if the store is not to be restored (any more).
        """
        store = self._stores.get(name)
        if store is None or not store.restore:
            return ""
        self._restoring.add(name)
        self._held[name] = f"datastore {name} is damaged and is being restored"
        return store.subsystem

    async def restore(self, name: str, order: RestoreOrder) -> str:
        """Stop a store's writer, put the last sound copy in its place and look at it. Raises CheckpointError.

        A store that is sound by now is left alone; but a restore begun by the previous run is not preceded by a look:
        the writer's last writes at its stop may hide the damage.
        """
        writer = self.hold_writer(name)
        if not writer:
            raise CheckpointError(f"datastores.{name}.restore is not true any more; nothing was restored")
        try:
            await self.settle()
            if not order.was_begun:
                if name not in self._looks:
                    await self._look(name)
                if not self._is_to_restore(name):
                    return self._left_alone(name)
            found = "".join(
                f"{kind}: {detail}; " for kind, detail in self._looks.get(name, Look()).faults[:1]
            )
            await order.stop(writer)
            return f"{found}{writer} stopped; {await self._put_in_place(name, order)}"
        except (ChildError, OSError) as error:
            raise CheckpointError(f"datastore {name}: {error}") from error
        finally:
            self._restoring.discard(name)

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
                "epad.inspection.inspect",
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
        self._take(name, look)

    def _take(self, name: str, look: Look) -> None:
        """Remember the result of a look, and the time of the next."""
        self._forgotten.discard(name)
        known = self._looks.get(name)
        if look.error and known is not None and known.faults:
            look = known  # what could not be looked at has not become sound
        self._looks[name] = look
        rest_seconds = max(self._config.interval_seconds, look.cpu_seconds / self._config.core_share)
        self._due[name] = self._clock.monotonic() + rest_seconds
        self._metrics.of(SOUND).labels(name).set(look.is_sound)
        if look.is_sound:
            self._held.pop(name, None)
            self._metrics.of(LAST_SOUND).labels(name).set(self._clock.utc().timestamp())

    def _is_to_restore(self, name: str) -> bool:
        look = self._looks.get(name, Look())
        return self._stores[name].restore and any(kind in DAMAGE for kind, _ in look.faults)

    def _left_alone(self, name: str) -> str:
        look = self._looks[name]
        if not look.is_sound:
            why = look.error or ": ".join(look.faults[0])
            raise CheckpointError(f"datastore {name}: {why}; no restore undoes this, a person must look")
        self._held.pop(name, None)
        return f"datastore {name} was found sound by now; nothing restored"

    async def _put_in_place(self, name: str, order: RestoreOrder) -> str:
        store = self._stores[name]
        done = await ask_child(
            "epad.datastore.restore",
            *(store.path, str(self._homes / name), str(order.checkpoints)),
            *(store.kind, str(store.shrink_ratio), order.key),
            answer=Answer,
            deadline_seconds=self._config.deadline_seconds,
        )
        if done.restored is None:
            raise CheckpointError(f"datastore {name}: {done.error}")
        self._restored[name] = done.restored
        self._take(name, done.seen)
        return done.restored.sentence

    def _known(self, name: str, store: DatastoreConfig) -> DatastoreCheck:
        """Return the check for the probe; empty while the store is restored, or its faults are to be confirmed."""
        look, subsystem = self._looks.get(name), store.subsystem or HOST
        if look is None or name in self._restoring | self._forgotten:
            return DatastoreCheck(name, subsystem, note=self._note(name))
        note = "; ".join(filter(None, (look.note, self._note(name))))
        return DatastoreCheck(name, subsystem, True, look.faults, look.rows, note, look.error)

    def _note(self, name: str) -> str:
        """Describe the last restore, as long as the damaged file is there to be examined."""
        done = self._restored[name]
        return done.sentence if done is not None and Path(done.aside).exists() else ""
