"""The daemon: one run loop around the composition, with an ordered start and an ordered stop."""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import sys
from collections.abc import Callable, Coroutine, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import structlog
import uvloop

from epad import EpadError, __version__
from epad.answers.status import Status
from epad.configuration.directories import MAX_SOCKET_PATH_BYTES, Directories, resolve
from epad.configuration.embedded_default import with_embedded_default
from epad.configuration.load import ConfigError, Loaded
from epad.configuration.schema import Config
from epad.daemon.composition import compose
from epad.daemon.identity import run_identity
from epad.daemon.lifecycle import Composition
from epad.daemon.parts import Given
from epad.daemon.state_format import claim
from epad.daemon.stores import open_stores
from epad.daemon.upgrade import begin_again, is_restarted
from epad.formatting.confinement import all_troubles
from epad.notifying.making import make_notifier, view_of
from epad.operations.reload import ChangeRefusedError
from epad.runtime import core_dumps
from epad.runtime.clock import SystemClock, boot_id
from epad.runtime.descriptors import raise_limit
from epad.runtime.listener_handover import Handover
from epad.runtime.log_output import configure
from epad.runtime.memory import give_large_blocks_back, share_one_heap
from epad.runtime.systemd_notify import notify, reloading
from epad.runtime.timers import sleep_to_beat
from epad.runtime.watchdog import asking_for_time, feed, interval_seconds, watch_clock
from epad.storage.event_log import EventKind
from epad.storage.state_lock import locked

YOUNG_OBJECTS = 20_000
"""After so many new objects the garbage collector looks for cycles among them. A turn in flight has some two hundred;
at Python's own 700 the objects of 32 turns were looked through several times each, 4 % of the processor time."""
EXIT_OK = 0
EXIT_FAILED = 1
BEGIN_AGAIN = -1
START_SECONDS = 120.0  # as TimeoutStartSec= in systemd/epad.service
EXIT_LIFEBOAT = 69
"""Everything is saved and stopped, and [lifeboat] then = "exit": systemd must not start it again (EX_UNAVAILABLE)."""


class StartError(EpadError):
    """The daemon cannot start; the message names the thing, the place and the fix."""


def run(read: Callable[[], Loaded], state: Path | None, config_file: Path | None = None) -> int:
    """Run until told to stop; return the exit status. `state` overrides the configured state directory.

    The configuration is read now, and again at each reload; `config_file` is told to those who ask where from.
    Raises ConfigError for the first.
    """
    loaded = read()
    log = configure(loaded.config.daemon.log_format, loaded.config.daemon.log_level)
    try:
        chosen = config_file.absolute() if config_file else None
        directories = replace(_prepare(loaded.config, state), config_file=chosen)

        def read_config() -> Config:
            nonlocal loaded
            again = read()
            if emptied := again.emptied_since(loaded):
                raise ConfigError(emptied)
            loaded = again
            return with_embedded_default(again.config, directories)

        config = with_embedded_default(loaded.config, directories)
        with _only_one(directories):
            _claim(directories)
            with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
                status = runner.run(Daemon(config, read_config, directories, os.environ).run())
    except EpadError as error:
        log.error("daemon.not_started", error=str(error), config=[str(path) for path in loaded.files])
        return EXIT_FAILED
    if status != BEGIN_AGAIN:
        return status
    try:
        begin_again()
    except OSError as error:  # systemd starts it anew, and what it supervises is adopted then
        log.error("daemon.not_begun_again", error=str(error), program=sys.executable)
        return EXIT_FAILED


def _prepare(config: Config, state: Path | None) -> Directories:
    if state is not None:
        fields = {name: getattr(config.daemon, name) for name in config.daemon.__struct_fields__}
        daemon = type(config.daemon)(**{**fields, "state_directory": str(state)})
    else:
        daemon = config.daemon
    directories = resolve(daemon, os.environ)
    longest = directories.notify_socket("n" * 32)
    if len(os.fsencode(longest)) > MAX_SOCKET_PATH_BYTES:
        raise StartError(
            f"too long for a Unix socket (the path of {longest.name} would exceed {MAX_SOCKET_PATH_BYTES} bytes)",
            "set daemon.runtime_directory to a shorter one",
            where=str(directories.runtime),
        )
    try:
        directories.create()
    except OSError as error:
        raise StartError(
            str(error.strerror), "choose another directory with --state", where=str(error.filename)
        ) from error
    return directories


def _claim(directories: Directories) -> None:
    """Take the state directory for this version. Raises StartError, NewerStateError."""
    try:
        claim(directories.state, __version__)
    except OSError as error:
        raise StartError(
            str(error.strerror), "choose another directory with --state", where=str(error.filename)
        ) from error


@contextmanager
def _only_one(directories: Directories) -> Iterator[None]:
    """Hold the lock that keeps a second daemon away from the same state."""
    with ExitStack() as stack:
        try:
            stack.enter_context(locked(directories.state))
        except BlockingIOError as error:
            raise StartError(
                f"{directories.state} is held: another epad runs on this state; stop it, or choose another with --state"
            ) from error
        yield


