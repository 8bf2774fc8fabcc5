"""Try to get out of the cell that this runs in, and print the results as JSON: `epactl doctor` runs it.

Each attempt is one that succeeds for the same user outside. `epad/doctor/cells.py` prepares the things that they
reach for.
"""

from __future__ import annotations

import ctypes
import json
import os
import socket
import sys
from collections.abc import Callable, Mapping

_LIBC = ctypes.CDLL(None)
_NEW_USER = 0x10000000

Prepared = Mapping[str, str]


def read_a_file_outside(prepared: Prepared) -> bool:
    """Read the file."""
    with open(prepared["file"], encoding="utf-8") as file:
        return bool(file.read())


def write_a_file_outside(prepared: Prepared) -> bool:
    """Write to it."""
    with open(prepared["file"], "a", encoding="utf-8") as file:
        return file.write("x") == 1


def read_the_environment_of_a_process(prepared: Prepared) -> bool:
    """Read the variables of a process, among which are keys."""
    with open(f"/proc/{prepared['pid']}/environ", "rb") as file:
        return bool(file.read())


def signal_a_process(prepared: Prepared) -> bool:
    """Ask if a signal could be sent, without one."""
    os.kill(int(prepared["pid"]), 0)
    return True


def connect_to_a_port(prepared: Prepared) -> bool:
    """Connect to a listener on the host's loopback."""
    socket.create_connection(("127.0.0.1", int(prepared["port"])), 2).close()
    return True


def connect_to_a_socket_by_its_path(prepared: Prepared) -> bool:
    """Connect to a listener that is a file."""
    with socket.socket(socket.AF_UNIX) as link:
        link.connect(prepared["socket"])
    return True


def connect_to_an_abstract_socket(prepared: Prepared) -> bool:
    """Connect to a listener that has a name alone."""
    with socket.socket(socket.AF_UNIX) as link:
        link.connect(f"\0{prepared['abstract']}")
    return True


def make_namespaces_of_its_own(_: Prepared) -> bool:
    """Make a user namespace, from which many ways lead on."""
    return int(_LIBC.unshare(_NEW_USER)) == 0


def execute_a_file_of_memory(_: Prepared) -> bool:
    """Make a file that could be executed without being anywhere."""
    return os.memfd_create("x", os.MFD_CLOEXEC) >= 0


ATTEMPTS: tuple[Callable[[Prepared], bool], ...] = (
    read_a_file_outside,
    write_a_file_outside,
    read_the_environment_of_a_process,
    signal_a_process,
    connect_to_a_port,
    connect_to_a_socket_by_its_path,
    connect_to_an_abstract_socket,
    make_namespaces_of_its_own,
    execute_a_file_of_memory,
)


def got(prepared: Prepared) -> list[str]:
    """Return the names of the attempts that succeed here."""
    return [attempt.__name__.replace("_", " ") for attempt in ATTEMPTS if _succeeds(attempt, prepared)]


def _succeeds(attempt: Callable[[Prepared], bool], prepared: Prepared) -> bool:
    try:
        return attempt(prepared)
    except OSError:
        return False


if __name__ == "__main__":
    print(json.dumps(got(json.loads(sys.argv[1]))))
