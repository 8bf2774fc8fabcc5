"""Start a child of the daemon's own that is asked as a worker is: the stores of agents, the classifier of intents."""

from __future__ import annotations

import socket
from collections.abc import Mapping

from epad.runtime.own_program import start_own
from epad.tools.worker import Worker, connect


async def start_own_worker(*words: str, variables: Mapping[str, str] | None = None) -> Worker:
    """Start `python -m WORDS` with its end of a socket, and return it by the other end. Raises OSError."""
    ours, theirs = socket.socketpair()
    try:
        with theirs:
            process = start_own(*words, descriptor=theirs.fileno(), variables=variables)
    except OSError:
        ours.close()
        raise
    process.returncode = 0  # `Worker` reaps it, by a descriptor of its own
    return await connect(process.pid, ours)
