"""Start each subsystem once in a dry daemon, report its fate, and leave nothing behind.

It has a state directory, sockets, a gateway and keys of its own. Its processes are real: a program that changes
its own files, or uses another network, does so here too.
"""

from __future__ import annotations

import asyncio
import io
import os
import shutil
import signal
import socket
import tempfile
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from epad.configuration.directories import MAX_SOCKET_PATH_BYTES, Directories, resolve
from epad.configuration.embedded_default import with_embedded_default
from epad.configuration.schema import Config, HealthConfig, SubsystemConfig
from epad.daemon.composition import compose
from epad.daemon.dry_run.config import dry
from epad.daemon.dry_run.stub import answering
from epad.daemon.lifecycle import Composition
from epad.daemon.parts import Given
from epad.daemon.stores import open_stores
from epad.runtime import log_output
from epad.runtime.clock import SystemClock, boot_id
from epad.supervisor.child_logs import ChildLog
from epad.supervisor.health import HealthChecker
from epad.supervisor.identity import ProcessTable
from epad.supervisor.launch import inherited, marks
from epad.supervisor.log_reader import last_lines
from epad.supervisor.program import wait_until_read
from epad.supervisor.restart import SUCCEEDED
from probes.subsystems import SubsystemExited, SubsystemSnapshot, SubsystemState

STEADY_SECONDS = 2.0
"""So long a process must run, ready or not, before it is believed to stay."""
LAST_LINES = 5
_LOOK_SECONDS = 0.05
_STOP_SECONDS = 30.0
# The log pump starts with the first subsystem, and may still be starting when that has failed.
_LAST_WORDS_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class Tried:
    """Holds the fate of one subsystem. `lines` are the last of its output, if it failed."""

    subsystem: str
    text: str
    has_failed: bool = False
    lines: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class DryDaemon:
    """A daemon whose control loop never runs, and the end of each of its processes."""

    composition: Composition
    exits: Mapping[str, SubsystemExited]


def run(config: Config, seconds: float, environment: Mapping[str, str], say: Callable[[Tried], None]) -> bool:
    """Try everything, telling of each as soon as it is known; True if nothing failed.

    Nobody is waited for longer than `seconds`. Raises OSError, KeyboardInterrupt.
    """
    log_output.configure("json", "error", stream=io.StringIO())
    real = resolve(config.daemon, environment)
    place = Path(tempfile.mkdtemp(prefix="epad-try-", dir=_short_enough()))
    try:
        return asyncio.run(_try_all(config, seconds, real, Directories(place / "state", place / "run"), say))
    except asyncio.CancelledError:
        raise KeyboardInterrupt from None
    finally:
        shutil.rmtree(place, ignore_errors=True)


def _short_enough() -> str | None:
    """A directory for temporary ones in which the path of a socket fits: /tmp where $TMPDIR is too long."""
    longest = Path(tempfile.gettempdir(), "epad-try-12345678", "run/notify", "n" * 32, "sock")
    return "/tmp" if len(os.fsencode(longest)) > MAX_SOCKET_PATH_BYTES else None  # noqa: S108


async def _try_all(
    config: Config, seconds: float, real: Directories, own: Directories, say: Callable[[Tried], None]
) -> bool:
    _end_when_told()
    own.create()
    taken = await _already_answering(config, real)
    async with answering(own.runtime / "stub.sock") as stub:
        gateway = f"127.0.0.1:{_free_port()}"
        changed = with_embedded_default(dry(config, stub, gateway, real.state / "subsystems", taken), own)
        asked = config.subsystems or changed.subsystems
        async with _dry_daemon(changed, own) as (dry_daemon, starting):
            found = dict(taken)
            for one in taken.values():
                say(one)
            watch = _Watch(dry_daemon, starting, asked, seconds, real, own)
            await watch.until_all_are_known(found, say)
    return not any(one.has_failed for one in found.values())


def _end_when_told() -> None:
    """End early at a signal, with everything stopped and removed; a second one changes nothing."""
    task, told = asyncio.current_task(), asyncio.Event()

    def end() -> None:
        if task is not None and not told.is_set():
            told.set()
            task.cancel()

    for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, end)


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


@asynccontextmanager
async def _dry_daemon(
    config: Config, own: Directories
) -> AsyncIterator[tuple[DryDaemon, asyncio.Task[None]]]:
    """Open the gateway and begin to start every process, which is a task; stop all of it at the end."""
    clock, boot = SystemClock(), boot_id()
    stores = await open_stores(config, own, clock, boot)
    exits: dict[str, SubsystemExited] = {}

    def ended(event: SubsystemExited) -> None:
        exits[event.subsystem] = event

    given = Given(config, lambda: config, own, stores, clock, boot, also_exited=ended)
    composition = compose(given)
    await composition.start_gateway()
    pumping = asyncio.create_task(composition.logs.run())
    starting = asyncio.create_task(composition.start_subsystems())
    try:
        yield DryDaemon(composition, exits), starting
    finally:
        starting.cancel()
        await asyncio.gather(starting, return_exceptions=True)
        await composition.stop_doors()
        async with asyncio.timeout(_STOP_SECONDS):
            await composition.supervisor.stop_all(composition.logs.pids)
        await composition.logs.finish()
        pumping.cancel()
        await composition.close()


