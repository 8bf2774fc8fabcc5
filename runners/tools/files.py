"""Tools of the category `files` that read: parts of files, counts, listings. `file_changes.py` has those that write."""

from __future__ import annotations

import codecs
import os
import stat
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Annotated, Final, Literal

import msgspec
from msgspec import UNSET, Meta, UnsetType

from runners.tools import beneath, file_changes, output, patterns, walk
from runners.tools.signature import Args, PathArg, Result, ToolError, meta

Encoding = Literal["utf-8", "utf-16", "latin-1", "cp1252", "ascii"]
for _name in ("utf-8", "utf-16", "latin-1", "cp1252", "ascii"):
    codecs.lookup(_name)  # loaded here, since a call may not read Python's own files

HASHED_BYTES: Final = 64 << 20
"""A larger file is not hashed as a whole: that takes longer than a read is worth."""
_LAST_BYTES: Final = 1 << 20


class ReadArgs(Args, frozen=True):
    """Names a part of a file."""

    path: PathArg
    offset: Annotated[int, Meta(ge=0)] = 0
    limit: Annotated[int, Meta(ge=1, le=1 << 20)] = 64 << 10
    encoding: Encoding = "utf-8"


class ReadResult(Result, frozen=True):
    """Holds a part of a file; `bytes` is the length of the part that `text` is made of."""

    text: str
    bytes: int
    total_bytes: int
    truncated: bool
    sha256: str | UnsetType = UNSET


FILE_READ: Final = meta(
    "file_read",
    ReadArgs,
    ReadResult,
    risk="R1",
    timeout=20,
    description="Read a text file, or a part of it by byte offset and limit.",
    examples=({"path": "notes.txt"}, {"path": "notes.txt", "offset": 4, "limit": 10}),
)


@FILE_READ.tool
async def file_read(args: ReadArgs) -> ReadResult:
    """Read from an offset, as far as there is room in the answer."""
    with beneath.opened(args.path) as descriptor:
        total = os.fstat(descriptor).st_size
        data = os.pread(descriptor, min(args.limit, output.room()), args.offset)
        hashed = beneath.hash_of(descriptor) if total <= HASHED_BYTES else UNSET
    text, cut = output.cut_text(data.decode(args.encoding, errors="replace"))
    used = len(text.encode(args.encoding, errors="replace")) if cut else len(data)
    return ReadResult(
        text=text,
        bytes=min(used, len(data)),
        total_bytes=total,
        truncated=args.offset + min(used, len(data)) < total,
        sha256=hashed,
    )


class LinesArgs(Args, frozen=True):
    """Names lines of a file."""

    path: PathArg
    lines: Annotated[int, Meta(ge=1, le=10_000)] = 50


class LinesResult(Result, frozen=True):
    """Holds lines; `truncated` tells if the file has more, or a line was cut."""

    lines: list[str]
    truncated: bool


FILE_HEAD: Final = meta(
    "file_head",
    LinesArgs,
    LinesResult,
    risk="R1",
    timeout=10,
    description="Read the first lines of a text file.",
    examples=({"path": "notes.txt", "lines": 2},),
)


@FILE_HEAD.tool
async def file_head(args: LinesArgs) -> LinesResult:
    """Read the first lines, out of at most the first megabyte."""
    with beneath.opened(args.path) as descriptor:
        data = os.pread(descriptor, _LAST_BYTES, 0)
        more = os.fstat(descriptor).st_size > len(data)
    lines = _lines(data)
    kept, cut = output.cut_items(map(output.cut_line, lines), args.lines)
    return LinesResult(lines=kept, truncated=cut or more or kept != lines[: len(kept)])


FILE_TAIL: Final = meta(
    "file_tail",
    LinesArgs,
    LinesResult,
    risk="R1",
    timeout=10,
    description="Read the last lines of a text file.",
    examples=({"path": "notes.txt", "lines": 2},),
)


@FILE_TAIL.tool
async def file_tail(args: LinesArgs) -> LinesResult:
    """Read the last lines, out of at most the last megabyte."""
    with beneath.opened(args.path) as descriptor:
        size = os.fstat(descriptor).st_size
        data = os.pread(descriptor, _LAST_BYTES, max(0, size - _LAST_BYTES))
    lines = _lines(data)
    kept, cut = output.cut_items(map(output.cut_line, reversed(lines)), args.lines)
    kept.reverse()
    return LinesResult(
        lines=kept, truncated=cut or size > len(data) or kept != lines[len(lines) - len(kept) :]
    )


class PathArgs(Args, frozen=True):
    """Names a file."""

    path: PathArg


class CountResult(Result, frozen=True):
    """Holds the counts of a file."""

    lines: int
    words: int
    bytes: int
    characters: int


FILE_WC: Final = meta(
    "file_wc",
    PathArgs,
    CountResult,
    risk="R1",
    timeout=60,
    description="Count lines, words, bytes and characters of a file.",
    examples=({"path": "notes.txt"},),
)


