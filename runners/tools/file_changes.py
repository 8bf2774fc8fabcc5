"""Tools of the category `files` that change the workspace. Each keeps a before-image and tells its effect."""

from __future__ import annotations

import os
import stat
from typing import Annotated, Final, Literal

from msgspec import UNSET, Meta, UnsetType

from runners.tools import beneath, protected, undo, walk
from runners.tools.signature import CONTEXT, END, Args, PathArg, Result, ToolError, meta
from runners.tools.undo import Images

_MOST_COPIED: Final = 256 << 20
_MOST_DELETED: Final = 5000


class WriteArgs(Args, frozen=True):
    """Names a file and its new content."""

    path: PathArg
    content: str
    mode: Literal["create", "replace"] = "create"
    if_sha256: Annotated[str, Meta(pattern="^[0-9a-f]{64}" + END)] | None = None


class WriteResult(Result, frozen=True):
    """Tells what was written."""

    path: str
    bytes: int
    sha256: str
    before_sha256: str | UnsetType = UNSET
    undo: str | UnsetType = UNSET


FILE_WRITE: Final = meta(
    "file_write",
    WriteArgs,
    WriteResult,
    risk="W1",
    timeout=20,
    description="Write a text file. mode=create refuses an existing one, replace overwrites it.",
    examples=(
        {"path": "new.txt", "content": "hello\n"},
        {"path": "notes.txt", "content": "x", "mode": "replace"},
    ),
)


@FILE_WRITE.tool
async def file_write(args: WriteArgs) -> WriteResult:
    """Write a new file beside the old one and rename it into its place."""
    data, before = encoded(args.content), beneath.hash_at(args.path)
    if args.if_sha256 and before != args.if_sha256:
        raise ToolError(f"{args.path!r} has changed: its SHA-256 is {before}", "read it again, then write")
    changed = put(args.path, data, may_exist=args.mode == "replace", before=before)
    return WriteResult(
        path=args.path,
        bytes=len(data),
        sha256=changed.after,
        before_sha256=before or UNSET,
        undo=changed.undo,
    )


class AppendArgs(Args, frozen=True):
    """Names a file and the text to add."""

    path: PathArg
    content: str


class AppendResult(Result, frozen=True):
    """Tells what was added."""

    path: str
    bytes: int
    total_bytes: int
    sha256: str


FILE_APPEND: Final = meta(
    "file_append",
    AppendArgs,
    AppendResult,
    risk="W1",
    timeout=30,
    description="Append text to a file; it is created if need be.",
    examples=({"path": "notes.txt", "content": "one more line\n"},),
)


@FILE_APPEND.tool
async def file_append(args: AppendArgs) -> AppendResult:
    """Copy the file, append to the copy and rename it: whoever reads meanwhile sees the old or the new file."""
    data, before = encoded(args.content), beneath.hash_at(args.path)
    source = beneath.open_file(args.path) if before else -1
    try:
        size = _within_bounds(source, args.path) if source >= 0 else 0

        def write(target: int) -> None:
            if source >= 0:
                beneath.copy_bytes(source, target)
            beneath.write_all(target, data)

        changed = put(args.path, write, may_exist=True, before=before)
    finally:
        if source >= 0:
            os.close(source)
    return AppendResult(path=args.path, bytes=len(data), total_bytes=size + len(data), sha256=changed.after)


class PairArgs(Args, frozen=True):
    """Names a source and a destination."""

    source: PathArg
    destination: PathArg
    replace: bool = False


class CopyResult(Result, frozen=True):
    """Tells what was copied."""

    path: str
    bytes: int
    sha256: str
    undo: str | UnsetType = UNSET


FILE_COPY: Final = meta(
    "file_copy",
    PairArgs,
    CopyResult,
    risk="W1",
    timeout=60,
    description="Copy a file. replace=true overwrites an existing destination.",
    examples=({"source": "notes.txt", "destination": "copy.txt"},),
)


