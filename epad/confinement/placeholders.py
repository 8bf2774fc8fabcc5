"""Clear away the empty files and directories that a cell was made with, so that nothing else could be put there."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable
from contextlib import suppress
from pathlib import PurePath

from epad.confinement.policy import is_below


def clear(paths: Iterable[str], kept_below: Iterable[str]) -> None:
    """Delete placeholders that are empty still, but for those below roots that another living cell may write.

    A mount on a file is gone once that file is deleted, in whichever namespace: the other cell could put its own there.
    Deepest first, so that a directory is empty by then. A placeholder that cannot be deleted stays, and does no harm.
    No symbolic link is followed: the owner of a workspace could have a root daemon delete a file elsewhere by one.
    """
    roots = tuple(kept_below)
    for path in sorted(paths, reverse=True):
        if not any(is_below(path, root) for root in roots):
            with suppress(OSError):
                _delete_if_empty(PurePath(path))


def _delete_if_empty(path: PurePath) -> None:
    directory = _open_exactly(path.parent)
    try:
        found = os.stat(path.name, dir_fd=directory, follow_symlinks=False)
        if stat.S_ISDIR(found.st_mode):
            os.rmdir(path.name, dir_fd=directory)
        elif stat.S_ISREG(found.st_mode) and found.st_size == 0:
            os.unlink(path.name, dir_fd=directory)
    finally:
        os.close(directory)


def _open_exactly(path: PurePath) -> int:
    """Open an absolute directory that no symbolic link is a part of. Raises OSError."""
    flags = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
    held = os.open(path.root, flags)
    for name in path.parts[1:]:
        above = held
        try:
            held = os.open(name, flags, dir_fd=above)
        finally:
            os.close(above)
    return held
