"""`python -m runners.egress FD [intercept]`: the way out, a child of epad. FD is its end of the channel to the daemon.

With `intercept` it is ready to speak TLS for hosts; without, it becomes so when a cell first needs it.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import os
import resource
import signal
import socket
import sys

from runners.egress.certificates import import_now
from runners.egress.messages import INTERCEPT
from runners.egress.network import SystemNetwork
from runners.egress.proxy import Proxy

_NOBODY = 65_534
_PR_SET_DUMPABLE = 4


def main() -> int:
    """Serve until the daemon is gone."""
    number, *words = sys.argv[1:] or [""]
    if not number.isdecimal() or words not in ([], [INTERCEPT]):
        print("python -m runners.egress FD: epad starts it; FD is a socket of the daemon's", file=sys.stderr)
        return 2
    if words:
        import_now()  # who ceases to be root may not be able to read it later
    # The daemon ends it by closing the channel; a terminal's signals are for the daemon.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    _cease_to_be_root()
    ctypes.CDLL(None).prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)  # no core has the secrets that are filled in here
    with socket.socket(fileno=int(number)) as control:
        asyncio.run(_serve(control))
    # A look-up that hangs would keep the process: its threads are waited for at an orderly end.
    os._exit(0)


def _cease_to_be_root() -> None:
    """Become nobody, if this is root: strangers' bytes are read here, and nothing of root's is needed."""
    "".encode("idna")  # the resolver's codec, which nobody may not be able to read from a directory of root's
    if os.geteuid() != 0:
        return
    try:
        os.setgroups([])
        os.setresgid(_NOBODY, _NOBODY, _NOBODY)
        os.setresuid(_NOBODY, _NOBODY, _NOBODY)
    except OSError as error:  # a container without the right to
        print(f"epad: the way out runs as root: {error.strerror}", file=sys.stderr)


async def _serve(control: socket.socket) -> None:
    await Proxy(control, SystemNetwork()).run()


if __name__ == "__main__":
    sys.exit(main())
