"""Find the directories that a command's program is read from, where they are none of the system's."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

from epad.confinement.places import SYSTEM

_MOST_LINKS: Final = 40  # as many as the kernel follows


def program_roots(
    command: Sequence[str], directory: str, search_path: str, resolve: Callable[[str], str]
) -> list[str]:
    """Return the directories below which a program and its libraries lie; empty for one of the system's.

    A program in `bin/` has its libraries beside that: a virtual environment, and the Python that it was made from.
    """
    if not command:
        return []
    name = command[0]
    found = shutil.which(str(Path(directory) / name) if "/" in name else name, path=search_path)
    if found is None:
        return []
    program = Path(directory) / found
    roots = dict.fromkeys(str(_root(path)) for path in (*_links(program), Path(resolve(str(program)))))
    return [root for root in roots if not any(Path(root).is_relative_to(system) for system in SYSTEM)]


def _root(program: Path) -> Path:
    folder = Path(os.path.normpath(program)).parent
    return folder.parent if folder.name == "bin" and folder.parent != Path("/") else folder


def _links(program: Path) -> list[Path]:
    """Return a program and each link on the way to its file: uv has a link for each minor version of Python."""
    found = [program]
    while found[-1].is_symlink() and len(found) < _MOST_LINKS:
        found.append(found[-1].parent / found[-1].readlink())
    return found
