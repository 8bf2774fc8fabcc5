"""Where tests keep their files: in memory where there is room for them, else on the disk below /tmp.

A commit waits for the disk, some milliseconds each time, and a gateway that is opened and closed makes sixteen of
them: this waiting was the larger part of the suite's time. The code under test syncs all the same; what a power cut
takes away is tried by a disk of its own (crash_disk.py), and a full one by a small one (small_disk.py). The tests of
children's logs stay on the disk (tests/supervisor/conftest.py), for their cutting asks more of a file system.

`make test-all` says EPAD_TEST_FILES=/tmp, so that everything is tried on a disk as well.
"""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path

VARIABLE = "EPAD_TEST_FILES"
MEMORY = Path("/dev/shm")
DISK = Path("/tmp")  # short: the path of a Unix socket must fit 107 bytes
NEEDED_BYTES = 2 << 30
"""What two workers have at one time in files, with room to spare; a container often gives 64 MiB."""


def chosen(said: str | None, memory: Path = MEMORY) -> Path:
    """Choose the place: what was said, or memory that has room and lets its files be executed, or the disk."""
    if said:
        return Path(said)
    try:
        found = os.statvfs(memory)
    except OSError:
        return DISK
    roomy = found.f_bavail * found.f_frsize >= NEEDED_BYTES
    usable = not found.f_flag & (os.ST_NOEXEC | os.ST_RDONLY) and os.access(memory, os.W_OK | os.X_OK)
    return memory if roomy and usable else DISK


PLACE = chosen(os.environ.get(VARIABLE))


def use() -> None:
    """Let `tmp_path` and everything that asks Python for a temporary file be there, children's too.

    And compiled modules beside their source: a container's image often says that none be written, and then each of
    the thousands of processes that tests start would compile epad anew, `epactl` in four times its time.
    """
    os.environ["TMPDIR"] = tempfile.tempdir = str(PLACE)
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    sys.dont_write_bytecode = False