@FILE_WC.tool
async def file_wc(args: PathArgs) -> CountResult:
    """Count block by block, so that the size of a file is not the size of memory."""
    lines = words = size = characters = 0
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    inside = False
    with beneath.opened(args.path) as descriptor:
        for block in beneath.blocks(descriptor):
            size += len(block)
            lines += block.count(b"\n")
            text = decoder.decode(block)
            characters += len(text)
            words += len(text.split()) - (inside and not text[:1].isspace() and bool(text))
            inside = not text[-1:].isspace() if text else inside
    return CountResult(
        lines=lines, words=words, bytes=size, characters=characters + len(decoder.decode(b"", final=True))
    )


class Entry(msgspec.Struct, frozen=True):
    """Describes one entry of a directory."""

    path: str
    type: str
    bytes: int
    mtime: str


class ListArgs(Args, frozen=True):
    """Names a directory, and which of its entries are wanted."""

    path: PathArg = "."
    depth: Annotated[int, Meta(ge=1, le=20)] = 1
    glob: str | None = None
    limit: Annotated[int, Meta(ge=1, le=5000)] = 500
    cursor: str | None = None


class ListResult(Result, frozen=True):
    """Holds entries; `next` is the cursor of the following page, if there is one."""

    entries: list[Entry]
    next: str | None


FILE_LIST: Final = meta(
    "file_list",
    ListArgs,
    ListResult,
    risk="R1",
    timeout=20,
    description="List the files in a directory, to a depth, by pages, with type, size and time.",
    examples=({}, {"path": "src", "depth": 2, "glob": "*.py"}),
)


@FILE_LIST.tool
async def file_list(args: ListArgs) -> ListResult:
    """List in order of a walk. The cursor is the last path of the page before."""
    wanted = patterns.matcher(args.glob) if args.glob else None
    base = "" if args.path in {".", "./"} else args.path.rstrip("/") + "/"
    found = (each for each in _after(args) if not wanted or wanted(each.path.removeprefix(base)))
    kept, more = output.cut_items(map(_entry, found), args.limit)
    return ListResult(entries=kept, next=kept[-1].path if more and kept else None)


def _after(args: ListArgs) -> Iterator[walk.Found]:
    """Yield the entries after the cursor: a walk goes by the parts of paths, so they are compared by their parts."""
    cursor = args.cursor.split("/") if args.cursor else []
    for found in walk.entries(args.path, args.depth):
        if found.path.split("/") > cursor:
            yield found


def _entry(found: walk.Found) -> Entry:
    return Entry(shown(found.path), found.kind, found.status.st_size, time_of(found.status))


class StatResult(Result, frozen=True):
    """Holds the facts of one file."""

    type: str
    bytes: int
    mode: str
    mtime: str
    sha256: str | UnsetType = UNSET


FILE_STAT: Final = meta(
    "file_stat",
    PathArgs,
    StatResult,
    risk="R1",
    timeout=20,
    description="Tell type, size, mode, modification time and SHA-256 of a file.",
    examples=({"path": "notes.txt"}, {"path": "src"}),
)


@FILE_STAT.tool
async def file_stat(args: PathArgs) -> StatResult:
    """Tell the facts of a file, of a link's target where it leads inside. Its content is read if it is a file."""
    descriptor = beneath.open_path(args.path, os.O_PATH)
    try:
        status = os.fstat(descriptor)
    finally:
        os.close(descriptor)
    hashed: str | UnsetType = UNSET
    if stat.S_ISREG(status.st_mode) and status.st_size <= HASHED_BYTES:
        with beneath.opened(args.path) as content:
            hashed = beneath.hash_of(content)
    return StatResult(
        type=beneath.kind_of(status.st_mode),
        bytes=status.st_size,
        mode=f"{stat.S_IMODE(status.st_mode):04o}",
        mtime=time_of(status),
        sha256=hashed,
    )


def shown(name: str) -> str:
    """Return a path as JSON can carry it: bytes that are no UTF-8 are shown as such, and cannot be asked for."""
    return os.fsencode(name).decode("utf-8", errors="backslashreplace")


def time_of(status: os.stat_result) -> str:
    """Return the time of the last change of content, in UTC."""
    try:
        return datetime.fromtimestamp(int(status.st_mtime), UTC).isoformat().replace("+00:00", "Z")
    except (OverflowError, ValueError):
        return "unknown"


def _lines(data: bytes) -> list[str]:
    if b"\0" in data[:8192]:
        raise ToolError(
            "the file is binary: it has NUL bytes", "file_read shows bytes; file_stat its size and hash"
        )
    return data.decode("utf-8", errors="replace").splitlines()


(file_write, file_append, file_copy, file_move, file_delete) = (
    file_changes.file_write,
    file_changes.file_append,
    file_changes.file_copy,
    file_changes.file_move,
    file_changes.file_delete,
)
TOOLS: Final = (FILE_HEAD, FILE_LIST, FILE_READ, FILE_STAT, FILE_TAIL, FILE_WC, *file_changes.TOOLS)
