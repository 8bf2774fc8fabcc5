"""Clear away the empty files and directories that a cell was made with, so that nothing else could be put there."""

from __future__ import annotations

import stat
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from epad.confinement.policy import is_below


def clear(paths: Iterable[str], kept_below: Iterable[str]) -> None:
    """Delete placeholders that are empty still, but for those below roots that another living cell may write.

    A mount on a file is gone once that file is deleted, in whichever namespace: the other cell could put its own there.
    Deepest first, so that a directory is empty by then. A placeholder that cannot be deleted stays, and does no harm.
    """
    roots = tuple(kept_below)
    for path in sorted(paths, reverse=True):
        if not any(is_below(path, root) for root in roots):
            with suppress(OSError):
                _delete_if_empty(Path(path))


def _delete_if_empty(path: Path) -> None:
    found = path.lstat()
    if stat.S_ISDIR(found.st_mode):
        path.rmdir()
    elif stat.S_ISREG(found.st_mode) and found.st_size == 0:
        path.unlink()
