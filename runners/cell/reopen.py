"""Make the doors of a living cell anew: join its network, listen there, and hand the listeners over."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Sequence
from typing import NoReturn

from runners.cell import kernel, namespaces
from runners.cell.build import send
from runners.cell.plan import Door


def reopen(pidfd: int, doors: Sequence[tuple[str, int]], answer: socket.socket) -> NoReturn:
    """Listen on these doors in the network of the process that a pidfd is of, and end."""
    try:
        _join(pidfd)
        listeners = namespaces.listen(Door(host, port) for host, port in doors)
    except OSError as error:
        send(answer, json.dumps({"failure": error.strerror or str(error)}).encode(), [])
        os._exit(1)
    send(answer, json.dumps({"doors": len(listeners)}).encode(), listeners)
    os._exit(0)


def _join(pidfd: int) -> None:
    """Join the network of a process, through its user namespace where it has one of its own. Raises OSError."""
    try:
        kernel.join(pidfd, kernel.CLONE_NEWUSER | kernel.CLONE_NEWNET)
    except OSError:
        # EINVAL for a process of our own user namespace; who is root needs none.
        kernel.join(pidfd, kernel.CLONE_NEWNET)
