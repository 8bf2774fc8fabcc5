"""The engine of machines that run systemd: a transient unit a child, which outlives us and inherits nothing."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from dbus_fast import Variant

from epad.confinement.errors import ConfinementError
from epad.runtime.environment_marks import INSTANCE_MARK, SUBSYSTEM_MARK
from epad.supervisor.cell_maker import CellMaker, NoCells
from epad.supervisor.cgroup import Cgroup, mount_point
from epad.supervisor.engine import SLICE, UNSEEN, Child, ExitStatus, Launch
from epad.supervisor.errors import ProcessGoneError, SpawnError
from epad.supervisor.identity import ProcessIdentity, ProcessTable
from epad.supervisor.plain_engine import PlainEngine, as_of_its_program, exited, killed, leaf_name
from epad.supervisor.process_tree import CgroupTree, WalkedTree, Walker, end
from epad.supervisor.program import PIPE_SUFFIX, find_program, log_path, open_log
from epad.supervisor.stamp import stamp_bytes
from epad.supervisor.systemd_manager import Manager, ManagerError
from epad.supervisor.unit_spawner import UnitSpawner
from runners.cell.plan import CellPlan

_CLD_EXITED = 1
# systemd reaps within a millisecond of the exit; a unit that says nothing for this long says nothing at all.
_STATUS_SECONDS = 2.0
_FIRST_POLL_SECONDS = 0.001
# What systemd says instead of a status where the program itself never ran (systemd.exec(5)).
_EXEC_FAILURES = range(200, 246)
_EVERYWHERE = [[2, bytes(4), 0], [10, bytes(16), 0]]
_LOOPBACK = [[2, bytes([127, 0, 0, 0]), 8], [10, bytes(15) + b"\1", 128]]


class SystemdEngine:
    """Holds children as units of systemd's manager for this machine, or for this user.

    `tag` keeps the units of two daemons apart; `files` is the directory that hands environments over, for they hold
    keys and a unit's properties are readable by every user. A process that is not in a unit was started by an older
    engine: `plain` takes care of it.
    """

    name = "systemd"

    def __init__(
        self,
        table: ProcessTable,
        manager: Manager,
        plain: PlainEngine,
        tag: str,
        files: Path,
        cells: CellMaker | None = None,
    ) -> None:
        self._table = table
        self._walker = Walker(table)
        self._manager = manager
        self._plain = plain
        self._tag = tag
        self._files = files
        self._cells = cells or NoCells()
        self._spawner = UnitSpawner(manager, tag)
        self._units: dict[Child, str] = {}
        self._reading: set[asyncio.Task[None]] = set()

    def describe(self) -> str:
        network = "" if self._manager.bus.is_system else "; a network cannot be cut without root"
        return f"transient units {self._tag}-NAME.service in {SLICE} of systemd's {self._manager.bus.label}{network}"

    def unit(self, marks: Mapping[str, str]) -> str:
        """Name a subsystem's unit."""
        return f"{self._tag}-{marks[SUBSYSTEM_MARK]}.service"

    async def prepare(self) -> None:
        await self._plain.prepare()
        await self._manager.connect()
        self._cells.use(self._spawner)
        self._files.mkdir(mode=0o700, parents=True, exist_ok=True)

    async def close(self) -> None:
        for task in self._reading:
            task.cancel()
        await asyncio.gather(*self._reading, return_exceptions=True)
        self._manager.close()
        await self._plain.close()

    async def spawn(self, launch: Launch) -> Child:
        program, unit = find_program(launch), self.unit(launch.marks)
        if launch.cell is not None:
            return await self._spawn_in_cell(launch, launch.cell, program, unit)
        if launch.user is not None and not launch.user.name:
            text = f"systemd runs nothing as {launch.user}, whom this machine does not know"
            raise SpawnError(
                f'{text}; make the user, or set daemon.engine = "plain"', permanent=True, key="user"
            )
        try:
            await self._remove(unit)
            result = await self._start(unit, launch, program)
            found = await self._manager.properties(unit)
        except (ManagerError, OSError) as error:
            raise SpawnError(f"{unit}: {error}", permanent=False) from error
        status = status_of(found)
        if result != "done" and (status is None or status.code in _EXEC_FAILURES):
            await self._remove(unit)
            text = f"{unit}: systemd could not start it: {found.get('Result', result)}"
            raise SpawnError(f"{text} ({status.text if status else result})", permanent=False)
        return await self._take(unit, found, launch.marks)

    async def adopt(self, identity: ProcessIdentity, marks: Mapping[str, str]) -> Child:
        unit = self.unit(marks)
        found = await self._look(unit)
        if found.get("MainPID") != identity.pid:
            return await self._plain.adopt(identity, marks)
        if self._table.current(identity) is None:
            raise ProcessGoneError(f"pid {identity.pid} of {unit} has ended")
        await self._cells.adopt(leaf_name(marks), identity.pid)
        return await self._take(unit, found, marks)

    async def last_exit(self, marks: Mapping[str, str]) -> ExitStatus:
        found = await self._look(self.unit(marks))
        return (status_of(found) if _bears(found, marks) else None) or UNSEEN

    async def bearing(self, marks: Mapping[str, str]) -> frozenset[ProcessIdentity]:
        inside: set[ProcessIdentity] = set()
        with suppress(ManagerError):
            for unit in await self._manager.units(f"{self._tag}-*.service"):
                if _bears(found := await self._look(unit), marks):
                    inside |= await self._tree(found, None, marks).members()
        return await self._plain.bearing(marks) | inside

    async def find(self, marks: Mapping[str, str]) -> ProcessIdentity | None:
        found = await self._look(self.unit(marks))
        if _bears(found, marks) and (identity := self._table.identity(found["MainPID"])) is not None:
            return identity
        return await self._plain.find(marks)

    async def members(self, child: Child) -> frozenset[ProcessIdentity]:
        return await child.tree.members()

    async def freeze(self, child: Child) -> bool:
        return await child.tree.freeze()

    async def thaw(self, child: Child) -> None:
        await child.tree.thaw()

    async def stop(self, child: Child, grace_seconds: float) -> frozenset[ProcessIdentity]:
        survivors = await self._plain.stop(child, grace_seconds)
        if (unit := self._units.get(child)) is not None and not survivors:
            with suppress(TimeoutError):
                await asyncio.wait_for(asyncio.shield(child.exited), _STATUS_SECONDS)
            await self._remove(unit)
        return survivors

    async def clear(self, marks: Mapping[str, str], grace_seconds: float) -> frozenset[ProcessIdentity]:
        unit = self.unit(marks)
        found = await self._look(unit)
        survivors = await self._plain.clear(marks, grace_seconds)
        if _bears(found, marks):
            survivors |= await end(self._table, self._tree(found, None, marks), grace_seconds)
            await self._remove(unit)
        return survivors

    async def isolate(self, child: Child, *, cut: bool) -> str:
        unit = self._units.get(child)
        if unit is None or self._cells.has_own_network(leaf_name(child.marks)):
            return await self._plain.isolate(child, cut=cut)
        if not self._manager.bus.is_system:
            return _NO_CUT if cut else ""
        try:
            # An empty list clears what was set before, without which addresses would add up. To join again takes
            # an explicit permission: of empty lists systemd 252 makes no filter, and leaves the old one in place.
            await self._manager.set_properties(unit, _network([], []))
            after = _network(_EVERYWHERE, _LOOPBACK) if cut else _network([], _EVERYWHERE)
            await self._manager.set_properties(unit, after)
        except ManagerError as error:
            return str(error)
        return ""

    def signal(self, child: Child, number: signal.Signals) -> None:
        self._plain.signal(child, number)

    def is_stopped(self, child: Child) -> bool:
        return self._plain.is_stopped(child)

    def is_loose(self, child: Child) -> bool:
        return self._plain.is_loose(child)

    def release(self, child: Child) -> None:
        self._units.pop(child, None)
        self._plain.release(child)

    def strays(self, kept: Collection[int]) -> frozenset[ProcessIdentity]:
        return self._plain.strays(kept)

    def sweep(self) -> None:
        self._plain.sweep()

    async def _spawn_in_cell(self, launch: Launch, plan: CellPlan, program: str, unit: str) -> Child:
        """Start the program within its walls: the unit's main process is the cell's first one."""
        limits = (*plan.limits, ("RSS", stamp_bytes(launch.marks)))
        whole = replace(plan, command=(program, *launch.command[1:]), limits=limits)
        log = open_log(log_path(launch.log_file))
        try:
            await self._remove(unit)
            self._spawner.expect(plan.name, unit, _unit_properties(launch))
            await self._cells.start(whole, log)
            found = await self._manager.properties(unit)
        except ConfinementError as error:
            raise SpawnError(str(error), permanent=error.permanent, key="confine") from error
        except ManagerError as error:
            raise SpawnError(f"{unit}: {error}", permanent=False) from error
        finally:
            os.close(log)
        return await self._take(unit, found, launch.marks)

    async def _start(self, unit: str, launch: Launch, program: str) -> str:
        file = self._write_environment(unit, launch)
        properties = _properties(launch, program, file)
        log = log_path(launch.log_file)
        pipe = [open_log(log)] if log.suffix == PIPE_SUFFIX else []
        properties |= _printing_into(pipe) if pipe else _appending_to(log)
        if launch.cut_off and self._manager.bus.is_system:
            properties |= _network(_EVERYWHERE, _LOOPBACK)
        try:
            return await self._manager.start_transient(unit, properties, pipe)
        finally:
            for descriptor in pipe:
                os.close(descriptor)
            file.unlink(
                missing_ok=True
            )  # the job is done when the program runs: what was in the file is its own now

    async def _look(self, unit: str) -> dict[str, Any]:
        with suppress(ManagerError):
            return await self._manager.properties(unit)
        return {}

    async def _remove(self, unit: str) -> None:
        """Let systemd forget a unit, and end its remaining processes."""
        if not await self._look(unit):
            return
        with suppress(ManagerError):
            await self._manager.stop(unit)
        await self._manager.reset_failed(unit)

    async def _take(self, unit: str, found: Mapping[str, Any], marks: Mapping[str, str]) -> Child:
        """Watch a unit's main process; one that has ended already shows its status at once."""
        loop = asyncio.get_running_loop()
        pid = int(found["ExecMainPID"])
        identity = self._table.identity(pid) if found["MainPID"] == pid else None
        gone = identity is None
        if identity is None:
            identity = ProcessIdentity(pid, -1, "")
        child = Child(identity, marks, self._tree(found, identity, marks), loop.create_future(), -1)
        self._units[child] = unit
        with suppress(OSError, ProcessGoneError):
            if not gone:
                child.descriptor = self._table.open(identity)
                loop.add_reader(child.descriptor, self._note_exit, child, unit)
                return child
        self._read_status(child, unit)
        return child

    def _note_exit(self, child: Child, unit: str) -> None:
        asyncio.get_running_loop().remove_reader(child.descriptor)
        self._read_status(child, unit)

    def _read_status(self, child: Child, unit: str) -> None:
        task = asyncio.get_running_loop().create_task(self._settle(child, unit), name=f"status of {unit}")
        self._reading.add(task)
        task.add_done_callback(self._reading.discard)

    async def _settle(self, child: Child, unit: str) -> None:
        """Read how a unit's main process ended, as soon as systemd has heard of it."""
        status, pause = None, _FIRST_POLL_SECONDS
        loop = asyncio.get_running_loop()
        deadline = loop.time() + _STATUS_SECONDS
        while status is None and loop.time() < deadline:
            found = await self._look(unit)
            status = status_of(found) if found.get("ExecMainPID") == child.identity.pid else None
            if status is None:
                await asyncio.sleep(pause)
                pause *= 2
        if status is not None and self._cells.has(leaf_name(child.marks)):
            status = as_of_its_program(status)
        if not child.exited.done():
            child.exited.set_result(status or UNSEEN)

    def _tree(
        self, found: Mapping[str, Any], root: ProcessIdentity | None, marks: Mapping[str, str]
    ) -> CgroupTree | WalkedTree:
        mounted, path = mount_point(), found.get("ControlGroup")
        if mounted is None or not path:
            return WalkedTree(self._walker, root, marks)
        return CgroupTree(self._walker, Cgroup(mounted / path.lstrip("/")), root, marks)

    def _write_environment(self, unit: str, launch: Launch) -> Path:
        """Write the environment that systemd reads at the unit's start, for no other user to read."""
        path = self._files / f"{unit}.env"
        path.unlink(missing_ok=True)
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.writelines(f"{name}={_quoted(value)}\n" for name, value in launch.environment.items())
        return path


