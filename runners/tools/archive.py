"""Tools of the category `archive`: list, pack and unpack zip and tar archives."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Final

import msgspec
from msgspec import UNSET, Meta, UnsetType

from runners.tools import archive_create, archive_extract, beneath, file_changes, output
from runners.tools.archive_create import Compression, Sources
from runners.tools.archive_extract import Left
from runners.tools.archive_members import Archive, ratio_of, shown
from runners.tools.signature import Args, PathArg, Result, ToolError, meta
from runners.tools.tar_members import open_tar
from runners.tools.zip_members import open_zip

_ZIP: Final = (b"PK\3\4", b"PK\5\6")


class Entry(msgspec.Struct, frozen=True):
    """Describes one member."""

    name: str
    bytes: int
    type: str


class ListArgs(Args, frozen=True):
    """Names an archive."""

    path: PathArg
    limit: Annotated[int, Meta(ge=1, le=5000)] = 1000


class ListResult(Result, frozen=True):
    """Holds the first members; `ratio` is how many times the archive's own size they have."""

    entries: list[Entry]
    ratio: float
    truncated: bool


ARCHIVE_LIST: Final = meta(
    "archive_list",
    ListArgs,
    ListResult,
    risk="R1",
    timeout=30,
    description="List the members of a zip or tar archive.",
    examples=({"path": "pack.zip"}, {"path": "pack.tar.gz", "limit": 1}),
)


@ARCHIVE_LIST.tool
async def archive_list(args: ListArgs) -> ListResult:
    """List without unpacking; names are shown as they are in the archive."""
    with beneath.opened(args.path) as descriptor:
        head = next(beneath.blocks(descriptor, 4), b"")
        opened: Archive = open_zip(descriptor) if head in _ZIP else open_tar(descriptor)
        entries = (Entry(shown(each.name), each.bytes, each.kind) for each, _ in opened.members())
        kept, more = output.cut_items(entries, args.limit)
    total = sum(each.bytes for each in kept)
    return ListResult(entries=kept, ratio=ratio_of(total, opened.size), truncated=more)


class PackArgs(Args, frozen=True):
    """Names what is packed, and the archive to make."""

    paths: Annotated[list[PathArg], Meta(min_length=1, max_length=100)]
    destination: PathArg


class TarArgs(PackArgs, frozen=True):
    """Does the same, and chooses the compression."""

    compression: Compression = "gz"


class PackResult(Result, frozen=True):
    """Tells what was packed; `left_out` counts links and devices."""

    path: str
    files: int
    left_out: int
    bytes: int
    sha256: str
    undo: str | UnsetType = UNSET


ZIP_CREATE: Final = meta(
    "zip_create",
    PackArgs,
    PackResult,
    risk="W1",
    timeout=120,
    description="Pack files and directories into a new zip archive.",
    examples=({"paths": ["docs", "notes.txt"], "destination": "new.zip"},),
)


@ZIP_CREATE.tool
async def zip_create(args: PackArgs) -> PackResult:
    """Pack by deflate."""
    return _packed(args, archive_create.write_zip)


TAR_CREATE: Final = meta(
    "tar_create",
    TarArgs,
    PackResult,
    risk="W1",
    timeout=120,
    description="Pack files and directories into a new tar archive.",
    examples=({"paths": ["docs"], "destination": "new.tar.gz"},),
)


@TAR_CREATE.tool
async def tar_create(args: TarArgs) -> PackResult:
    """Pack in the PAX format."""
    return _packed(args, lambda packed, target: archive_create.write_tar(packed, target, args.compression))


def _packed(args: PackArgs, write: Callable[[Sources, int], None]) -> PackResult:
    packed, size = archive_create.sources(args.paths), 0

    def fill(target: int) -> None:
        nonlocal size
        write(packed, target)
        size = sum(len(block) for block in beneath.blocks(target))

    changed = file_changes.put(args.destination, fill, may_exist=False, before=None)
    return PackResult(
        path=args.destination,
        files=packed.files,
        left_out=packed.left_out,
        bytes=size,
        sha256=changed.after,
        undo=changed.undo,
    )


class UnpackArgs(Args, frozen=True):
    """Names an archive, and the directory to unpack it in."""

    path: PathArg
    destination: PathArg


class UnpackResult(Result, frozen=True):
    """Tells what was unpacked; `refused` names members that were not, with the reason. Long lists are cut."""

    files: list[str]
    refused: list[Left]
    count: int
    bytes: int
    truncated: bool
    undo: str | UnsetType = UNSET


ZIP_EXTRACT: Final = meta(
    "zip_extract",
    UnpackArgs,
    UnpackResult,
    risk="W1",
    timeout=120,
    description="Unpack a zip archive. Links are refused; no existing file is replaced.",
    examples=({"path": "pack.zip", "destination": "out"},),
)


@ZIP_EXTRACT.tool
async def zip_extract(args: UnpackArgs) -> UnpackResult:
    """Unpack member by member."""
    return _unpacked(args, open_zip)


TAR_EXTRACT: Final = meta(
    "tar_extract",
    UnpackArgs,
    UnpackResult,
    risk="W1",
    timeout=120,
    description="Unpack a tar archive (plain, gz, bz2, xz). Links are refused, no file is replaced.",
    examples=({"path": "pack.tar.gz", "destination": "out"},),
)


@TAR_EXTRACT.tool
async def tar_extract(args: UnpackArgs) -> UnpackResult:
    """Unpack member by member."""
    return _unpacked(args, open_tar)


def _unpacked(args: UnpackArgs, open_archive: Callable[[int], Archive]) -> UnpackResult:
    with beneath.opened(args.path) as descriptor:
        unpacked = archive_extract.unpack(open_archive(descriptor), args.destination)
    refused, some_refused = output.cut_items(unpacked.left, len(unpacked.left), output.room() // 2)
    files, some_files = output.cut_items(unpacked.files, len(unpacked.files), output.room() // 2)
    if unpacked.left and not unpacked.files:
        first = unpacked.left[0]
        raise ToolError(
            f"nothing was unpacked of {len(unpacked.left)} members; {first.name!r}: {first.why}",
            "archive_list shows the members",
        )
    return UnpackResult(
        files=files,
        refused=refused,
        count=len(unpacked.files),
        bytes=unpacked.bytes,
        truncated=some_files or some_refused,
        undo=unpacked.undo or UNSET,
    )


TOOLS: Final = (ARCHIVE_LIST, TAR_CREATE, TAR_EXTRACT, ZIP_CREATE, ZIP_EXTRACT)
