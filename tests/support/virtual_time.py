"""An event loop whose hours pass in milliseconds, and the clocks that go by it.

`asyncio` asks its selector to wait until the next timer is due. Here nobody waits: when no socket is ready and no
real work is outstanding, the loop's time is set to that timer. What happens at real speed holds time still:

- bytes between tasks of the same loop (a socket is looked at before time is moved);
- jobs of `run_in_executor` and `to_thread`, until their thread is done with them, cancelled or not;
- threads that are no daemons, and children of `create_subprocess_exec`, until they end;
- whatever `hold_while` is told of: a thread that lives as long as the test, and has work only now and then.

Time that stands still for too long in reality is a fault of the test or of the code, and raises: `BlockedError` for a
callback that does not return (a `time.sleep` on the loop), `StillError` for work that does not end, and for a loop in
which nothing can ever happen.

Why an own loop: looptime, the nearest library, moves time in steps while a thread works or a socket is silent, so a
slow disk makes timeouts expire; async-solipsism has no real sockets, and the gateway's are what is tried here.

A test that asks for the fixture `virtual_time` (tests/conftest.py) runs on such a loop, and `SystemClock` goes by it:

    async def test_a_day(virtual_time: VirtualTime) -> None:
        await asyncio.sleep(86_400)
"""

from __future__ import annotations

import asyncio
import selectors
import signal
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures import thread as pool_threads
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from types import FrameType
from typing import Any
from unittest import mock

from epad.runtime.clock import SystemClock

START_SECONDS = 1_000.0
START_UTC = datetime(2026, 1, 1, tzinfo=UTC)
LIMIT_SECONDS = 30.0
"""Of real time, far more than a loaded machine takes for anything that a test waits for."""

LOOKS_BEFORE_MOVING = 3
"""Bytes on loopback are there when the call that sent them returns; the kernel may still be a moment late."""

POLL_SECONDS = 0.005
_SIGNAL = signal.SIGRTMIN + 7


class BlockedError(BaseException):
    """A callback did not give the loop back. No `Exception`, so that nothing takes it for an answer."""


class StillError(BaseException):
    """Time can never move again, or real work did not end."""


class VirtualTimeLoop(asyncio.SelectorEventLoop):
    """Jumps to the next timer instead of waiting for it. `limit_seconds` are real."""

    _default_executor: (
        ThreadPoolExecutor | None
    )  # asyncio's own, which `shutdown_default_executor` shuts down

    def __init__(self, limit_seconds: float = LIMIT_SECONDS) -> None:
        self.limit_seconds = limit_seconds
        self.jumps = 0
        self.blocked: BlockedError | None = None
        self._now = START_SECONDS
        self._jobs: dict[Future[Any], str] = {}
        self._children: list[asyncio.SubprocessTransport] = []
        self._conditions: list[tuple[str, Callable[[], bool]]] = []
        self._threads_before = set(threading.enumerate())
        super().__init__(_Selector(self))
        # Timers are due when they are this near: the sum of two floats is no exact time.
        self._clock_resolution = 1e-6

    def time(self) -> float:
        return self._now

    def hold_while(self, name: str, condition: Callable[[], bool]) -> None:
        """Hold time still while `condition` is true."""
        self._conditions.append((name, condition))

    def holders(self) -> list[str]:
        """Name the real work that holds time still."""
        names = list(self._jobs.values())
        self._children = [child for child in self._children if child.get_returncode() is None]
        names += [f"child {child.get_pid()}" for child in self._children]
        names += [name for name, condition in self._conditions if condition()]
        if threading.active_count() > len(self._threads_before):
            names += [thread.name for thread in threading.enumerate() if self._holds(thread)]
        return names

    def _holds(self, thread: threading.Thread) -> bool:
        pooled = thread in pool_threads._threads_queues  # its jobs hold time, not its idleness
        return not (thread.daemon or pooled or thread in self._threads_before)

    def move(self, seconds: float) -> None:
        """Let time pass."""
        self._now += seconds
        self.jumps += 1

    def run_in_executor(  # type: ignore[override]  # the base is typed for every kind of executor
        self, executor: ThreadPoolExecutor | None, func: Callable[..., Any], *args: Any
    ) -> asyncio.Future[Any]:
        self._check_closed()  # type: ignore[attr-defined]  # of the base loop, which its stubs lack
        if executor is None:
            executor = self._default_executor = self._default_executor or ThreadPoolExecutor(
                thread_name_prefix="asyncio"
            )
        job = executor.submit(func, *args)
        self._jobs[job] = f"job {getattr(func, '__qualname__', repr(func))}"
        future = asyncio.wrap_future(job, loop=self)
        # After the future's own callback, so that whoever awaits it is called before time may move.
        job.add_done_callback(self._job_done)
        return future

    def _job_done(self, job: Future[Any]) -> None:
        """In the job's thread."""
        try:
            self.call_soon_threadsafe(self._jobs.pop, job, None)
        except RuntimeError:
            self._jobs.pop(job, None)  # the loop is closed

    async def subprocess_exec(self, *args: Any, **kwargs: Any) -> Any:
        transport, protocol = await super().subprocess_exec(*args, **kwargs)
        self._children.append(transport)
        return transport, protocol

    def run_forever(self) -> None:
        with _watched(self):
            super().run_forever()