_NO_CUT = "systemd's user manager cannot cut a network: that takes the system manager, and root"


def _properties(launch: Launch, program: str, environment_file: Path) -> dict[str, Variant]:
    return {
        **_unit_properties(launch),
        "Type": Variant("s", "exec"),
        # Arguments are handed on as they are: systemd would put variables in place of their names.
        "ExecStartEx": Variant("a(sasas)", [[program, [program, *launch.command[1:]], ["no-env-expand"]]]),
        "EnvironmentFiles": Variant("a(sb)", [[str(environment_file), False]]),
        "WorkingDirectory": Variant("s", str(launch.directory)),
        **({} if launch.user is None else {"User": Variant("s", launch.user.name)}),
    }


def _unit_properties(launch: Launch) -> dict[str, Variant]:
    """Return what is the same of a unit, whichever program it starts with."""
    marks = [f"{name}={value}" for name, value in launch.marks.items()]
    if INSTANCE_MARK in launch.environment:
        marks.append(f"{INSTANCE_MARK}={launch.environment[INSTANCE_MARK]}")
    return {
        "Description": Variant("s", f"epad subsystem {launch.marks[SUBSYSTEM_MARK]}"),
        "Slice": Variant("s", SLICE),
        "Environment": Variant("as", marks),
        "UMask": Variant("u", 0o077),
        # The unit stays after its end, and with it how it ended, until we have read that.
        "RemainAfterExit": Variant("b", True),
        "KillMode": Variant("s", "control-group"),
        # One process of it that the kernel kills for its memory is no reason for systemd to end the others.
        "OOMPolicy": Variant("s", "continue"),
        "LimitRSS": Variant("t", stamp_bytes(launch.marks)),
        **_memory(launch),
    }


