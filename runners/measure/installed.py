"""The packages that an environment has installed: what belongs to each, by the RECORD that its installer wrote.

A RECORD has the digest of each file. It counts in place of reading the file where that was never measured before, has
the recorded size, and was not changed since the RECORD was written, as the kernel says. So a first start does not
read the gigabytes of a large environment.
"""

from __future__ import annotations

import base64
import binascii
import csv
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from runners.measure.parts import CODE, Parts, Recorded, text_of

_MOST_BYTES: Final = 16 << 20
_SLACK_NS: Final = 2_000_000_000
"""Installers write files and RECORD in one go."""
_NEEDS: Final = re.compile(r"^Requires-Dist:\s*([A-Za-z0-9][\w.-]*)", re.MULTILINE)
_NOT_PACKAGES: Final = ("..", "__pycache__")


@dataclass(slots=True)
class _Folder:
    """Holds what a folder of packages has: the distributions by their names, and by the names that they import as."""

    path: Path
    distributions: dict[str, Path] = field(default_factory=dict)
    owners: dict[str, list[Path]] = field(default_factory=dict)


class Installed:
    """Takes packages whole, and those that they say they need."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._folders: list[Path] = []
        self._read: dict[Path, _Folder] = {}
        self._taken: set[Path] = set()

    def look_in(self, folder: Path) -> None:
        """Look for packages in this folder too."""
        self._folders.append(folder)

    def take(self, name: str) -> Path | None:
        """Take a package by the name that it is imported by.

        Returns the folder that it lies in where no installer has recorded it, None otherwise.
        """
        for path in self._folders:
            if not _is_there(path, name):
                continue
            folder = self._folder(path)
            if name not in folder.owners:
                return path
            for one in folder.owners[name]:
                self._distribution(folder, one)
            return None
        return None

    def _distribution(self, folder: _Folder, info: Path) -> None:
        waiting = [info]
        while waiting:
            info = waiting.pop()
            if info in self._taken:
                continue
            self._taken.add(info)
            self._parts.recorded |= dict(_recorded(folder.path, info))
            for top in sorted(_tops(info)):
                if (place := folder.path / top).is_dir():
                    self._parts.tree(place, "environment", CODE)
                elif place.suffix in CODE:
                    self._parts.add(place, "environment")
            needs = _NEEDS.findall(_text(info / "METADATA"))
            waiting += [one for name in needs if (one := folder.distributions.get(_normal(name)))]

    def _folder(self, path: Path) -> _Folder:
        """Read which distributions a folder has, once."""
        if (known := self._read.get(path)) is not None:
            return known
        folder = self._read[path] = _Folder(path)
        for info in sorted(path.glob("*.dist-info")):
            folder.distributions[_normal(info.name.partition("-")[0])] = info
            for top in _tops(info):
                folder.owners.setdefault(top.partition(".")[0], []).append(info)
        return folder


def _is_there(folder: Path, name: str) -> bool:
    if (folder / name).is_dir() or (folder / f"{name}.py").is_file():
        return True
    return any(folder.glob(f"{name}.*.so"))


def _tops(info: Path) -> set[str]:
    """Return the first names of all files of a distribution."""
    tops = {
        line.partition("/")[0].partition(",")[0].strip('"') for line in _text(info / "RECORD").splitlines()
    }
    return {top for top in tops if top and top not in _NOT_PACKAGES and not top.endswith(".dist-info")}


def _recorded(folder: Path, info: Path) -> Iterator[tuple[str, Recorded]]:
    """Yield the files of a distribution with the digests that its installer has recorded."""
    record = info / "RECORD"
    try:
        until = record.stat().st_ctime_ns + _SLACK_NS
    except OSError:
        return
    for row in csv.reader(_text(record).splitlines()):
        if len(row) == 3 and row[1].startswith("sha256=") and row[2].isdecimal():
            try:
                digest = base64.urlsafe_b64decode(row[1].removeprefix("sha256=") + "=").hex()
            except (binascii.Error, ValueError):
                continue
            yield f"{folder}/{row[0]}", Recorded(digest, int(row[2]), until)


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def _text(path: Path) -> str:
    return text_of(path, _MOST_BYTES).decode(errors="replace")
