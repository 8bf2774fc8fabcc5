"""Keep before-images of files that a call changes, so that the change can be undone (`undoing.py`).

Beside the workspace, one directory per call: the files as they were, by number, and a journal with one line per change,
written before the change with how the file is and how the call leaves it. So a call that is killed at any moment has
either told a change, or not made it.

| in the directory of a call | is |
|---|---|
| `journal` | a line for each change |
| `temporaries` | the path of each temporary file, before it is made |
| a number | a file as it was |

The name of a call is `SESSION.TURN` under the daemon. A session has at most QUOTA_BYTES. Above that a call is done all
the same, and its result says that it cannot be undone: an agent that could no longer write would be stopped by its own
history. The daemon removes what is older than 24 hours (`epad/tools/undo_store.py`).
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterator
from contextlib import suppress
from itertools import islice
from typing import Final

import msgspec

from runners.tools import beneath
from runners.tools.signature import CONTEXT

QUOTA_BYTES: Final = 256 << 20
MOST_HASHED: Final = 256 << 20
"""The bytes of a file that is known by its content. A larger one is known by its size, its time and its inode."""
MOST_NAMES: Final = 20_000
JOURNAL: Final = "journal"
TEMPORARIES: Final = "temporaries"
NOTHING: Final = "none"
"""The state of a name at which there is nothing; the other states are of `state_at`."""
DIRECTORY: Final = "directory"
is_call: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,99}").fullmatch
_FOLDER: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_APPEND: Final = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC


class Change(msgspec.Struct, frozen=True, omit_defaults=True):
    """Describes one change of a path: a `file`, `link`, `directory` or `none` becomes `after`.

    Of one `moved` to `target`, `after` is its own state, of a directory with all in it. A `lost` one was not kept.
    """

    path: str
    was: str
    kept: int = 0
    target: str = ""
    mode: int = 0o644
    after: str = NOTHING


class Images:
    """Keeps the before-images of this call. `made` is the call's name once one was kept, else None."""

    def __init__(self) -> None:
        context = CONTEXT.get()
        self._store = context.undo if is_call(context.call) else -1
        self._call = context.call
        self._kept = context.kept
        self.made: str | None = None

    def keep(self, folder: int, name: str, path: str, after: str) -> None:
        """Keep what is at a name, right before it is changed; `after` is the state that the call leaves there."""
        if self._store < 0:
            return
        status = beneath.status(folder, name)
        if status is None:
            self._note(Change(path, NOTHING, after=after))
        elif stat.S_ISLNK(status.st_mode):
            self._note(Change(path, "link", target=os.readlink(name, dir_fd=folder), after=after))
        elif stat.S_ISDIR(status.st_mode):
            self._note(Change(path, DIRECTORY, mode=stat.S_IMODE(status.st_mode), after=after))
        elif stat.S_ISREG(status.st_mode) and self._has_room(status.st_size):
            number = self._copy(folder, name)
            mode = stat.S_IMODE(status.st_mode)
            self._note(Change(path, "file", number, mode=mode, after=after))
        else:
            self._kept.lost.append(path)
            self._note(Change(path, "lost", after=after))

    def moved(self, folder: int, name: str, path: str, target: str) -> None:
        """Note that what is at a name is about to move to a path that is free."""
        if self._store >= 0:
            self._note(Change(path, "moved", target=target, after=whole_state_at(folder, name)))

    def _has_room(self, size: int) -> bool:
        kept = self._kept
        if kept.used < 0:
            kept.used = _used(self._store, self._call)
        if kept.used + size > QUOTA_BYTES:
            return False
        kept.used += size
        return True

    def _copy(self, folder: int, name: str) -> int:
        own = open_call(self._store, self._call)
        self._kept.number = (self._kept.number or len(os.listdir(own))) + 1
        source = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=folder)
        target = os.open(str(self._kept.number), _APPEND & ~os.O_APPEND | os.O_TRUNC, 0o600, dir_fd=own)
        try:
            beneath.copy_bytes(source, target)
            os.fsync(target)
        finally:
            for descriptor in (source, target, own):
                os.close(descriptor)
        return self._kept.number

    def _note(self, change: Change) -> None:
        append(self._store, self._call, JOURNAL, msgspec.json.encode(change))
        self.made = self._call


def note_temporary(path: str) -> None:
    """Note the path of a temporary file before it is made, so that one that a kill leaves is found."""
    context = CONTEXT.get()
    if context.undo >= 0 and is_call(context.call):
        append(context.undo, context.call, TEMPORARIES, msgspec.json.encode(path))


def open_call(store: int, call: str) -> int:
    """Open the directory of a call, made if it is not there. Raises OSError."""
    with suppress(FileExistsError):
        os.mkdir(call, 0o700, dir_fd=store)
    return os.open(call, _FOLDER, dir_fd=store)


def append(store: int, call: str, name: str, line: bytes) -> None:
    """Append a line to a file of a call, durably. Raises OSError."""
    folder = open_call(store, call)
    descriptor = os.open(name, _APPEND, 0o600, dir_fd=folder)
    try:
        beneath.write_all(descriptor, line + b"\n")
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
        os.close(folder)


def state_at(folder: int, name: str) -> str:
    """Return the state of a name: nothing, `file:SHA-256`, `large:...`, `link:TARGET`, or the kind of anything else."""
    status = beneath.status(folder, name)
    if status is None:
        return NOTHING
    if stat.S_ISLNK(status.st_mode):
        return f"link:{os.readlink(name, dir_fd=folder)}"
    if not stat.S_ISREG(status.st_mode):
        return beneath.kind_of(status.st_mode)
    if status.st_size > MOST_HASHED:
        return f"large:{status.st_size}:{status.st_mtime_ns}:{status.st_ino}"
    descriptor = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=folder)
    try:
        return file_state(beneath.hash_of(descriptor))
    finally:
        os.close(descriptor)


def whole_state_at(folder: int, name: str) -> str:
    """Return the state of a name, of a directory with a hash of the names, kinds and sizes of all that is in it.

    Of more than MOST_NAMES the first count: a directory that is moved is not read for minutes.
    """
    state = state_at(folder, name)
    if state != DIRECTORY:
        return state
    descriptor = os.open(name, _FOLDER, dir_fd=folder)
    try:
        names = sorted(islice(_names_in(descriptor), MOST_NAMES))
    finally:
        os.close(descriptor)
    return f"{state}:{beneath.hash_bytes(msgspec.json.encode(names))}"


def _names_in(folder: int) -> Iterator[tuple[str, str, int]]:
    for place, directories, files, own in os.fwalk(".", dir_fd=folder):
        for name in (*directories, *files):
            if (status := beneath.status(own, name)) is not None:
                size = status.st_size if stat.S_ISREG(status.st_mode) else 0
                yield f"{place}/{name}", beneath.kind_of(status.st_mode), size


def file_state(sha256: str) -> str:
    """Return the state of a name at which there is a file with this hash."""
    return f"file:{sha256}"


def _used(store: int, call: str) -> int:
    """Return the bytes that the session of a call has kept: its calls' names begin alike."""
    session, dot, _ = call.partition(".")
    used = 0
    for name in os.listdir(store):
        if not name.startswith(session + dot):
            continue
        folder = os.open(name, _FOLDER, dir_fd=store)
        try:
            used += sum(entry.stat(follow_symlinks=False).st_size for entry in os.scandir(folder))
        finally:
            os.close(folder)
    return used
