"""`python -m runners.vault DIRECTORY FD`: epad's stores, a child of epad. FD is its end of a socket pair.

It opens no socket and no file but those in DIRECTORY: a system call filter and Landlock see to that, where the kernel
has them. It ends with the daemon, whose end of the socket closes then.
"""

from __future__ import annotations

import contextlib
import gc
import os
import signal
import sys
import time
from pathlib import Path

import apsw

from runners.cell import landlock
from runners.cell.plan import Wall
from runners.tools import sandbox
from runners.vault.damage import open_store
from runners.vault.serve import Server
from runners.vault.store import connect

FILE = "vault.db"


def main() -> int:
    """Serve until the daemon is gone."""
    if len(sys.argv) != 3 or not sys.argv[2].isdecimal():
        print("python -m runners.vault DIRECTORY FD: epad starts it", file=sys.stderr)
        return 2
    directory, descriptor = Path(sys.argv[1]), int(sys.argv[2])
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal's signals are for the daemon
    os.umask(0o077)
    directory.mkdir(mode=0o700, exist_ok=True)
    connect(Path(":memory:")).close()  # what SQLite loads, it loads before the walls stand
    _confine(directory)
    try:
        store = open_store(directory / FILE, None, time.time)
    except (apsw.Error, OSError) as error:
        print(f"epad: the store {directory / FILE} cannot be opened: {error}", file=sys.stderr)
        return 1
    gc.freeze()
    with contextlib.suppress(ConnectionError):  # the daemon has died
        Server(store).serve(descriptor)
    store.connection.close()
    return 0


def _confine(directory: Path) -> None:
    """Leave this process its directory alone, and no socket."""
    sandbox.filter_system_calls()
    with contextlib.suppress(OSError):
        version = landlock.version()
        walls = landlock.ruleset(
            [wall for wall, needed in landlock.ABI.items() if version >= needed and wall in Wall]
        )
        rights = walls.files & ~landlock.EXECUTE & ~landlock.NEVER
        landlock.restrict(walls, [(str(directory), rights), ("/dev/urandom", landlock.READ)])


if __name__ == "__main__":
    sys.exit(main())
