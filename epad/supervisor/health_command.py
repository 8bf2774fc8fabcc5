"""A command that is asked whether something works: in a session of its own, of which nothing outlives its time."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
from collections.abc import Mapping, Sequence
from contextlib import suppress

from epad.runtime.descriptors import hand_down

# Kept of what a command complains of, from its beginning.
MAX_COMPLAINT_BYTES = 4096
# For a killed command to be gone. One that is stuck in the kernel is left to the engine's sweep.
REAP_SECONDS = 1.0
# All that a pipe holds. It rests after each read, so that a flood costs no more than 6 MB/s of reading.
_READ_BYTES = 64 * 1024
_REST_SECONDS = 0.01


async def run(command: Sequence[str], environment: Mapping[str, str]) -> tuple[int, bytes]:
    """Run it to its end; return its status (below 0: a signal's) and the beginning of its error output.

    Its end is its first process's: all of its group is killed then, or when this is cancelled. Raises OSError.
    """
    complaint = _Complaint()
    try:
        process = subprocess.Popen(  # noqa: ASYNC220 (asyncio's own would reap before the group is killed)
            command,
            env=environment,
            cwd="/",
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=complaint.writer,
            start_new_session=True,
        )
        # The pidfd is what waits. Popen must believe it has: else its destructor reaps in our place.
        process.returncode = 0
        hand_down(process.pid)
        complaint.listen()
        status = await _end(process.pid)
        return status, complaint.text()
    finally:
        complaint.close()


async def _end(pid: int) -> int:
    """Wait for a child's end, kill its group, reap it: until that is done the group's number is its own."""
    try:
        descriptor = os.pidfd_open(pid)
    except OSError:
        os.killpg(pid, signal.SIGKILL)
        os.waitpid(pid, 0)  # noqa: ASYNC222 (it has just been killed)
        raise
    loop = asyncio.get_running_loop()
    exited = loop.create_future()
    loop.add_reader(descriptor, _note_exit, loop, descriptor, exited)
    try:
        try:
            await asyncio.wait({exited})
        finally:
            with suppress(OSError):
                os.killpg(pid, signal.SIGKILL)
            await asyncio.wait({exited}, timeout=REAP_SECONDS)
    finally:
        loop.remove_reader(descriptor)
        status = _reap(descriptor)
        os.close(descriptor)
    return status


def _note_exit(loop: asyncio.AbstractEventLoop, descriptor: int, exited: asyncio.Future[None]) -> None:
    loop.remove_reader(descriptor)
    exited.set_result(None)


def _reap(descriptor: int) -> int:
    """Read how it ended; as if by SIGKILL, where it has not yet."""
    with suppress(ChildProcessError):
        result = os.waitid(os.P_PIDFD, descriptor, os.WEXITED | os.WNOHANG)
        if result is not None:
            return result.si_status if result.si_code == os.CLD_EXITED else -result.si_status
    return -signal.SIGKILL


class _Complaint:
    """A pipe that is always read, whatever is written, and of which the beginning is kept."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._reader, self.writer = os.pipe()
        os.set_blocking(self._reader, False)
        self._kept = b""
        self._rest: asyncio.TimerHandle | None = None

    def listen(self) -> None:
        """Read from now on: a command whose complaint nobody reads would stand still."""
        self._close_writer()
        self._loop.add_reader(self._reader, self._hear)

    def text(self) -> bytes:
        """Return the output, now that its writer has ended."""
        self._read()
        return self._kept

    def close(self) -> None:
        self._close_writer()
        if self._rest is not None:
            self._rest.cancel()
        self._loop.remove_reader(self._reader)
        os.close(self._reader)

    def _hear(self) -> None:
        self._loop.remove_reader(self._reader)
        if self._read():
            self._rest = self._loop.call_later(_REST_SECONDS, self._loop.add_reader, self._reader, self._hear)

    def _read(self) -> bool:
        """Read the available bytes; False at the end."""
        try:
            data = os.read(self._reader, _READ_BYTES)
        except BlockingIOError:
            return True
        self._kept += data[: MAX_COMPLAINT_BYTES - len(self._kept)]
        return data != b""

    def _close_writer(self) -> None:
        if self.writer >= 0:
            os.close(self.writer)
            self.writer = -1
