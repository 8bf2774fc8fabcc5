"""Names of the files inside a bundle: relative, safe to follow, and each in a place of its own. Pure."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable
from pathlib import Path, PurePosixPath

_COMPONENT = re.compile(r"[^\x00-\x1f/]{1,255}")


def is_safe(file: str, reserved: Collection[str] = ()) -> bool:
    """Tell if a name stays inside the bundle, and is none of the `reserved` ones."""
    components = file.split("/")
    plain = all(_COMPONENT.fullmatch(c) and c not in {".", ".."} for c in components)
    return plain and not PurePosixPath(file).is_absolute() and file not in reserved


def name_fault(names: Iterable[str], reserved: Collection[str] = ()) -> str:
    """Describe the fault of the first name that has no place of its own; empty if each has one.

    A name may have slashes (`wargame/state.json`), so no name may be a folder of another.
    """
    taken: set[str] = set()
    folders: set[str] = set()
    for name in names:
        parents = {name[:at] for at, letter in enumerate(name) if letter == "/"}
        if not is_safe(name, reserved):
            return f"source {name!r}: not a usable file name inside a bundle"
        if name in taken | folders or parents & taken:
            return f"source {name!r}: another source has this place; rename one"
        taken.add(name)
        folders |= parents
    return ""


def subsystem_file(subsystem: str, file: str) -> str:
    """Return the name of a file that a subsystem declares as its state."""
    return f"subsystems/{subsystem}/{Path(file.lstrip('/')).as_posix()}"
