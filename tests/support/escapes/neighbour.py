"""Be a process of the same user outside: hold secrets and sockets, tell where, and wait for the end of input."""

from __future__ import annotations

import ctypes
import json
import os
import pty
import select
import socket
import sys
from typing import Any

from escapes.case import syscall

SECRET = sys.argv[1]
OUTSIDE = sys.argv[2]
UNIQUE = sys.argv[3]
KEY = int(sys.argv[4])
BUFFER = ctypes.create_string_buffer(SECRET.encode(), 64)


def listen(family: int, address: Any) -> socket.socket:
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.bind(address)
    listener.listen(64)
    return listener


def receive(family: int, address: Any) -> socket.socket:
    receiver = socket.socket(family, socket.SOCK_DGRAM)
    receiver.bind(address)
    return receiver


def machine_address() -> str:
    """Return an address of this machine that is not its loopback, if it has one."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        try:
            any_socket.connect(("192.0.2.1", 9))
        except OSError:
            return "127.0.0.1"
        return str(any_socket.getsockname()[0])


def keep_ipc() -> None:
    """Make objects of System V and POSIX under the key, for who shares them; removed by the test."""
    create = 0o1000 | 0o600
    syscall(29, 194, KEY, 4096, create)
    syscall(68, 186, KEY, create)
    syscall(64, 190, KEY, 1, create)
    syscall(240, 180, UNIQUE.encode(), os.O_CREAT | os.O_RDWR, 0o600, None)
    syscall(248, 217, b"user", b"epad-neighbour", b"x", 1, -4)


def main() -> None:
    tcp, other = listen(socket.AF_INET, ("0.0.0.0", 0)), listen(socket.AF_INET, ("0.0.0.0", 0))
    six = listen(socket.AF_INET6, ("::1", 0)) if socket.has_ipv6 else other
    udp = receive(socket.AF_INET, ("127.0.0.1", 0))
    kept = [
        listen(socket.AF_UNIX, f"{OUTSIDE}/docker.sock"),
        receive(socket.AF_UNIX, f"{OUTSIDE}/bus"),
        listen(socket.AF_UNIX, f"\0{UNIQUE}"),
        receive(socket.AF_UNIX, f"\0{UNIQUE}-dgram"),
    ]
    with open(f"/dev/shm/{UNIQUE}", "w", encoding="utf-8") as shared:
        shared.write(SECRET)
    keep_ipc()
    _, terminal = pty.openpty()
    facts = {
        "neighbour": os.getpid(),
        "neighbour_address": ctypes.addressof(BUFFER),
        "tcp": tcp.getsockname()[1],
        "other_tcp": other.getsockname()[1],
        "tcp6": six.getsockname()[1],
        "udp": udp.getsockname()[1],
        "address": machine_address(),
        "interfaces": len(socket.if_nameindex()),
        "terminal": os.ttyname(terminal),
        "tmp_inode": os.stat("/tmp").st_ino,
        **{f"{kind}_namespace": os.readlink(f"/proc/self/ns/{name}") for kind, name in KINDS},
    }
    print(json.dumps(facts), flush=True)
    while True:
        ready, _, _ = select.select([udp, sys.stdin], [], [])
        if sys.stdin in ready:
            break
        text, sender = udp.recvfrom(64)
        udp.sendto(text, sender)
    os.unlink(f"/dev/shm/{UNIQUE}")
    del kept


KINDS = (("network", "net"), ("uts", "uts"), ("cgroup", "cgroup"))
main()
