"""Keep before-images of files that a call changes, and put them back.

Beside the workspace, one directory per call: the files as they were, by number, and a journal with one line per change,
written before the change. Changes are undone in reverse order; a name that somebody has taken since is told and left
alone. A file that was changed since is put back all the same: nothing here knows how the call left it. Without a
directory (`--undo`), or above its quota, nothing is kept and the result has no `undo`.
"""

from __future__ import annotations

import os
import re
import stat
from contextlib import suppress
from typing import Any, Final

import msgspec

from runners.tools import beneath
from runners.tools.catalogue import Tool
from runners.tools.signature import CONTEXT, Args, Result, ToolError, meta

QUOTA_BYTES: Final = 256 << 20
_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,99}")
_JOURNAL: Final = "journal"


class Change(msgspec.Struct, frozen=True, omit_defaults=True):
    """Describes one path before a change: a `file` that was kept, a `link`, a `directory`, `none`, or one `moved`."""

    path: str
    was: str
    kept: int = 0
    target: str = ""
    mode: int = 0o644


class UndoArgs(Args, frozen=True):
    """Names the call."""

    turn: str


class UndoResult(Result, frozen=True):
    """Tells the paths that were put back, and those whose names somebody has taken since."""

    restored: list[str]
    changed_since: list[str]


class Images:
    """Keeps the before-images of this call. `made` is the call's name once one was kept, else None."""

    def __init__(self) -> None:
        context = CONTEXT.get()
        self._store = context.undo if _NAME.fullmatch(context.call) else -1
        self._call = context.call
        self._folder = -1
        self._number = 0
        self.made: str | None = None

    def keep(self, folder: int, name: str, path: str) -> None:
        """Keep what is at a name now, before it is changed."""
        if not self._open():
            return
        status = beneath.status(folder, name)
        if status is None:
            self._note(Change(path, "none"))
        elif stat.S_ISLNK(status.st_mode):
            self._note(Change(path, "link", target=os.readlink(name, dir_fd=folder)))
        elif stat.S_ISDIR(status.st_mode):
            self._note(Change(path, "directory", mode=stat.S_IMODE(status.st_mode)))
        elif stat.S_ISREG(status.st_mode) and self._has_room(status.st_size):
            self._copy(folder, name)
            self._note(Change(path, "file", self._number, mode=stat.S_IMODE(status.st_mode)))

    def moved(self, path: str, target: str) -> None:
        """Note that a path is about to move to a name that is free."""
        if self._open():
            self._note(Change(path, "moved", target=target))

    def _open(self) -> bool:
        if self._folder < 0 <= self._store:
            with suppress(FileExistsError):
                os.mkdir(self._call, 0o700, dir_fd=self._store)
            flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
            self._folder = os.open(self._call, flags, dir_fd=self._store)
            self._number = len(os.listdir(self._folder))
        return self._folder >= 0

    def _has_room(self, size: int) -> bool:
        used = 0
        for call in os.listdir(self._store):
            descriptor = os.open(
                call, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=self._store
            )
            try:
                used += sum(entry.stat(follow_symlinks=False).st_size for entry in os.scandir(descriptor))
            finally:
                os.close(descriptor)
        return used + size <= QUOTA_BYTES

    def _copy(self, folder: int, name: str) -> None:
        self._number += 1
        source = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=folder)
        try:
            beneath.replace_in(
                self._folder,
                str(self._number),
                lambda target: beneath.copy_bytes(source, target),
                path=name,
                may_exist=False,
            )
        finally:
            os.close(source)

    def _note(self, change: Change) -> None:
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC
        journal = os.open(_JOURNAL, flags, 0o600, dir_fd=self._folder)
        try:
            beneath.write_all(journal, msgspec.json.encode(change) + b"\n")
            os.fsync(journal)
        finally:
            os.close(journal)
        self.made = self._call


def restore(call: str) -> dict[str, Any]:
    """Put the before-images of a call back. Raises ToolError where there are none."""
    store = CONTEXT.get().undo
    if store < 0 or not _NAME.fullmatch(call):
        raise ToolError(f"no before-images of {call!r} are kept", "start the worker with --undo DIRECTORY")
    try:
        folder = os.open(call, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=store)
    except OSError:
        raise ToolError(
            f"no before-images of {call!r} are kept", "they are kept for 24 hours, up to a quota"
        ) from None
    result: dict[str, list[str]] = {"restored": [], "changed_since": []}
    for change in reversed(_journal(folder)):
        try:
            _put_back(folder, change)
        except (ToolError, OSError):
            result["changed_since"].append(change.path)
        else:
            result["restored"].append(change.path)
    return dict(result)


def _journal(folder: int) -> list[Change]:
    descriptor = os.open(_JOURNAL, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=folder)
    with os.fdopen(descriptor, "rb") as file:
        return [msgspec.json.decode(line, type=Change) for line in file if line.endswith(b"\n")]


def _put_back(folder: int, change: Change) -> None:
    match change.was:
        case "moved":
            with (
                beneath.parent_of(change.target) as (source, old),
                beneath.parent_of(change.path) as (target, new),
            ):
                beneath.rename(source, old, target, new, may_exist=False)
        case "none":
            with beneath.parent_of(change.path) as (place, name):
                _remove(place, name)
        case "directory":
            with beneath.parent_of(change.path) as (place, name):
                os.mkdir(name, change.mode, dir_fd=place)
        case "link":
            with beneath.parent_of(change.path) as (place, name):
                os.symlink(change.target, name, dir_fd=place)
        case _:
            kept = os.open(str(change.kept), os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=folder)
            try:
                beneath.replace(
                    change.path, lambda target: beneath.copy_bytes(kept, target), mode=change.mode & 0o777
                )
            finally:
                os.close(kept)


def _remove(place: int, name: str) -> None:
    status = os.stat(name, dir_fd=place, follow_symlinks=False)
    if stat.S_ISDIR(status.st_mode):
        os.rmdir(name, dir_fd=place)
    else:
        os.unlink(name, dir_fd=place)


UNDO: Final = meta(
    "undo",
    UndoArgs,
    UndoResult,
    risk="W1",
    timeout=60,
    description="Put back the files that a call has changed.",
    examples=({"turn": "t1"},),
)


@UNDO.tool
async def undo(args: UndoArgs) -> UndoResult:
    """Put the files back."""
    return UndoResult(**restore(args.turn))


TOOL: Final = Tool("undo", UNDO, undo)