def _appending_to(log: Path) -> dict[str, Variant]:
    return {
        "StandardInput": Variant("s", "null"),
        "StandardOutputFileToAppend": Variant("s", str(log)),
        "StandardErrorFileToAppend": Variant("s", str(log)),
    }


def _printing_into(files: Sequence[int]) -> dict[str, Variant]:
    """Return the properties that make a handed-over file a unit's output; its input is then empty."""
    handle = Variant("h", len(files) - 1)
    return {"StandardOutputFileDescriptor": handle, "StandardErrorFileDescriptor": handle}


def _memory(launch: Launch) -> dict[str, Variant]:
    """Limits for systemd to set on the unit's control group; without one given it sets none."""
    limits = {"MemoryMax": launch.memory_max_bytes, "MemoryHigh": launch.memory_high_bytes}
    return {name: Variant("t", size) for name, size in limits.items() if size}


def _network(denied: list[Any], allowed: list[Any]) -> dict[str, Variant]:
    return {
        "IPAddressDeny": Variant("a(iayu)", denied),
        "IPAddressAllow": Variant("a(iayu)", allowed),
    }


def status_of(found: Mapping[str, Any]) -> ExitStatus | None:
    """Read how a unit's main process ended; None if it has not, or nothing is known."""
    if not found.get("ExecMainExitTimestampMonotonic"):
        return None
    number = int(found["ExecMainStatus"])
    return exited(number) if found["ExecMainCode"] == _CLD_EXITED else killed(number)


def _bears(found: Mapping[str, Any], marks: Mapping[str, str]) -> bool:
    """Say whether a unit was started with these marks."""
    return bool(found) and {f"{name}={value}" for name, value in marks.items()} <= set(found["Environment"])


def _quoted(value: str) -> str:
    """Quote a value for EnvironmentFile=: in double quotes a line break is one, and four characters are escaped."""
    escaped = "".join(f"\\{c}" if c in '"\\$`' else c for c in value)
    return f'"{escaped}"'
