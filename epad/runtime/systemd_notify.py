"""The daemon's own word to systemd: sd_notify(3), without a library."""

from __future__ import annotations

import os
import socket
import time
from array import array
from collections.abc import Mapping, Sequence


def reloading() -> tuple[str, str]:
    """Return the lines that begin a reload; READY=1 ends it (sd_notify(3))."""
    microseconds = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1_000
    return "RELOADING=1", f"MONOTONIC_USEC={microseconds}"


def notify(*lines: str, descriptors: Sequence[int] = (), environment: Mapping[str, str] = os.environ) -> bool:
    """Send lines such as READY=1 to the manager that started us; False if there is none or it is away.

    `descriptors` go with them, for FDSTORE=1.
    """
    address = environment.get("NOTIFY_SOCKET", "")
    if not lines or not address.startswith(("/", "@")):
        return False
    if address.startswith("@"):
        address = "\0" + address[1:]
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as datagrams:
            datagrams.setblocking(False)
            beside = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array("i", descriptors))] if descriptors else []
            datagrams.sendmsg(["\n".join(lines).encode()], beside, 0, address)
    except OSError:
        return False
    return True
