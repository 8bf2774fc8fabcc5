"""Remember in `state.db` which files labelled sessions have written by tools: a later reader gets their labels.

| a tool | then |
|---|---|
| writes a file, of a session with labels | the file has them, with the turn that wrote it |
| writes it anew, of a session without | it has none any more |
| removes it | the same |
| is given a path that is such a file | the reader's session gets its labels |
| is given a directory above one | the same, if the result names the file |

A file is known by its real path, whatever the workspace. What an agent's own process writes or reads is not seen.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import apsw
import msgspec
from structlog.typing import FilteringBoundLogger

from epad.gate.tool_table import Taint
from epad.ledger.record import Effect
from epad.storage.database import Database, DatabaseError, fetch

FILE_LABEL_SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS file_label(
    path TEXT PRIMARY KEY, label INTEGER NOT NULL, turn TEXT NOT NULL) STRICT, WITHOUT ROWID;
"""
MOST_FILES: Final = 20_000
"""The oldest go first; a workspace with more of them has its table `workspace_labels`."""
_MOST_PATH: Final = 4_096
_ANEW: Final = frozenset({"file_write", "notebook_create"})
"""The tools whose result tells nothing of what was there: a session without labels makes such a file its own."""
_TELLS_NOTHING: Final = _ANEW | {"file_append", "file_delete", "file_stat"}
_NAME_PLACES: Final = frozenset({"path", "paths", "repo", "source", "destination"})
_WHOLE_FOLDERS: Final = frozenset({"file_move", "file_copy"})
_TAKES_ALL: Final = _WHOLE_FOLDERS | {"tar_create", "zip_create"}
"""The tools that read all below a folder, and whose result does not say what that was."""


@dataclass(frozen=True, slots=True)
class FileLabel:
    """Holds the labels of a file, and the turn that wrote it."""

    taint: Taint
    turn: str


class FileLabels:
    """The files that labelled sessions have written. `load` comes first."""

    def __init__(self, database: Database, log: FilteringBoundLogger) -> None:
        self._database = database
        self._log = log
        self._files: dict[str, FileLabel] = {}

    async def load(self) -> None:
        """Read the known files. Raises DatabaseError."""
        rows = await self._database.read(
            lambda connection: fetch(connection, "SELECT path, label, turn FROM file_label ORDER BY turn")
        )
        self._files = {path: FileLabel(Taint(label & 3), turn) for path, label, turn in rows}

    async def written(
        self,
        root: str,
        tool: str,
        arguments: Mapping[str, object],
        effects: Sequence[Effect],
        label: FileLabel,
    ) -> None:
        """Take note of what a call has changed in a workspace; it is on the disk when this returns, if it can be."""
        if not root or not effects or not (label.taint or self._files):
            return
        changed = await self._moved(root, arguments) if tool in _WHOLE_FOLDERS else {}
        paths = await asyncio.to_thread(_real, root, [one.target for one in effects])
        for path, effect in zip(paths, effects, strict=True):
            if effect.after_sha256 is None or (tool in _ANEW and not label.taint):
                changed[path] = None
            elif label.taint:
                changed[path] = label
        await self._keep({path: new for path, new in changed.items() if self._files.get(path) != new})

    async def read(
        self, root: str, tool: str, arguments: Mapping[str, object], content: Mapping[str, object]
    ) -> tuple[str, FileLabel] | None:
        """Return the file with the most labels that a call has read, and its labels; None without one."""
        if not root or not self._files or tool in _TELLS_NOTHING:
            return None
        texts = list(_texts(arguments))
        if not _NAME_PLACES & arguments.keys():
            texts.append(".")  # where a tool looks that is not told
        places = await asyncio.to_thread(_real, root, texts)
        said = None if tool in _TAKES_ALL else msgspec.json.encode(content).decode(errors="replace")
        found = [(path, label) for path, label in self._files.items() if _is_read(path, places, said)]
        return max(found, key=lambda each: int(each[1].taint), default=None)

    async def _moved(self, root: str, arguments: Mapping[str, object]) -> dict[str, FileLabel | None]:
        """Return the labels of the files below a folder that was moved or copied, where they are by now too."""
        ends = [str(arguments.get(name, "")) for name in ("source", "destination")]
        source, destination = await asyncio.to_thread(_real, root, ends)
        below = f"{source}/"
        known = self._files.items()
        return {destination + path[len(source) :]: label for path, label in known if path.startswith(below)}

    async def _keep(self, changed: Mapping[str, FileLabel | None]) -> None:
        """Have these labels from now on; None: the file has none."""
        for path, label in changed.items():
            self._files.pop(path, None)
            if label is not None:
                self._files[path] = label
        gone = [path for path, label in changed.items() if label is None]
        while len(self._files) > MOST_FILES:
            gone.append(next(iter(self._files)))
            del self._files[gone[-1]]
        rows = [(path, int(label.taint), label.turn) for path, label in changed.items() if label is not None]
        if not rows and not gone:
            return

        def write(connection: apsw.Connection) -> None:
            connection.executemany("INSERT OR REPLACE INTO file_label VALUES (?, ?, ?)", rows)
            connection.executemany("DELETE FROM file_label WHERE path = ?", [(path,) for path in gone])

        try:
            await self._database.write(write)
        except DatabaseError as error:
            self._log.error("tools.file_labels_not_kept", files=len(changed), error=str(error))


def _is_read(path: str, places: Sequence[str], said: str | None) -> bool:
    """Tell if a file is one of the places, or lies below one and is named in the result; None: all below are read."""
    for place in places:
        if path == place:
            return True
        below = path.removeprefix(f"{place}/") if place != "/" else path
        if below != path and (said is None or msgspec.json.encode(below).decode()[1:-1] in said):
            return True
    return False


def _texts(arguments: Mapping[str, object]) -> Iterator[str]:
    for value in arguments.values():
        for text in value if isinstance(value, list) else [value]:
            if isinstance(text, str) and 0 < len(text) <= _MOST_PATH and "\0" not in text:
                yield text


def _real(root: str, texts: Sequence[str]) -> list[str]:
    return [os.path.realpath(os.path.join(root, text)) for text in texts]  # noqa: PTH118 - of a text that is no path too
