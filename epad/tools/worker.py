"""Speak with one worker of tools: requests out, answers in the order in which calls end.

A frame is four bytes of length, big-endian, and so many bytes of JSON; `runners/tools/worker.py` is the other end.

| a call | ends by |
|---|---|
| asked | its answer; the end of the worker, for which all of its calls fail |
| cancelled by its caller | a request to kill its process, and then its answer, which says `cancelled` |
| out of time | the worker kills its process and answers; without an answer GRACE_SECONDS later the worker is killed |

A crash of the daemon ends the worker, whose input ends with it.
"""

from __future__ import annotations

import asyncio
import os
import select
import signal
import socket
import struct
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final, cast

import msgspec
from msgspec import Struct

from epad import EpadError

GRACE_SECONDS: Final = 5.0
"""How much longer than its timeout a call is waited for."""
MOST_FRAME_BYTES: Final = 16 << 20
_HEADER: Final = struct.Struct(">I")


class WorkerLostError(EpadError):
    """The worker has ended, or says what no worker says; whether a call did anything is unknown."""


class WorkerAnswer(Struct, frozen=True):
    """Holds the answer to one call: a result, or an error and how the call ended."""

    id: int | None
    result: dict[str, Any] | None = None
    error: str = ""
    hint: str = ""
    ended: str = ""
    cpu_ms: float = 0.0
    wall_ms: float = 0.0
    effects: tuple[tuple[str, str | None, str | None], ...] = ()
    whole: msgspec.Raw = msgspec.Raw()
    """The whole of a result that was cut, as JSON; empty for one that fits."""


_decode = msgspec.json.Decoder(WorkerAnswer).decode


@dataclass(frozen=True, slots=True)
class Asked:
    """A call that a worker has: its number there, and its answer to come. The future raises WorkerLostError."""

    number: int
    answer: asyncio.Future[WorkerAnswer]

    async def within(self, seconds: float) -> WorkerAnswer:
        """Wait for the answer, and give it up after so long. Raises TimeoutError, WorkerLostError."""
        async with asyncio.timeout(seconds):
            return await self.answer


class Frames(asyncio.Protocol):
    """Cuts what comes into frames, as it comes: a stream's reader costs a call several turns of the loop."""

    def __init__(self) -> None:
        self.received: Callable[[bytes], None] = lambda _: None
        """Is told of each frame. What it raises as MsgspecError ends the connection."""
        self.ended = asyncio.get_running_loop().create_future()
        """Done once nothing comes any more."""
        self.transport: asyncio.Transport | None = None
        self._pending = bytearray()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        if self.ended.done():
            return
        self._pending += data
        while len(self._pending) >= _HEADER.size:
            (size,) = _HEADER.unpack_from(self._pending)
            if size > MOST_FRAME_BYTES:
                self._end()
                return
            end = _HEADER.size + size
            if len(self._pending) < end:
                return
            frame = bytes(memoryview(self._pending)[_HEADER.size : end])
            del self._pending[:end]
            try:
                self.received(frame)
            except msgspec.MsgspecError:
                self._end()
                return

    def connection_lost(self, error: Exception | None) -> None:
        del error
        self._end()

    def send(self, body: bytes) -> None:
        """Write a frame."""
        if self.transport is not None:
            self.transport.write(_HEADER.pack(len(body)) + body)

    def close(self) -> None:
        """Close the connection once all is written."""
        if self.transport is not None:
            self.transport.close()

    def _end(self) -> None:
        self._pending.clear()
        if not self.ended.done():
            self.ended.set_result(None)


async def connect(pid: int, end: socket.socket, ended: Callable[[], None] = lambda: None) -> Worker:
    """Return the worker whose first process is `pid`, by our end of the socket to it."""
    end.setblocking(False)
    _, frames = await asyncio.get_running_loop().create_connection(Frames, sock=end)
    return Worker(pid, frames, ended)


