"""Hold a server that is a child: messages on its input and output, and an end that takes everything it has started.

The process of a cell is the first of a pid namespace, so its end is the end of all that it has forked, whatever
signals they ignore.

| the server | then |
|---|---|
| ends, or closes its output | its requests under way fail, what is left of it is killed, and it is reaped |
| reads nothing | requests fail once MOST_UNREAD bytes wait for it |
| prints without end what nobody has asked for | it is read slowly: BURST messages in PAUSE_SECONDS |
"""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Callable
from contextlib import suppress
from typing import Final

from epad.foreign.errors import ServerError
from epad.foreign.framing import Lines
from epad.foreign.peer import Peer

MOST_UNREAD: Final = 4 << 20
BURST: Final = 200
PAUSE_SECONDS: Final = 0.1
LAST_SECONDS: Final = 0.1
"""Between the end of its output and that of its process, which says more."""
END_SECONDS: Final = 1.0
"""How long a server has to end once its input has."""


class Child:
    """One process of a server. `ended` is called once, when it is over."""

    def __init__(self, pid: int, changed: Callable[[], None], ended: Callable[[str], None]) -> None:
        self.pid = pid
        self._loop = asyncio.get_running_loop()
        self._process = os.pidfd_open(pid)
        self._ended = ended
        self._input: asyncio.WriteTransport | None = None
        self._output: asyncio.ReadTransport | None = None
        self._gone = asyncio.Event()
        self.peer = Peer(self._send, changed, self._loop.time)
        self._loop.add_reader(self._process, self._died)

    @classmethod
    async def hold(
        cls,
        pid: int,
        pipes: tuple[int, int],
        changed: Callable[[], None],
        ended: Callable[[str], None],
    ) -> Child:
        """Hold a process by the ends of its pipes: the one that its input comes from, and its output's."""
        child = cls(pid, changed, ended)
        try:
            child._input, _ = await child._loop.connect_write_pipe(
                asyncio.BaseProtocol, os.fdopen(pipes[0], "wb", buffering=0)
            )
            child._output, _ = await child._loop.connect_read_pipe(
                lambda: _Reading(child.peer, child.output_closed), os.fdopen(pipes[1], "rb", buffering=0)
            )
        except BaseException:
            child.kill()
            raise
        return child

    @property
    def is_over(self) -> bool:
        """Tell if nothing is asked of it any more."""
        return bool(self.peer.lost)

    def lose(self, why: str) -> None:
        """Fail what is under way, and kill what is left of it."""
        if not self.peer.lost:
            self.peer.lose(why)
            self.kill()

    def output_closed(self) -> None:
        """Lose it, unless it says within a moment how it has ended."""
        self._loop.call_later(LAST_SECONDS, self.lose, "it has closed its output")

    def kill(self) -> None:
        """Kill the process, and with it each that it has started."""
        if self._process >= 0:
            with suppress(ProcessLookupError):
                signal.pidfd_send_signal(self._process, signal.SIGKILL)
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(self.pid, signal.SIGKILL)  # a cell without a pid namespace

    async def close(self, why: str) -> None:
        """End it: its input ends, and it is killed where it does not end by that. Returns when it is gone."""
        self.peer.lose(why)
        if self._input is not None:
            self._input.close()
        try:
            await asyncio.wait_for(self._gone.wait(), END_SECONDS)
        except TimeoutError:
            self.kill()
            await self._gone.wait()

    def _send(self, message: bytes) -> None:
        if self._input is None or self._input.is_closing():
            raise ServerError("its input is closed")
        if self._input.get_write_buffer_size() > MOST_UNREAD:
            raise ServerError(f"it reads nothing: {MOST_UNREAD} bytes wait for it")
        self._input.write(message + b"\n")

    def _died(self) -> None:
        self._loop.remove_reader(self._process)
        status = _reap(self.pid)
        os.close(self._process)
        self._process = -1
        for transport in (self._input, self._output):
            if transport is not None:
                self._loop.call_soon(transport.close)  # behind what it has printed last
        self.peer.lose(f"its process has ended: {status}")
        self._gone.set()
        self._ended(self.peer.lost)


class _Reading(asyncio.Protocol):
    """Reads a server's output, and no faster than is good for everybody else."""

    def __init__(self, peer: Peer, closed: Callable[[], None]) -> None:
        self._peer = peer
        self._closed = closed
        self._lines = Lines()
        self._transport: asyncio.ReadTransport | None = None
        self._ignored = 0
        self._since = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        if isinstance(transport, asyncio.ReadTransport):
            self._transport = transport

    def data_received(self, data: bytes) -> None:
        for line in self._lines.feed(data):
            self._peer.heard(line)
        self._slow_down()

    def connection_lost(self, _: Exception | None) -> None:
        self._closed()

    def _slow_down(self) -> None:
        loop = asyncio.get_running_loop()
        now, ignored = loop.time(), self._peer.ignored.total()
        if now - self._since > PAUSE_SECONDS:
            self._since, self._ignored = now, ignored
        elif ignored - self._ignored > BURST and self._transport is not None:
            self._transport.pause_reading()
            loop.call_later(PAUSE_SECONDS, self._go_on)

    def _go_on(self) -> None:
        if self._transport is not None and not self._transport.is_closing():
            self._transport.resume_reading()


def _reap(pid: int) -> str:
    """Reap a process that has ended; return how."""
    try:
        _, status = os.waitpid(pid, os.WNOHANG)
    except ChildProcessError:
        return "its exit is not known"
    code = os.waitstatus_to_exitcode(status)
    return f"exit {code}" if code >= 0 else f"signal {-code}"
