"""Make the doors of a living cell anew: join its network, listen there, and hand the listeners over.

The socket that sees its attempts to connect past them is made anew too: both end with the daemon.
"""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Mapping
from typing import Any, NoReturn

from runners.cell import kernel
from runners.cell.build import open_inside, send
from runners.cell.plan import Door


def reopen(pidfd: int, order: Mapping[str, Any], answer: socket.socket) -> NoReturn:
    """Listen on the doors of an order in the network of the process that a pidfd is of, watch there, and end."""
    try:
        _join(pidfd)
        opened = open_inside([Door(host, port) for host, port in order["doors"]], order["watched"])
    except OSError as error:
        send(answer, json.dumps({"failure": error.strerror or str(error)}).encode(), [])
        os._exit(1)
    send(answer, json.dumps(opened.described).encode(), opened.sockets)
    os._exit(0)


def _join(pidfd: int) -> None:
    """Join the network of a process, through its user namespace where it has one of its own. Raises OSError."""
    try:
        kernel.join(pidfd, kernel.CLONE_NEWUSER | kernel.CLONE_NEWNET)
    except OSError:
        # EINVAL for a process of our own user namespace; who is root needs none.
        kernel.join(pidfd, kernel.CLONE_NEWNET)