@FILE_COPY.tool
async def file_copy(args: PairArgs) -> CopyResult:
    """Copy in the kernel where the file system can."""
    with beneath.opened(args.source) as source:
        size, mode = _within_bounds(source, args.source), stat.S_IMODE(os.fstat(source).st_mode) & 0o777
        before = beneath.hash_at(args.destination)
        changed = put(
            args.destination,
            lambda target: beneath.copy_bytes(source, target),
            may_exist=args.replace,
            before=before,
            mode=mode,
        )
    return CopyResult(path=args.destination, bytes=size, sha256=changed.after, undo=changed.undo)


class MoveResult(Result, frozen=True, rename={"source": "from", "destination": "to"}):
    """Tells what was moved."""

    source: str
    destination: str
    undo: str | UnsetType = UNSET


FILE_MOVE: Final = meta(
    "file_move",
    PairArgs,
    MoveResult,
    risk="W1",
    timeout=20,
    description="Move or rename a file or directory. replace=true overwrites the destination.",
    examples=({"source": "notes.txt", "destination": "docs/notes.txt"},),
)


@FILE_MOVE.tool
async def file_move(args: PairArgs) -> MoveResult:
    """Rename in one step; the kernel refuses to replace unless that was asked for."""
    images = Images()
    with beneath.parent_of(args.source) as (here, old), beneath.parent_of(args.destination) as (there, new):
        source = beneath.real_place(here, old)
        target = beneath.real_place(there, new)
        if (moving := beneath.status(here, old)) is None:
            raise ToolError(
                f"there is nothing at {args.source!r}", "file_list shows the names that are there"
            )
        if stat.S_ISDIR(moving.st_mode):
            _refuse_protected_below(args.source, target)
        if stat.S_ISLNK(moving.st_mode) and protected.leads_to_protected(target):
            raise ToolError(
                f"{target!r} would be a link, and what it leads to obeyed", "a person can do this in a shell"
            )
        before = beneath.hash_at(args.destination, undo.MOST_HASHED)
        gone = beneath.hash_at(args.source, undo.MOST_HASHED)
        found = beneath.status(there, new)
        if found is not None and (found.st_dev, found.st_ino) == (moving.st_dev, moving.st_ino):
            # To the kernel this rename is done when nothing is done.
            raise ToolError(
                f"{args.source!r} and {args.destination!r} are the same file", "choose another destination"
            )
        taken = found is not None
        if taken and not args.replace:
            raise beneath.already_there(args.destination)
        if taken:
            images.keep(there, new, target, undo.NOTHING)
        images.moved(here, old, source, target)
        with beneath.translated(args.destination):
            beneath.rename(here, old, there, new, may_exist=args.replace)
        for folder in {here, there}:
            os.fsync(folder)
    note = CONTEXT.get().note_effect
    note(source, gone, None)
    note(target, before, gone)
    return MoveResult(source=args.source, destination=args.destination, undo=images.made or UNSET)


class DeleteArgs(Args, frozen=True):
    """Names a file or directory to remove."""

    path: PathArg
    recursive: bool = False


class DeleteResult(Result, frozen=True):
    """Tells what was removed."""

    deleted: list[str]
    undo: str | UnsetType = UNSET


FILE_DELETE: Final = meta(
    "file_delete",
    DeleteArgs,
    DeleteResult,
    risk="W2",
    timeout=60,
    description="Delete a file or an empty directory; recursive: a full one. Of a link, the link goes.",
    examples=({"path": "old.txt"}, {"path": "build", "recursive": True}),
)


@FILE_DELETE.tool
async def file_delete(args: DeleteArgs) -> DeleteResult:
    """Remove from the leaves up, each with its before-image."""
    images = Images()
    deleted: list[str] = []
    with beneath.parent_of(args.path) as (folder, name):
        status = beneath.status(folder, name)
        if status is None:
            raise ToolError(f"there is nothing at {args.path!r}", "file_list shows the names that are there")
        path = beneath.real_place(folder, name)
        if stat.S_ISDIR(status.st_mode) and args.recursive:
            _refuse_protected_below(args.path, path)
        with beneath.translated(args.path):
            _delete(folder, name, path, images, deleted, recursive=args.recursive)
    return DeleteResult(deleted=deleted[:200], undo=images.made or UNSET)


