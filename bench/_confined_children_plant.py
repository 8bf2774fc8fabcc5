"""Starts `epad` with a bug in how it outlives itself, so that bench/confined_children.py can be seen to find it.

`_confined_children_plant.py PLANT ARGUMENTS`: the bug outlives an upgrade too, which runs the same command again.
"""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from typing import Any, Final

from epad.confinement.cells import Cells
from epad.confinement.zygote import Zygote
from epad.daemon import cli
from epad.supervisor.process import Process

LATE_SECONDS: Final = 1.5
LOST: Final = "agent0"
# Has a copy of a door: once the daemon is dead it answers there in its place, for a second.
_ANSWERS = """
import os, socket, sys, time
door, parent = socket.socket(fileno=int(sys.argv[1])), int(sys.argv[2])
while os.getppid() == parent:
    time.sleep(0.002)
until = time.monotonic() + 1.0
door.settimeout(0.1)
while time.monotonic() < until:
    try:
        link, _ = door.accept()
        with link:
            link.settimeout(1.0)
            link.recv(65536)
            link.sendall(b"HTTP/1.1 200 OK\\r\\nContent-Length: 0\\r\\nConnection: close\\r\\n\\r\\n")
    except OSError:
        pass
"""


def _answer_when_dead() -> None:
    bring = Cells._bring  # noqa: SLF001 (the place where every door is brought to its state)

    async def leave_a_copy(self: Cells, subsystem: str, living: Any) -> None:
        for door in list(living.doors.values())[:1]:
            words = [sys.executable, "-S", "-c", _ANSWERS, str(door.fileno()), str(os.getpid())]
            subprocess.Popen(words, pass_fds=[door.fileno()], start_new_session=True)  # noqa: ASYNC220
        await bring(self, subsystem, living)

    setattr(Cells, bring.__name__, leave_a_copy)


def _lose_one() -> None:
    adopt = Process.adopt

    async def not_this(self: Process, root: Any) -> bool:
        return False if self.record.subsystem == LOST else await adopt(self, root)

    Process.adopt = not_this  # type: ignore[method-assign]


def _open_late() -> None:
    reopen = Zygote.reopen

    async def wait_first(self: Zygote, *arguments: Any) -> Any:
        await asyncio.sleep(LATE_SECONDS)
        return await reopen(self, *arguments)

    Zygote.reopen = wait_first  # type: ignore[method-assign]


PLANTS: Final[Mapping[str, Callable[[], None]]] = {
    "answers-when-dead": _answer_when_dead,
    "loses-one": _lose_one,
    "opens-late": _open_late,
}

if __name__ == "__main__":
    PLANTS[sys.argv.pop(1)]()
    sys.exit(cli.main())