class Worker:
    """One worker process, by the socket to it. `pid` is its first process; `ended` is called once, at its end."""

    def __init__(self, pid: int, frames: Frames, ended: Callable[[], None]) -> None:
        self.pid = pid
        self._process = os.pidfd_open(pid)
        self._frames = frames
        self._ended = ended
        self._waiting: dict[int, asyncio.Future[WorkerAnswer]] = {}
        self._number = 0
        self._is_lost = False
        frames.received = self._received
        self._life = asyncio.create_task(self._live(), name=f"tools-worker-{pid}")

    @property
    def busy(self) -> bool:
        """Tell if a call waits for its answer."""
        return bool(self._waiting)

    @property
    def is_lost(self) -> bool:
        """Tell if this worker takes no call any more."""
        return self._is_lost

    def ask(
        self,
        tool: str,
        arguments: Mapping[str, object],
        timeout: float,
        output_bytes: int,
        *,
        call: str = "",
        spill_bytes: int = 0,
        stays: bool = False,
    ) -> Asked:
        """Have a tool called; its before-images are kept by the name `call`. Raises WorkerLostError.

        A result over `output_bytes` is cut, and its whole is in the answer too if it has at most `spill_bytes`.
        With `stays` a redirect to another host is not followed.
        """
        request = {
            "tool": tool,
            "arguments": arguments,
            "turn": call,
            "spill_bytes": spill_bytes,
            "stays": stays,
        }
        return self._ask(request, timeout, output_bytes)

    def undo(self, call: str, only: str, own: str, timeout: float, output_bytes: int) -> Asked:
        """Have a call undone; by `only`, looked at or tidied. `own` names the undo itself. Raises WorkerLostError."""
        return self._ask({"undo": call, "only": only, "turn": own}, timeout, output_bytes)

    def _ask(self, request: Mapping[str, object], timeout: float, output_bytes: int) -> Asked:
        self._number += 1
        number = self._number
        self._send({**request, "id": number, "timeout": timeout, "output_bytes": output_bytes})
        future: asyncio.Future[WorkerAnswer] = asyncio.get_running_loop().create_future()
        self._waiting[number] = future
        return Asked(number, future)

    def cancel(self, asked: Asked) -> None:
        """Kill the process of a call. It is answered still, once, with its effects so far."""
        if not asked.answer.done():
            with suppress(WorkerLostError):
                self._send({"cancel": asked.number})

    def kill(self) -> None:
        """Kill the worker and, with it, each process that it has forked."""
        if self._process >= 0:
            with suppress(ProcessLookupError):
                signal.pidfd_send_signal(self._process, signal.SIGKILL)
        self._lose("it was killed")

    async def close(self) -> None:
        """End the worker: its input ends, and it kills its calls. It is killed where it takes too long."""
        self._lose("it was ended")
        self._frames.close()
        try:
            await asyncio.wait_for(asyncio.shield(self._life), GRACE_SECONDS)
        except TimeoutError:
            self.kill()
            await self._life

    def _send(self, message: Mapping[str, object]) -> None:
        if self._is_lost:
            raise WorkerLostError("the worker has ended")
        body = msgspec.json.encode(message)
        if len(body) > MOST_FRAME_BYTES:
            raise WorkerLostError(f"a request of {len(body)} bytes is over the limit of {MOST_FRAME_BYTES}")
        self._frames.send(body)

    def _received(self, frame: bytes) -> None:
        answer = _decode(frame)
        future = self._waiting.pop(answer.id, None) if answer.id is not None else None
        if future is not None and not future.done():
            future.set_result(answer)

    async def _live(self) -> None:
        """Wait until there are no more answers; then let the process end, and reap it."""
        await self._frames.ended
        self._lose("it has ended")
        self._frames.close()
        await asyncio.to_thread(_reap, self.pid, self._process)
        os.close(self._process)
        self._process = -1

    def _lose(self, why: str) -> None:
        if self._is_lost:
            return
        self._is_lost = True
        waiting, self._waiting = self._waiting, {}
        for future in waiting.values():
            if not future.done():
                future.set_exception(WorkerLostError(f"the worker ended during the call: {why}"))
        self._ended()


def _reap(pid: int, process: int) -> None:
    """Wait for the end of a child, and kill it where it takes longer than GRACE_SECONDS."""
    if not select.select([process], [], [], GRACE_SECONDS)[0]:
        with suppress(ProcessLookupError):
            signal.pidfd_send_signal(process, signal.SIGKILL)
    with suppress(ChildProcessError):
        os.waitpid(pid, 0)