async def _already_answering(config: Config, real: Directories) -> dict[str, Tried]:
    """Name the subsystems whose own check passes before they are started: it could tell nothing of them."""
    checker = HealthChecker(_infer_nothing, inherited(os.environ))
    found = {}
    for name, spec in config.subsystems.items():
        if spec.kind == "process" and (way := _way(spec.health)) and not await checker.check(spec.health):
            text = f"not started: its check passes already ({way}), so something else is there{_holder(name, real)}"
            found[name] = Tried(name, text, has_failed=True)
    return found


async def _infer_nothing(_: str) -> str:
    return "no token is spent"


def _way(health: HealthConfig) -> str:
    """Return the check that can be asked of a process that is not known to run."""
    return health.http or health.tcp or " ".join(health.command)


def _holder(name: str, real: Directories) -> str:
    """Name the process that the running daemon has for a subsystem; empty if there is none."""
    found = ProcessTable(boot_id()).find_root(marks(real, name))
    return (
        ""
        if found is None
        else f"; pid {found.pid} is the {name} of the daemon that runs: `epactl stop {name}`"
    )


class _Watch:
    """Watches the processes of a dry daemon until the fate of each is known."""

    def __init__(
        self,
        dry_daemon: DryDaemon,
        starting: asyncio.Task[None],
        asked: Mapping[str, SubsystemConfig],
        seconds: float,
        real: Directories,
        own: Directories,
    ) -> None:
        self._composition, self._exits = dry_daemon.composition, dry_daemon.exits
        self._starting = starting
        self._asked = asked
        self._seconds = seconds
        self._real = real
        self._own = own
        self._began: dict[str, float] = {}

    async def until_all_are_known(self, found: dict[str, Tried], say: Callable[[Tried], None]) -> None:
        """Record and report the fate of each subsystem. Raises the error with which the whole start has failed."""
        while len(found) < len(self._asked):
            await asyncio.sleep(_LOOK_SECONDS)
            if self._starting.done():
                self._starting.result()
            for snapshot in self._composition.supervisor.snapshots():
                if snapshot.name in found:
                    continue
                tried = await self._judge(snapshot, found)
                if tried is not None:
                    found[snapshot.name] = tried
                    say(tried)

    async def _judge(self, seen: SubsystemSnapshot, found: Mapping[str, Tried]) -> Tried | None:
        """Return the fate of one subsystem, or None while it is not known."""
        name, spec = seen.name, self._asked[seen.name]
        if spec.kind != "process":
            return Tried(name, f"not tried: {_whose(spec)}")
        if seen.state is SubsystemState.FAILED:
            return await self._failed(name, f"not started: {seen.status_text}")
        if (event := self._exits.get(name)) is not None:
            return await self._ended(name, spec, event)
        if seen.pid is not None:
            return await self._judge_running(seen, spec)
        waits = next((one for one in spec.depends_on if one in found and found[one].has_failed), None)
        return Tried(name, f"not started: it waits for {waits}", has_failed=True) if waits else None

    async def _judge_running(self, seen: SubsystemSnapshot, spec: SubsystemConfig) -> Tried | None:
        now = self._composition.clock.monotonic()
        ran = now - self._began.setdefault(seen.name, now)
        is_ready = seen.state is SubsystemState.RUNNING
        if is_ready and ran >= min(STEADY_SECONDS, self._seconds):
            return Tried(seen.name, _well(spec))
        if not is_ready and ran >= min(spec.ready_seconds, self._seconds):
            return await self._unready(seen.name, spec)
        return None

    async def _ended(self, name: str, spec: SubsystemConfig, event: SubsystemExited) -> Tried:
        lived = f"{event.status} after {event.life_seconds:.1f} s"
        if event.reason == SUCCEEDED and spec.restart.policy != "always":
            return Tried(name, f"ended by itself: {lived}")
        again = (
            " (restart.policy is always: it would be started for ever)" if event.reason == SUCCEEDED else ""
        )
        return await self._failed(name, f"ended: {lived}{again}")

    async def _unready(self, name: str, spec: SubsystemConfig) -> Tried:
        if spec.ready_seconds <= self._seconds:
            within = f"{spec.ready_seconds:g} s: see subsystems.{name}.ready_seconds"
        else:
            within = f"{self._seconds:g} s; it may take {spec.ready_seconds:g}: try --seconds {spec.ready_seconds:g}"
        if spec.notifies:
            return await self._failed(name, f"not ready: no READY=1 within {within}")
        checker = HealthChecker(_infer_nothing, inherited(os.environ))
        why = await checker.check(self._composition.config.subsystems[name].health)
        return await self._failed(name, f"not ready: its check did not pass ({why}) within {within}")

    async def _failed(self, name: str, text: str) -> Tried:
        await asyncio.to_thread(wait_until_read, self._own.log_pipe(name), _LAST_WORDS_SECONDS)
        lines = last_lines(
            ChildLog(self._own.log(name), self._composition.config.subsystems[name].log), LAST_LINES
        )
        return Tried(name, text + _holder(name, self._real), has_failed=True, lines=tuple(lines))


def _whose(spec: SubsystemConfig) -> str:
    return f"{spec.unit} is systemd's" if spec.kind == "unit" else "it is not epad that starts it"


def _well(spec: SubsystemConfig) -> str:
    if spec.notifies:
        return "ready: it said READY=1"
    if spec.health.inference:
        return "runs; its check is not asked, since it would spend a token"
    return (
        f"ready: its check passes ({_way(spec.health)})"
        if spec.health.ways
        else "runs; it has no check of its own"
    )
