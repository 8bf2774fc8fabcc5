"""Tell what this machine lacks for a category of tools, and the fix; for the doctor and for `GET /health`.

The daemon looks where a worker does: the interpreter and its libraries are the same, and so is the path to programs.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Iterable, Iterator
from typing import Final

from msgspec import Struct

from runners.tools.catalogue import CATEGORIES, LIBRARIES, PROGRAMS
from runners.tools.program_paths import chromium, find

_PACKAGES: Final = {"yaml": "pyyaml"}
"""The names of packages that differ from the module's."""


_FIXES: Final = {
    "ruff": "pip install 'epad[code]'",
    "git": "apt-get install git, or what this system has for it",
}


class Lack(Struct, frozen=True):
    """Names what is lacking for a category's tools, and the fix."""

    category: str
    what: str
    fix: str


def has_program(name: str) -> bool:
    """Tell if a worker finds this program."""
    return bool(find(name))


def has_library(name: str) -> bool:
    """Tell if a worker can import this module; nothing is imported."""
    return importlib.util.find_spec(name) is not None


def lacking(
    categories: Iterable[str] = CATEGORIES,
    program: Callable[[str], bool] = has_program,
    library: Callable[[str], bool] = has_library,
    browser: Callable[[], str] = chromium,
) -> Iterator[Lack]:
    """Yield what is lacking for these categories."""
    for category in categories:
        needed = PROGRAMS.get(category, "")
        if needed and not program(needed):
            yield Lack(
                category, f"the program {needed} is not installed", _FIXES.get(needed, f"install {needed}")
            )
        if category == "browser" and not browser():
            yield Lack(
                category,
                "Chromium is not installed",
                "apt-get install chromium, or what this system has for it",
            )
        for name in LIBRARIES.get(category, ()):
            if not library(name):
                what = f"the library {_PACKAGES.get(name, name)} is not installed"
                yield Lack(category, what, "pip install 'epad[tools]'")
