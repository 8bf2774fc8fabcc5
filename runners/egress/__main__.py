"""`python -m runners.egress FD`: the way out, a child of epad. FD is its end of the channel to the daemon."""

from __future__ import annotations

import asyncio
import contextlib
import resource
import signal
import socket
import sys

from runners.egress.network import SystemNetwork
from runners.egress.proxy import Proxy


def main() -> int:
    """Serve until the daemon is gone."""
    if len(sys.argv) != 2 or not sys.argv[1].isdecimal():
        print("python -m runners.egress FD: epad starts it; FD is a socket of the daemon's", file=sys.stderr)
        return 2
    # The daemon ends it by closing the channel; a terminal's signals are for the daemon.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    with socket.socket(fileno=int(sys.argv[1])) as control:
        asyncio.run(_serve(control))
    return 0


async def _serve(control: socket.socket) -> None:
    await Proxy(control, SystemNetwork()).run()


if __name__ == "__main__":
    sys.exit(main())
