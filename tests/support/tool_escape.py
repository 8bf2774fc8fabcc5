"""Try, as a tool, something that a call must not be able to do: `python tool_escape.py RISK ROOT ATTEMPT`.

Prints `done` where it could, and the error's name where it could not.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

sys.path.insert(0, str(Path(__file__).parents[2]))

from runners.tools import call, sandbox, worker
from runners.tools.catalogue import Tool
from runners.tools.frames import Request
from runners.tools.signature import Risk

WAY_OUT_PORT = 2


def _read_outside(root: Path) -> None:
    (root.parent / "secret").read_text()


def _read_inside(root: Path) -> None:
    (root / "notes.txt").read_text()


def _write_inside(root: Path) -> None:
    (root / "new.txt").write_text("x")


def _write_outside(root: Path) -> None:
    (root.parent / "new.txt").write_text("x")


def _execute(root: Path) -> None:
    subprocess.run(["/bin/sh", "-c", "true"], check=True)


def _connect(root: Path, port: int = 1) -> None:
    with socket.socket() as ours:
        try:
            ours.connect(("127.0.0.1", port))
        except ConnectionRefusedError:
            return  # nobody listens there, and the connection was tried


def _connect_to_the_way_out(root: Path) -> None:
    _connect(root, WAY_OUT_PORT)


def _signal_parent(root: Path) -> None:
    os.kill(os.getppid(), 0)
    os.kill(os.getppid(), signal.SIGCONT)


def _memory(root: Path) -> None:
    bytearray(2 << 30)


def _fork(root: Path) -> None:
    if os.fork() == 0:
        os._exit(0)


ATTEMPTS: dict[str, Callable[[Path], None]] = {
    "read outside": _read_outside,
    "read inside": _read_inside,
    "write inside": _write_inside,
    "write outside": _write_outside,
    "execute": _execute,
    "connect": _connect,
    "connect to the way out": _connect_to_the_way_out,
    "signal": _signal_parent,
    "memory": _memory,
}


def main(risk: str, root: Path, attempt: str) -> None:
    class Meta:
        name = attempt

    async def tool(args: dict[str, Any]) -> dict[str, Any]:
        try:
            ATTEMPTS[attempt](root)
        except (OSError, MemoryError) as error:
            return {"said": type(error).__name__}
        return {"said": "done"}

    sandbox.filter_system_calls()
    reading, writing = os.pipe()
    descriptor = os.open(root, os.O_RDONLY | os.O_DIRECTORY)
    ports = (WAY_OUT_PORT,) if risk in sandbox.USES_NETWORK else ()
    need = sandbox.Need(cast("Risk", risk), descriptor, ports=ports)
    parent = os.getpid()
    if (pid := os.fork()) == 0:
        around = call.Surroundings(descriptor, -1, writing, unsandboxed=False)
        call.run(Request(id=1), Tool("test", cast("Any", Meta), tool), need, around, parent)
    os.close(writing)
    with os.fdopen(reading, "rb") as pipe:
        _, answer, _ = worker.parts(pipe.read())
    os.waitpid(pid, 0)
    sys.stdout.write((answer or b"").decode())


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), sys.argv[3])