def _delete(
    folder: int, name: str, path: str, images: Images, deleted: list[str], *, recursive: bool
) -> None:
    if len(deleted) >= _MOST_DELETED:
        raise ToolError(
            f"over {_MOST_DELETED} files would be deleted", "delete the directories below one by one"
        )
    found = beneath.status(folder, name)
    if found is None:
        return
    if stat.S_ISDIR(found.st_mode):
        if recursive:
            below = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=folder)
            try:
                for each in sorted(os.listdir(below)):
                    _delete(below, each, f"{path}/{each}", images, deleted, recursive=True)
            finally:
                os.close(below)
        images.keep(folder, name, path, undo.NOTHING)
        os.rmdir(name, dir_fd=folder)
        before = None
    else:
        is_hashed = stat.S_ISREG(found.st_mode) and found.st_size <= undo.MOST_HASHED
        before = _hash_in(folder, name) if is_hashed else None
        images.keep(folder, name, path, undo.NOTHING)
        os.unlink(name, dir_fd=folder)
    deleted.append(path)
    CONTEXT.get().note_effect(path, before, None)


def _hash_in(folder: int, name: str) -> str:
    descriptor = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=folder)
    try:
        return beneath.hash_of(descriptor)
    finally:
        os.close(descriptor)


def _refuse_protected_below(path: str, target: str) -> None:
    """Refuse a directory that has protected names in it, where it is or at its target.

    To move one away and back would be to write them, and `autostart` has another meaning below `.config`.
    """
    with beneath.parent_of(path) as (folder, name):
        base = beneath.real_place(folder, name)
    for found in walk.entries(path, unreadable=True):
        for place in (found.path, target + found.path.removeprefix(base)):
            if protected.never_written(place):
                raise ToolError(f"{place!r} in it is not written by tools", "a person can move or delete it")


class Changed:
    """Tells the hash of a file after a change, and the name under which its before-image is kept."""

    def __init__(self, after: str, undo: str | None) -> None:
        self.after = after
        self.undo = undo or UNSET


def put(
    path: str, data: beneath.Content, *, may_exist: bool, before: str | None, mode: int | None = None
) -> Changed:
    """Put content at a path: keep the before-image, replace, tell the effect. Raises ToolError."""
    images, hashes = Images(), list[str]()

    def write(target: int) -> None:
        if isinstance(data, bytes):
            beneath.write_all(target, data)
        else:
            data(target)
        hashes.append(beneath.hash_of(target))
        images.keep(folder, name, real, undo.file_state(hashes[0]))

    with beneath.parent_of(path) as (folder, name):
        real = beneath.real_place(folder, name)
        if not may_exist and beneath.status(folder, name) is not None:
            raise beneath.already_there(path)
        beneath.replace_in(folder, name, write, path=path, may_exist=may_exist, mode=mode)
        os.fsync(folder)
    CONTEXT.get().note_effect(real, before, hashes[0])
    return Changed(hashes[0], images.made)


def encoded(text: str) -> bytes:
    """Return a text as UTF-8. Raises ToolError for lone surrogates."""
    try:
        return text.encode()
    except UnicodeEncodeError as error:
        raise ToolError(f"the content is not valid Unicode at character {error.start}", "remove it") from None


def _within_bounds(source: int, path: str) -> int:
    if (size := os.fstat(source).st_size) > _MOST_COPIED:
        raise ToolError(
            f"{path!r} has {size} bytes; at most {_MOST_COPIED} are copied", "ask a person for larger files"
        )
    return size


TOOLS: Final = (FILE_APPEND, FILE_COPY, FILE_DELETE, FILE_MOVE, FILE_WRITE)
