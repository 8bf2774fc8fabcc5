"""Find the programs that calls run. The daemon looks by it too, to tell what this machine lacks."""

from __future__ import annotations

import shutil
import sysconfig
from pathlib import Path
from typing import Final

_DIRECTORIES: Final = "/usr/bin:/bin:/usr/local/bin"


def find(name: str) -> str:
    """Return the file of a program: beside this Python, where pip puts it, or the system's; empty without one."""
    found = shutil.which(name, path=f"{sysconfig.get_path('scripts')}:{_DIRECTORIES}")
    return str(Path(found).resolve()) if found else ""