class _Selector(selectors.DefaultSelector):
    """Looks at the sockets, and moves time where it was to wait."""

    def __init__(self, loop: VirtualTimeLoop) -> None:
        super().__init__()
        self._loop = loop
        self.selects = 0
        self._heard = False

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        loop = self._loop
        self.selects += 1
        if loop.blocked is not None:
            error, loop.blocked = loop.blocked, None
            raise error
        events = super().select(0)
        self._heard = self._heard or bool(events)
        if events or (timeout is not None and timeout <= 0):
            return events
        if events := self._look_again():
            return events
        if timeout is None or loop.holders():
            return self._wait(idle=timeout is None)
        loop.move(timeout)
        return []

    def _look_again(self) -> list[tuple[selectors.SelectorKey, int]]:
        """Give the kernel a moment, if there was any traffic since time was moved last."""
        for _ in range(LOOKS_BEFORE_MOVING if self._heard else 0):
            if events := super().select(0):
                return events
        self._heard = False
        return []

    def _wait(self, *, idle: bool) -> list[tuple[selectors.SelectorKey, int]]:
        """Wait for real work, at most the limit."""
        loop = self._loop
        ends = time.monotonic() + loop.limit_seconds
        while time.monotonic() < ends:
            self.selects += 1
            if events := super().select(POLL_SECONDS):
                return events
            if not loop.holders() and not idle:
                return []  # asked anew, it may move time
        holders = ", ".join(loop.holders())
        raise StillError(
            f"time has stood still for {loop.limit_seconds:g} real seconds: "
            + (f"waiting for {holders}" if holders else "no timer, no socket and no work is left to wait for")
        )


@contextmanager
def _watched(loop: VirtualTimeLoop) -> Iterator[None]:
    """Interrupt a callback that keeps the loop for longer than its limit; in the main thread only, as signals are."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def interrupt(_: int, frame: FrameType | None) -> None:
        where = traceback.extract_stack(frame)[-1]
        loop.blocked = BlockedError(
            f"{where.filename}:{where.lineno} kept the loop for {loop.limit_seconds:g} real seconds: {where.line}"
        )
        raise loop.blocked

    selector: Any = getattr(loop, "_selector")  # noqa: B009  asyncio's own name for it
    over = threading.Event()

    def watch() -> None:
        seen, since = -1, time.monotonic()
        while not over.wait(loop.limit_seconds / 10):
            if selector.selects != seen:
                seen, since = selector.selects, time.monotonic()
            elif time.monotonic() - since >= loop.limit_seconds:
                signal.pthread_kill(threading.main_thread().ident or 0, _SIGNAL)
                since = time.monotonic()

    before = signal.signal(_SIGNAL, interrupt)
    watcher = threading.Thread(target=watch, name="virtual time's watchdog", daemon=True)
    watcher.start()
    try:
        yield
    finally:
        over.set()
        watcher.join()
        signal.signal(_SIGNAL, before)


class VirtualTime:
    """The machine's clocks on a virtual loop: a `statemachine.clock.Clock`."""

    def __init__(self, loop: VirtualTimeLoop) -> None:
        self.loop = loop
        self._suspended = 0.0
        self._wall = 0.0

    def monotonic(self) -> float:
        """CLOCK_BOOTTIME: it counts what the machine slept, which the loop's timers do not."""
        return self.loop.time() + self._suspended

    def utc(self) -> datetime:
        return START_UTC + timedelta(seconds=self.monotonic() - START_SECONDS + self._wall)

    def suspend(self, seconds: float) -> None:
        """Close the lid: boot time and wall clock go on, timers do not."""
        self._suspended += seconds

    def jump_wall_clock(self, seconds: float) -> None:
        """Set the wall clock alone, as NTP or a person would."""
        self._wall += seconds

    @contextmanager
    def as_system_clock(self) -> Iterator[VirtualTime]:
        """Let every `epad.runtime.clock.SystemClock` read this."""
        with (
            mock.patch.object(SystemClock, "monotonic", lambda _: self.monotonic()),  # noqa: PT008  asked anew each time
            mock.patch.object(SystemClock, "utc", lambda _: self.utc()),  # noqa: PT008
        ):
            yield self


def run_virtually(work: Callable[[VirtualTime], Any], limit_seconds: float = LIMIT_SECONDS) -> Any:
    """Run a coroutine function on a virtual loop of its own, outside of pytest."""
    with asyncio.Runner(loop_factory=lambda: VirtualTimeLoop(limit_seconds)) as runner:
        loop = runner.get_loop()
        assert isinstance(loop, VirtualTimeLoop)
        with VirtualTime(loop).as_system_clock() as clock:
            return runner.run(work(clock))
