"""Find the directories that git takes for a repository whatever their names are: it obeys their `config` and `hooks`.

Git knows one by three names in it, so a bare repository may stand anywhere, and be made of plain files. In one no tool
writes, and no tool makes the last of the three names.
"""

from __future__ import annotations

import os
from collections.abc import Collection
from typing import Final

_NAMES: Final = ("HEAD", "objects", "refs")


def repository_above(root: int, folder: str) -> str:
    """Return the repository, among a directory below the root and those above it; empty where there is none."""
    parts = folder.split("/")
    places = ["."] + ["/".join(parts[: at + 1]) for at in range(len(parts))]
    return next((place for place in places if all(_is_there(root, place, name) for name in _NAMES)), "")


def makes_repository(root: int, folder: str, names: Collection[str]) -> bool:
    """Tell if a directory becomes a repository when it gets these names."""
    given = {name.casefold() for name in names}
    new = [name for name in _NAMES if name.casefold() in given]
    return bool(new) and all(name in new or _is_there(root, folder, name) for name in _NAMES)


def _is_there(root: int, folder: str, name: str) -> bool:
    try:
        os.stat(f"{folder}/{name}", dir_fd=root, follow_symlinks=False)
    except OSError:
        return False
    return True
