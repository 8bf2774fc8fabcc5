"""Find the programs that calls run. The daemon looks by it too, to tell what this machine lacks."""

from __future__ import annotations

import os
import shutil
import sysconfig
from pathlib import Path
from typing import Final

_DIRECTORIES: Final = "/usr/bin:/bin:/usr/local/bin"


_CHROMIUM: Final = (
    "/usr/lib/chromium/chromium",
    "/usr/lib/chromium-browser/chromium-browser",
    "/opt/google/chrome/chrome",
)
_CHROMIUM_NAMES: Final = ("chromium", "chromium-browser", "google-chrome")


def find(name: str) -> str:
    """Return the file of a program: beside this Python, where pip puts it, or the system's; empty without one."""
    found = shutil.which(name, path=f"{sysconfig.get_path('scripts')}:{_DIRECTORIES}")
    return str(Path(found).resolve()) if found else ""


def chromium() -> str:
    """Return the file of the system's Chromium itself, rather than the script that starts it; empty without one."""
    own = next((place for place in _CHROMIUM if os.access(place, os.X_OK)), "")
    return own or next(filter(None, map(find, _CHROMIUM_NAMES)), "")
