"""Make the namespaces of a cell, and the doors inside its network."""

from __future__ import annotations

import fcntl
import os
import socket
import struct
from collections.abc import Callable, Iterable
from functools import partial
from typing import Final

from runners.cell import kernel
from runners.cell.plan import Door, Wall

FLAGS: Final = {
    Wall.FILES: kernel.CLONE_NEWNS,
    Wall.NETWORK: kernel.CLONE_NEWNET,
    Wall.IPC: kernel.CLONE_NEWIPC,
    Wall.HOSTNAME: kernel.CLONE_NEWUTS,
    Wall.CGROUPS: kernel.CLONE_NEWCGROUP,
    Wall.PROCESSES: kernel.CLONE_NEWPID,
}
"""The namespace that each of these walls is. The one of processes holds for the children of who makes it."""

BACKLOG: Final = 512
_SIOCGIFFLAGS: Final = 0x8913
_SIOCSIFFLAGS: Final = 0x8914
_IFF_UP: Final = 1
_REQUEST: Final = "16sh22x"


def enter_user_namespace() -> None:
    """Become the owner of a new user namespace, in which our own user and group keep their numbers. Raises OSError."""
    uid, gid = os.geteuid(), os.getegid()
    kernel.unshare(kernel.CLONE_NEWUSER)
    # A group may be mapped by who is not root only once it can be dropped no more (user_namespaces(7)).
    for file, line in (("setgroups", "deny"), ("uid_map", f"{uid} {uid} 1"), ("gid_map", f"{gid} {gid} 1")):
        with open(f"/proc/self/{file}", "w", encoding="utf-8") as target:
            target.write(line)


def enter(wanted: Iterable[Wall], attempt: Callable[[Wall, Callable[[], None]], bool]) -> frozenset[Wall]:
    """Make the namespaces of these walls one by one, and return those that there are now."""
    asked = frozenset(wanted)
    return frozenset(wall for wall in FLAGS if wall in asked and attempt(wall, partial(_enter, wall)))


def _enter(wall: Wall) -> None:
    kernel.unshare(FLAGS[wall])
    if wall is Wall.NETWORK:
        bring_up("lo")
    if wall is Wall.FILES:
        kernel.make_private("/")


def bring_up(interface: str) -> None:
    """Set an interface up, which a new network's loopback is not. Raises OSError."""
    name = interface.encode()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as any_socket:
        answer = fcntl.ioctl(any_socket, _SIOCGIFFLAGS, struct.pack(_REQUEST, name, 0))
        _, flags = struct.unpack(_REQUEST, answer)
        fcntl.ioctl(any_socket, _SIOCSIFFLAGS, struct.pack(_REQUEST, name, flags | _IFF_UP))


def listen(doors: Iterable[Door]) -> list[socket.socket]:
    """Listen on each door in the network that we are in. Raises OSError that names the door."""
    listeners: list[socket.socket] = []
    for door in doors:
        family = socket.AF_INET6 if ":" in door.host else socket.AF_INET
        listener = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        listeners.append(listener)
        try:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind((door.host, door.port))
            listener.listen(BACKLOG)
        except OSError as error:
            for opened in listeners:
                opened.close()
            text = os.strerror(error.errno or 0)
            raise OSError(error.errno, f"listen on {door.host} port {door.port}: {text}") from error
    return listeners
