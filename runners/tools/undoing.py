"""Put back what a call has changed, from its before-images (`undo.py`), newest first.

| a name is now | it is |
|---|---|
| as the call left it | put back: `restored` |
| as it was before the call, which may have died | left alone: `as_before` |
| anything else: somebody has changed it since | left alone: `changed_since` |
| one that was not kept, the store being full | left alone: `not_kept` |

With `only="look"` nothing is put back, and the same is told. With `only="tidy"` nothing but the temporary files that a
killed call has left are removed. An undo that is killed may be given again: it finds what is done as it was before.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any, Final

import msgspec

from runners.tools import beneath
from runners.tools.catalogue import Tool
from runners.tools.signature import CONTEXT, Args, Result, ToolError, meta
from runners.tools.undo import (
    DIRECTORY,
    JOURNAL,
    NOTHING,
    TEMPORARIES,
    Change,
    file_state,
    is_call,
    state_at,
    whole_state_at,
)

LOOK: Final = "look"
TIDY: Final = "tidy"
_MOST_TOLD: Final = 500
"""Paths in a list of the answer; the numbers are whole."""
_is_temporary: Final = re.compile(r"\.epad-[0-9]+-[0-9a-f]{8}\.tmp").fullmatch
_FOLDER: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


class UndoArgs(Args, frozen=True):
    """Names the call."""

    turn: str


class UndoResult(Result, frozen=True):
    """Tells the paths by what was found at them, and the temporary files that were removed."""

    restored: list[str]
    as_before: list[str]
    changed_since: list[str]
    not_kept: list[str]
    tidied: list[str]


def undo_call(call: str, only: str = "") -> dict[str, Any]:
    """Put the before-images of a call back. Raises ToolError where there are none."""
    store = CONTEXT.get().undo
    if store < 0 or not is_call(call):
        raise ToolError(f"no before-images of {call!r} are kept", "start the worker with --undo DIRECTORY")
    try:
        folder = os.open(call, _FOLDER, dir_fd=store)
    except OSError:
        raise ToolError(
            f"no before-images of {call!r} are kept", "they are kept for 24 hours, up to a quota"
        ) from None
    told: dict[str, list[str]] = {
        "restored": [], "as_before": [], "changed_since": [], "not_kept": [], "tidied": [],
    }  # fmt: skip
    try:
        told["tidied"] = (
            [] if only == LOOK else [path for path in _lines(folder, TEMPORARIES, str) if _tidy(path)]
        )
        for change in reversed([] if only == TIDY else _lines(folder, JOURNAL, Change)):
            told[_settled(folder, change, look=only == LOOK)].append(change.path)
    finally:
        os.close(folder)
    return {name: [*paths[:_MOST_TOLD], *_more(paths)] for name, paths in told.items()}


def _more(paths: list[str]) -> list[str]:
    return [f"and {len(paths) - _MOST_TOLD} more"] if len(paths) > _MOST_TOLD else []


def _lines(folder: int, name: str, kind: Any) -> list[Any]:
    """Read a file of a call; a last line that is not whole was never acted on."""
    try:
        descriptor = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=folder)
    except FileNotFoundError:
        return []
    with os.fdopen(descriptor, "rb") as file:
        return [msgspec.json.decode(line, type=kind) for line in file if line.endswith(b"\n")]


def _settled(folder: int, change: Change, *, look: bool) -> str:
    """Put one change back if nobody has changed the name since, and return the list that it belongs to."""
    if change.was == "lost":
        return "not_kept"
    try:
        if change.was == "moved":
            return _move_back(change, look=look)
        with _same_place(change.path) as (place, name):
            now = state_at(place, name)
            if now == change.after:
                if not look:
                    _put_back(folder, change, place, name)
                return "restored"
            return "as_before" if now == _before(folder, change) else "changed_since"
    except (ToolError, OSError):
        return "changed_since"


@contextmanager
def _same_place(path: str) -> Iterator[tuple[int, str]]:
    """Give the directory and the name of a path that was noted. Raises ToolError where a link leads elsewhere since."""
    with beneath.parent_of(path) as (folder, name):
        if (real := beneath.real_place(folder, name)) != path:
            raise ToolError(f"{path!r} is {real!r} now", "a person can put it back by hand")
        yield folder, name


def _before(folder: int, change: Change) -> str:
    """Return the state of the name before the call."""
    match change.was:
        case "file":
            return state_of_kept(folder, change.kept)
        case "link":
            return f"link:{change.target}"
        case other:
            return other


def state_of_kept(folder: int, number: int) -> str:
    """Return the state that a kept file gives a name."""
    kept = os.open(str(number), os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=folder)
    try:
        return file_state(beneath.hash_of(kept))
    finally:
        os.close(kept)


def _put_back(folder: int, change: Change, place: int, name: str) -> None:
    note = CONTEXT.get().note_effect
    after = _digest(change.after)
    if change.was == "file":
        kept = os.open(str(change.kept), os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=folder)
        try:
            beneath.replace_in(
                place,
                name,
                lambda target: beneath.copy_bytes(kept, target),
                path=change.path,
                may_exist=change.after != NOTHING,
                mode=change.mode & 0o777,
            )
            note(change.path, after, beneath.hash_of(kept))
        finally:
            os.close(kept)
    else:
        if change.after != NOTHING:
            _remove(place, name)
        if change.was == DIRECTORY:
            os.mkdir(name, change.mode, dir_fd=place)
        elif change.was == "link":
            os.symlink(change.target, name, dir_fd=place)
        note(change.path, after, None)
    os.fsync(place)


def _move_back(change: Change, *, look: bool) -> str:
    with _same_place(change.target) as (there, new), _same_place(change.path) as (here, old):
        if (at_source := whole_state_at(here, old)) != NOTHING:
            return "as_before" if at_source == change.after else "changed_since"
        if whole_state_at(there, new) != change.after:
            return "changed_since"
        if not look:
            beneath.rename(there, new, here, old, may_exist=False)
            for place in {there, here}:
                os.fsync(place)
            digest = _digest(change.after)
            CONTEXT.get().note_effect(change.target, digest, None)
            CONTEXT.get().note_effect(change.path, None, digest)
    return "restored"


def _tidy(path: str) -> bool:
    """Remove a temporary file that a call has left; tell if there was one."""
    with suppress(ToolError, OSError), _same_place(path) as (place, name):
        status = beneath.status(place, name)
        if status is not None and stat.S_ISREG(status.st_mode) and _is_temporary(name):
            os.unlink(name, dir_fd=place)
            return True
    return False


def _remove(place: int, name: str) -> None:
    status = os.stat(name, dir_fd=place, follow_symlinks=False)
    if stat.S_ISDIR(status.st_mode):
        os.rmdir(name, dir_fd=place)
    else:
        os.unlink(name, dir_fd=place)


def _digest(state: str) -> str | None:
    kind, _, digest = state.partition(":")
    return digest if kind == "file" else None


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
    return UndoResult(**undo_call(args.turn))


TOOL: Final = Tool("undo", UNDO, undo)
