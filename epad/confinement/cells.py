"""Keep the cells of confined subsystems: made, found again by a later daemon, and their doors opened and shut by name.

A door is a listening socket in a cell's own network, at which the daemon accepts: the gateway's door, and the way
out's. The socket stays here for as long as the cell lives; who accepts gets a copy of it.

| event | the doors of that cell |
|---|---|
| `start` | made with the cell; opened unless the subsystem is shut |
| `shut` | refuse at once who connects, then hang up on who is in; later cells of the subsystem begin shut |
| `open` | opened, and so are those of later cells |
| `ended` | gone |
| the daemon dies | closed by the kernel: nobody accepts, so nothing passes |
| `adopt` | made anew in the living cell, by the addresses of its record; opened unless the subsystem is shut |

A door is shut by shutdown(2), after which the kernel refuses who connects, and opened by listen(2) on the same socket,
which has kept its address: no namespace is entered for either. Rejected: closing the socket, since another must then be
made inside (6 ms); accepting and hanging up, since the subsystem could go on using the daemon's processor time.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from msgspec import structs

from epad.confinement import placeholders
from epad.confinement.answer import Cell, Reopened
from epad.confinement.cell_parts import CellOrder, CellsContext
from epad.confinement.cell_record import CellRecord
from epad.confinement.doors import ADDRESSES, DoorKind, url_of
from epad.confinement.errors import ConfinementError
from epad.confinement.living_cell import LivingCell, has_own_network
from epad.confinement.policy import Ability, Access, Policy
from epad.confinement.spawner import Spawner
from epad.storage.event_log import EventKind
from runners.cell.plan import CellPlan, Door, Wall

_BACKLOG: Final = 1_024


@dataclass(frozen=True, slots=True)
class Confinement:
    """Says how a subsystem is confined. `missing` are walls it has to do without, each with the reason.

    `trouble` is why its doors are not as they should be.
    """

    profile: str
    missing: Mapping[str, str] = field(default_factory=dict)
    trouble: str = ""


class Cells:
    """Implements `epad.supervisor.cell_maker.CellMaker`, and opens and shuts doors for the responses."""

    def __init__(self, context: CellsContext) -> None:
        self._context = context
        self._spawner = context.spawner
        self._living: dict[str, LivingCell] = {}
        self._shut: set[str] = set()

    def use(self, spawner: Spawner) -> None:
        """Have cells made by this from now on: an engine may hold processes in another way than a child of ours."""
        self._spawner = spawner
        self._context.planner.use(spawner)

    # For the start of a subsystem.

    async def gateway_url(self, subsystem: str) -> str:
        """Return the URL of the gateway's door inside; empty where a subsystem has none, and uses that for everyone."""
        doors = await self._doors(self._context.policies(subsystem))
        return url_of(DoorKind.GATEWAY) if DoorKind.GATEWAY in doors else ""

    async def proxies(self, subsystem: str) -> dict[str, str]:
        """Return the variables that lead a program to its way out; none where it has none."""
        if DoorKind.WAY_OUT not in await self._doors(self._context.policies(subsystem)):
            return {}
        url = url_of(DoorKind.WAY_OUT)
        authorities, trusted = self._context.authorities, dict[str, str]()
        if authorities is not None and self._context.policies(subsystem).intercept:
            trusted = authorities.variables(subsystem)
        return {
            **trusted,
            **{
                name: url
                for each in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY")
                for name in (each, each.lower())
            },
            **dict.fromkeys(("NO_PROXY", "no_proxy"), "127.0.0.1,localhost"),
            "NODE_USE_ENV_PROXY": "1",  # without it Node's own clients read none of these
        }

    async def plan(
        self, subsystem: str, command: tuple[str, ...], environment: Mapping[str, str], directory: Path
    ) -> CellPlan | None:
        """Plan the walls around one start of a subsystem; None if it has none. Raises ConfinementError."""
        policy = self._context.policies(subsystem)
        if not policy.confined:
            self._context.records.forget(subsystem)
            return None
        _require_workspace(policy)
        doors = tuple(Door(*ADDRESSES[kind]) for kind in await self._doors(policy))
        shown = tuple(str(Path(path).parent) for name, path in environment.items() if name == "NOTIFY_SOCKET")
        decoys = self._context.decoys
        texts = decoys.files(policy) if policy.decoys and decoys is not None else ()
        if trusted := await self._trusted(policy, doors):
            shown = (*shown, trusted)
        if self._context.identity is not None and policy.profile != "sealed":
            shown = (*shown, str(self._context.identity))
        order = CellOrder(
            policy, command, environment, directory, doors, self._context.watcher.ports(), shown, texts
        )
        return await self._context.planner.plan(order)

    async def start(self, plan: CellPlan, output: int) -> int:
        """Make a cell, print into `output`, and return the pid of its first process. Raises ConfinementError.

        Its record comes first, so the next daemon finds the doors of a cell that this one made and never told of.
        """
        await self._end(plan.name)
        kinds = [kind for kind in DoorKind if Door(*ADDRESSES[kind]) in plan.doors]
        record = CellRecord(
            self._context.policies(plan.name),
            self._context.clock.monotonic(),
            doors={kind: ADDRESSES[kind] for kind in kinds},
            own_network=Wall.NETWORK in plan.walls,
        )
        self._write(plan.name, record)
        nothing = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
        try:
            made = await self._spawner.spawn(plan, nothing, output, output)
        except ConfinementError:
            self._context.records.forget(plan.name)
            raise
        finally:
            os.close(nothing)
        record = structs.replace(record, missing=dict(made.missing), placeholders=made.placeholders)
        self._write(plan.name, record)
        living = self._living[plan.name] = LivingCell(
            record, made.pid, dict(zip(kinds, made.doors, strict=False))
        )
        self._watch(plan.name, made)
        self._tell_of(plan.name, made)
        await self._bring(plan.name, living)
        return made.pid

    async def adopt(self, subsystem: str, pid: int) -> None:
        """Know the cell that an earlier daemon has made around this process, and make its doors anew.

        That they cannot be made is told and no more: whoever is inside reaches nothing, until it is started again.
        """
        record = self._context.records.read(subsystem)
        if record is None:
            if has_own_network(pid):
                now = self._context.clock.monotonic()
                record = CellRecord(self._context.policies(subsystem), now, own_network=True)
                reason = (
                    "its record is gone, and its doors with it: it reaches nothing until it is started again"
                )
                self._closed(subsystem, self._living.setdefault(subsystem, LivingCell(record, pid)), reason)
            return
        living = self._living[subsystem] = LivingCell(record, pid)
        kinds = [kind for kind in DoorKind if kind in record.doors and kind in self._context.keepers]
        try:
            addresses = [Door(*record.doors[kind]) for kind in kinds]
            new = await self._reopen(living, addresses)
        except ConfinementError as error:
            self._closed(subsystem, living, f"its doors could not be made anew: {error}")
            return
        living.doors = dict(zip(kinds, new.doors, strict=True))
        self._watch(subsystem, new)
        await self._bring(subsystem, living)

    async def ended(self, subsystem: str) -> None:
        """Close the doors of a cell that is no more, and forget it."""
        await self._end(subsystem)
        if self._context.authorities is not None:
            self._context.authorities.forget(subsystem)

    async def _end(self, subsystem: str) -> None:
        living = self._living.pop(subsystem, None)
        if living is None:
            return
        async with living.changing:
            await self._close(subsystem, living)
            living.close_doors()
        self._context.watcher.close(subsystem)
        others = (self._context.policies(name) for name in self._living)
        written = (path for policy in others for path in policy.paths(Access.WRITE))
        placeholders.clear(living.record.placeholders, written)
        self._note_its_life(living.record)
        self._context.records.forget(subsystem)

    def has(self, subsystem: str) -> bool:
        """Tell if a subsystem's process is in a cell."""
        return subsystem in self._living

    def has_own_network(self, subsystem: str) -> bool:
        """Tell if nothing but its doors leads out of a subsystem's cell."""
        living = self._living.get(subsystem)
        return living is not None and _has_own_network(living)

    async def watch_anew(self) -> None:
        """See attempts to connect to the model servers that are configured now."""
        for subsystem, living in list(self._living.items()):
            try:
                new = await self._reopen(living, ())
            except ConfinementError as error:
                self._context.log.warning("cell.unwatched", subsystem=subsystem, reason=str(error))
                continue
            if self._living.get(subsystem) is living:
                self._watch(subsystem, new)
            elif new.watch is not None:
                new.watch.close()

    # For the responses.

    async def shut(self, subsystem: str) -> str:
        """Let a subsystem reach nothing, now and when it is started again; its open connections are cut off.

        Return the result in words; empty where it has no door.
        """
        self._shut.add(subsystem)
        living = self._living.get(subsystem)
        if living is None or not living.doors:
            return ""
        living.refuse_all()  # before anything is awaited
        await self._bring(subsystem, living)
        return f"its {living.listed} shut"

    async def open(self, subsystem: str) -> str:
        """Let a subsystem through its doors again; return the result in words, empty where it has no door."""
        self._shut.discard(subsystem)
        living = self._living.get(subsystem)
        if living is None or not living.doors:
            return "" if living is None else living.trouble
        await self._bring(subsystem, living)
        return living.trouble or f"its {living.listed} open"

    def fall_back(self, subsystem: str) -> str:
        """Start a subsystem under its last good policy from now on; name the suspect changes, if any are."""
        return self._context.policies.fall_back(subsystem)

    def take_back(self, subsystem: str) -> None:
        """Start a subsystem as it is configured again."""
        self._context.policies.take_back(subsystem)

    # For who looks, and at the end.

    def confinement(self, subsystem: str) -> Confinement | None:
        """Say how a subsystem's process is confined; None if no cell of it stands."""
        living = self._living.get(subsystem)
        if living is None:
            return None
        return Confinement(living.record.policy.profile, living.record.missing, living.trouble)

    @property
    def pids(self) -> frozenset[int]:
        """Return the processes of ours that make cells."""
        pid = self._spawner.pid
        return frozenset() if pid is None else frozenset({pid})

    def refuse_all(self) -> None:
        """Refuse who connects to any door, since nobody will accept there: the daemon leaves."""
        for living in self._living.values():
            living.refuse_all()

    async def close(self) -> None:
        """Let go of all cells, which live on with their doors closed: the next daemon makes these anew."""
        for name, living in self._living.items():
            living.close_doors()
            self._context.watcher.close(name)
        self._living.clear()
        await self._context.spawner.close()

    async def _trusted(self, policy: Policy, doors: tuple[Door, ...]) -> str:
        """Make the authority of a cell whose way out reads TLS; return the directory to show, empty for another."""
        authorities = self._context.authorities
        if authorities is None:
            return ""
        if not policy.intercept or Door(*ADDRESSES[DoorKind.WAY_OUT]) not in doors:
            authorities.forget(policy.subsystem)
            return ""
        return str(await authorities.make(policy))

    async def _reopen(self, living: LivingCell, doors: Sequence[Door]) -> Reopened:
        """Make the sockets of a living cell anew. Raises ConfinementError."""
        watched = self._context.watcher.ports() if _has_own_network(living) else None
        if not doors and watched is None:
            return Reopened(())
        return await self._spawner.reopen(living.pid, doors, watched)

    def _watch(self, subsystem: str, made: Cell | Reopened) -> None:
        """Read the attempts of a cell; that they cannot be seen is told and no more: none gets anywhere."""
        if made.watch is not None:
            self._context.watcher.open(subsystem, made.watch)
        elif made.unwatched:
            self._context.log.warning("cell.unwatched", subsystem=subsystem, reason=made.unwatched)

    async def _doors(self, policy: Policy) -> tuple[DoorKind, ...]:
        """Return the doors that a policy has here: none without a network of its own."""
        if not policy.confined or policy.profile == "sealed":
            return ()
        if not await self._context.planner.has_network(policy.subsystem):
            return ()
        wanted = {DoorKind.GATEWAY: Ability.MODEL in policy.abilities, DoorKind.WAY_OUT: True}
        return tuple(kind for kind in DoorKind if wanted[kind] and kind in self._context.keepers)

    async def _bring(self, subsystem: str, living: LivingCell) -> None:
        """Bring the doors of a cell to the wanted state: a call that waited for another applies the newest."""
        async with living.changing:
            if self._living.get(subsystem) is not living:
                return
            if subsystem in self._shut:
                living.refuse_all()
                await self._close(subsystem, living)
            else:
                await self._open(subsystem, living)

    async def _open(self, subsystem: str, living: LivingCell) -> None:
        living.trouble = ""
        for kind, listening in living.doors.items():
            if subsystem in self._shut:  # meanwhile: that call waits for this one, and closes the others
                return
            if kind in living.accepted:
                continue
            try:
                listening.listen(_BACKLOG)
                await self._context.keepers[kind].open(subsystem, listening.dup())
                living.accepted.add(kind)
            except OSError as error:
                reason = f"the door to the {kind} could not be opened: {error.strerror}"
                self._closed(subsystem, living, reason)

    async def _close(self, subsystem: str, living: LivingCell) -> None:
        """Hang up on who is in, at all doors at once."""
        accepted, living.accepted = living.accepted, set()
        await asyncio.gather(*(self._context.keepers[kind].close(subsystem) for kind in accepted))

    def _closed(self, subsystem: str, living: LivingCell, reason: str) -> None:
        living.trouble = reason
        self._context.log.error(EventKind.CELL_CLOSED, subsystem=subsystem, reason=reason)
        self._context.events.emit(EventKind.CELL_CLOSED, subsystem, reason=reason)

    def _tell_of(self, subsystem: str, made: Cell) -> None:
        """Record how a subsystem was confined; a missing wall is a warning, each time."""
        fields = {
            "profile": self._living[subsystem].record.policy.profile,
            "missing": dict(made.missing),
            "placeholders": list(made.placeholders),
        }
        tell = self._context.log.warning if made.missing else self._context.log.info
        tell(EventKind.CELL_MADE, subsystem=subsystem, pid=made.pid, **fields)
        self._context.events.emit(EventKind.CELL_MADE, subsystem, pid=made.pid, **fields)

    def _note_its_life(self, record: CellRecord) -> None:
        try:
            self._context.policies.lasted(record.policy, self._context.clock.monotonic() - record.made_at)
        except OSError as error:
            self._context.log.error("cell.unrecorded", subsystem=record.policy.subsystem, error=str(error))

    def _write(self, subsystem: str, record: CellRecord) -> None:
        try:
            self._context.records.write(subsystem, record)
        except OSError as error:
            self._context.log.error("cell.unrecorded", subsystem=subsystem, error=str(error))


def _has_own_network(living: LivingCell) -> bool:
    return living.record.own_network and Wall.NETWORK not in living.record.missing


def _require_workspace(policy: Policy) -> None:
    """Raise ConfinementError where a workspace is not there: it would be left out of the tree."""
    if not Path(policy.workspace).is_dir():
        where = f"{policy.workspace}, the workspace of {policy.subsystem}"
        raise ConfinementError("no such directory", "make it, or name another", where=where, permanent=True)
