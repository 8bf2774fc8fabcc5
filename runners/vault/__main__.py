"""`python -m runners.vault DIRECTORY DOCUMENTS FD`: epad's stores, a child of epad. FD is its end of a socket pair.

It opens no socket and no file but those in DIRECTORY and DOCUMENTS: a system call filter and Landlock see to that,
where the kernel has them. It ends with the daemon, whose end of the socket closes then.
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
    if len(sys.argv) != 4 or not sys.argv[3].isdecimal():
        print("python -m runners.vault DIRECTORY DOCUMENTS FD: epad starts it", file=sys.stderr)
        return 2
    directory, documents, descriptor = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal's signals are for the daemon
    os.umask(0o077)
    directory.mkdir(mode=0o700, exist_ok=True)
    documents.mkdir(mode=0o700, parents=True, exist_ok=True)
    connect(Path(":memory:")).close()  # what SQLite loads, it loads before the walls stand
    _confine(directory, documents)
    try:
        store = open_store(directory / FILE, None, time.time)
        server = Server(store, directory / FILE, documents)
    except (apsw.Error, OSError) as error:
        print(f"epad: the store {directory / FILE} cannot be opened: {error}", file=sys.stderr)
        return 1
    gc.freeze()
    with contextlib.suppress(ConnectionError):  # the daemon has died
        server.serve(descriptor)
    store.connection.close()
    return 0


def _confine(*directories: Path) -> None:
    """Leave this process its directories alone, and no socket."""
    sandbox.filter_system_calls()
    with contextlib.suppress(OSError):
        version = landlock.version()
        walls = landlock.ruleset(
            [wall for wall, needed in landlock.ABI.items() if version >= needed and wall in Wall]
        )
        rights = walls.files & ~landlock.EXECUTE & ~landlock.NEVER
        own = [(str(directory), rights) for directory in directories]
        landlock.restrict(walls, [*own, ("/dev/urandom", landlock.READ)])


if __name__ == "__main__":
    sys.exit(main())