def greeting(status: Status, directories: Directories) -> str:
    """Return the lines that a person at a terminal needs first, after the log lines of the start."""
    names = ", ".join(subsystem["name"] for subsystem in status["subsystems"]) or "nothing yet"
    epactl = Path(sys.argv[0]).with_name("epactl")
    lines = [
        f"epad {status['version']} watches {names}; the phase is {status['phase']}",
        f"  status   {epactl} --socket {directories.control_socket} status",
        f"  gateway  {status['gateway']['url']}",
        f"  page     {status['web']['url'] or 'off'}",
        f"  metrics  {status['metrics']['url'] or 'off'}",
        *(f"  walls    {line}" for line in all_troubles(status["subsystems"])),
        *(f"  note     {notice}" for notice in status["notices"]),
        "  Ctrl-C stops it and everything it started",
    ]
    return "\n" + "\n".join(lines) + "\n\n"


@dataclass(slots=True)
class Reading:
    """Counts the progress of reading the ledger at a start."""

    records: int = 0

    def read(self, records: int) -> None:
        """Note the newest record that has been read."""
        self.records = records

    def words(self) -> str:
        """Said to systemd behind the word that it is starting."""
        return f", {self.records:,} records of the ledger read" if self.records else ""


class Daemon:
    """Starts the parts in order, watches their tasks, and stops them in order."""

    def __init__(
        self,
        config: Config,
        read: Callable[[], Config],
        directories: Directories,
        environment: Mapping[str, str],
    ) -> None:
        self._config = config
        self._read = read
        self._directories = directories
        self._environment = environment
        self._log = structlog.get_logger("epad.daemon")
        self._tasks: dict[asyncio.Task[None], str] = {}
        self._stop = asyncio.Event()
        self._handover = Handover(os.environ)

    async def run(self) -> int:
        """Start, work until a signal or a failure, stop. Returns the exit status, or BEGIN_AGAIN."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            # A second signal during an orderly stop changes nothing: the stop has a deadline of its own.
            loop.add_signal_handler(number, self._stop.set)
        # Its default would end the daemon. Before there is anything to reload it says no more than that.
        loop.add_signal_handler(signal.SIGHUP, self._log.info, "daemon.starting")
        gc.set_threshold(YOUNG_OBJECTS)
        raise_limit()
        core_dumps.forbid()
        give_large_blocks_back()
        share_one_heap()
        reading = Reading()
        async with asking_for_time(reading.words):
            composition = await self._compose(reading)
            try:
                await self._start(composition)
            except BaseException:
                await self._leave(composition)
                raise
        try:
            # What is there now stays: looking through it all for cycles took 35 ms, every 3,000 requests.
            gc.freeze()
            failed = await self._until_stopped(composition)
        except BaseException:
            await self._leave(composition)
            raise
        if failed:
            await self._leave(composition)
            return EXIT_FAILED
        if composition.begin_again.is_set():
            # Nobody feeds systemd's watchdog while the next program starts; it sets its own time again when ready.
            patience = f"WATCHDOG_USEC={int(START_SECONDS * 1e6)}"
            notify(*reloading(), patience, "STATUS=begins again as what is installed now")
            await self._leave(composition)
            self._handover.inherit()
            return BEGIN_AGAIN
        if await self._is_restarted(composition):
            self._log.info("daemon.restarting", children="run on")
            await self._leave(composition)
            return EXIT_OK
        await self._shut_down(composition)
        return EXIT_LIFEBOAT if composition.abandoned.is_set() else EXIT_OK

    async def _compose(self, reading: Reading) -> Composition:
        """Open the files on the disk, and make every part."""
        clock, boot = SystemClock(), boot_id()
        stores = await open_stores(self._config, self._directories, clock, boot, reading.read)
        in_force = stores.in_force
        composition = compose(
            Given(
                config=in_force(self._config),
                read=lambda: in_force(self._read()),
                directories=self._directories,
                stores=stores,
                clock=clock,
                boot_id=boot,
                handover=self._handover,
            )
        )
        self._spawn("clock marks", stores.clock_marks.run())
        self._spawn("starts", stores.starts.run())
        return composition

    async def _reload_when_told(self, composition: Composition) -> None:
        """Reload at each SIGHUP; several that come during one reload are one more."""
        told = asyncio.Event()
        asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, told.set)
        while True:
            await told.wait()
            told.clear()
            try:
                await composition.reloader.reload()
            except (ConfigError, ChangeRefusedError):
                pass  # it has been logged, with every place; what was in force still is
            except EpadError:
                pass  # so has this, and the next reload takes up what it has left undone

    async def _start(self, composition: Composition) -> None:
        """Start the parts in order: readers before writers, listeners before clients, each after the parts it needs."""
        self._spawn("events", composition.events.run())
        self._spawn("recording", composition.recorder.run())
        gateway_url = await composition.start_gateway()
        for lane, worker in composition.lanes():
            self._spawn(f"lane:{lane}", worker)
        self._spawn("controller", composition.controller.run(self._config.daemon.tick_seconds))
        metrics_url = await composition.start_surfaces()
        self._spawn("child logs", composition.logs.run())
        self._spawn("way out", composition.way_out.run())
        if composition.identity is not None:
            self._spawn("identity", run_identity(composition.identity))
        await composition.start_subsystems()
        for name, loop in composition.probe_loops.loops():
            self._spawn(name, loop)
        self._spawn("lag", composition.watch_own_loop())
        self._spawn("reload", self._reload_when_told(composition))
        self._spawn("lifeboat", composition.rescue.keep_ready(lambda: composition.decider.phase))
        self._spawn("clock", watch_clock(composition.clock, composition.clock_jumped))
        self._spawn("status", self._tell_systemd(composition))
        self._spawn_notifier(composition)
        interval = interval_seconds(self._environment, os.getpid())
        if interval is not None:
            notify(f"WATCHDOG_USEC={self._environment['WATCHDOG_USEC']}", "WATCHDOG=1")
            self._spawn(
                "watchdog", feed(interval, lambda: composition.controller.cycles, composition.ledger_commits)
            )
        composition.schedule.start()
        composition.events.emit(EventKind.DAEMON_STARTED, version=__version__, pid=os.getpid())
        self._handover.close_the_rest()
        notify("READY=1", f"STATUS={composition.decider.phase}", f"MAINPID={os.getpid()}")
        self._log.info(
            "daemon.ready",
            version=__version__,
            phase=composition.decider.phase,
            subsystems=sorted(self._config.subsystems),
            state=str(self._directories.state),
            gateway=gateway_url,
            metrics=metrics_url or "off",
            status=f"epactl --socket {self._directories.control_socket} status",
            notices=composition.daemon_status.notices(),
        )
        if sys.stderr.isatty():
            sys.stderr.write(greeting(composition.daemon_status.render(), self._directories))

    def _spawn_notifier(self, composition: Composition) -> None:
        """Tell a person of incidents and questions, where the configuration says how."""
        status = composition.daemon_status
        look = partial(view_of, composition.decider, status.report.headline, status.questions)
        state = self._directories.state
        notifier = make_notifier(self._config.notify, self._environment, look, composition.clock, state)
        if notifier is not None:
            self._spawn("notify", notifier.run())

    async def _tell_systemd(self, composition: Composition) -> None:
        """Keep the phase in `systemctl status`, as one sentence."""
        while True:
            notify(f"STATUS={composition.decider.phase}: {composition.daemon_status.report.headline()}"[:500])
            await sleep_to_beat(self._config.daemon.tick_seconds * 4)

    def _spawn(self, name: str, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work, name=name)
        self._tasks[task] = name

    async def _is_restarted(self, composition: Composition) -> bool:
        """Tell if systemd restarts the daemon at once; the next one adopts the children, since each is a unit."""
        if composition.abandoned.is_set() or not composition.supervisor.engine.startswith("systemd:"):
            return False
        cgroup = await asyncio.to_thread(Path("/proc/self/cgroup").read_text)
        return await is_restarted(self._environment, cgroup)

    async def _until_stopped(self, composition: Composition) -> bool:
        """Wait for a signal, an order, the end of LIFEBOAT, or of a side task: none ever should, that is a failure."""
        events = (self._stop, composition.abandoned, composition.begin_again)
        ends = {asyncio.create_task(event.wait(), name="stop") for event in events}
        done, _ = await asyncio.wait({*ends, *self._tasks}, return_when=asyncio.FIRST_COMPLETED)
        for task in done - ends:
            self._log.error("task.died", task=task.get_name(), error=repr(task.exception()))
        for end in ends:
            end.cancel()
        return bool(done - ends)

    async def _shut_down(self, composition: Composition) -> None:
        """Stop in order: nothing new is let in, the children end in order, everything is written."""
        notify("STOPPING=1", "STATUS=stopping")
        self._log.info("daemon.stopping")
        composition.events.emit(EventKind.DAEMON_STOPPING)
        self._handover.end()
        await composition.stop_doors()
        try:
            async with asyncio.timeout(self._config.daemon.shutdown_seconds):
                await composition.supervisor.stop_all(composition.helpers)
        except TimeoutError:
            self._log.error("daemon.stop_timed_out", seconds=self._config.daemon.shutdown_seconds)
        await composition.logs.finish()
        await self._close(composition)
        self._log.info("daemon.stopped")

    async def _leave(self, composition: Composition) -> None:
        """A failure of ours is not the children's: they live on, and the next daemon adopts them.

        The gateway goes down with us, so nothing is spent meanwhile.
        """
        await composition.stop_doors()
        await composition.supervisor.detach()
        await self._close(composition)

    async def _close(self, composition: Composition) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await composition.close()
