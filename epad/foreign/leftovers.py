"""Remember the processes of servers, so that none outlives a daemon that was killed: the next one ends those.

Most servers end with their input. One that does not, or that has forked, would be an orphan for ever.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import msgspec


class Leftovers:
    """Keeps a file with the processes; `identity` names a process as no other is named, empty where there is none."""

    def __init__(self, file: Path, identity: Callable[[int], str]) -> None:
        self._file = file
        self._identity = identity
        self._living: dict[str, tuple[int, str]] = {}

    def note(self, server: str, pid: int) -> None:
        """Remember the process of a server."""
        self._living[server] = pid, self._identity(pid)
        self._write()

    def forget(self, server: str, pid: int) -> None:
        """Forget a process that has ended, if it is the server's newest."""
        if self._living.get(server, (0, ""))[0] == pid:
            del self._living[server]
            self._write()

    def end_all(self) -> list[str]:
        """Kill those that the run before this one has left; return whose they were."""
        try:
            left = msgspec.json.decode(self._file.read_bytes(), type=dict[str, tuple[int, str]])
        except (OSError, msgspec.MsgspecError):
            return []
        ended = []
        for server, (pid, identity) in left.items():
            with suppress(OSError):
                process = os.pidfd_open(pid)
                try:
                    if identity and self._identity(pid) == identity:
                        signal.pidfd_send_signal(process, signal.SIGKILL)
                        ended.append(server)
                finally:
                    os.close(process)
        self._write()
        return ended

    def _write(self) -> None:
        with suppress(OSError):  # then the next daemon ends none, and says so by finding none
            self._file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            new = self._file.with_suffix(".new")
            new.write_bytes(msgspec.json.encode(self._living))
            new.replace(self._file)
