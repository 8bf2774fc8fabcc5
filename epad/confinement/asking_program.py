"""Name the program inside a cell that has made a connection, by the port at its end."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Final

_ESTABLISHED: Final = "01"
_MOST_CHARACTERS: Final = 200
_PROC: Final = Path("/proc")


def asking_program(root: int, port: int, proc: Path = _PROC) -> str:
    """Return the command and the pid of the program at a port of a cell, by any process of it; empty if none is found.

    A person decides by it, and the program can write any text into its own command line: the pid is the kernel's.
    """
    with suppress(OSError):
        socket = _socket_at(proc / str(root) / "net", port)
        network = (proc / str(root) / "ns/net").readlink()
        found = (process for process in _processes(proc, network) if socket and _holds(process, socket))
        return next((f"{_command(process)} (pid {process.name})" for process in found), "")
    return ""


def _socket_at(net: Path, port: int) -> str:
    """Return the socket of an open connection from a port, as the links of descriptors name it."""
    wanted = f":{port:04X}"
    for table in ("tcp", "tcp6"):
        for line in (net / table).read_text().splitlines()[1:]:
            fields = line.split()
            if fields[1].endswith(wanted) and fields[3] == _ESTABLISHED:
                return f"socket:[{fields[9]}]"
    return ""


def _processes(proc: Path, network: Path) -> Iterator[Path]:
    """Yield the processes of a network namespace, the youngest first: a child is nearer to the deed."""
    for pid in sorted((int(one.name) for one in proc.iterdir() if one.name.isdecimal()), reverse=True):
        with suppress(OSError):
            if (proc / str(pid) / "ns/net").readlink() == network:
                yield proc / str(pid)


def _holds(process: Path, socket: str) -> bool:
    with suppress(OSError):
        for descriptor in (process / "fd").iterdir():
            with suppress(OSError):
                if str(descriptor.readlink()) == socket:
                    return True
    return False


def _command(process: Path) -> str:
    words = (process / "cmdline").read_bytes().rstrip(b"\0").replace(b"\0", b" ").decode(errors="replace")
    return "".join(one if one.isprintable() else "?" for one in words[:_MOST_CHARACTERS])
