"""Unpack an archive into the workspace: each member is a file that is written like any other, beneath the workspace.

A member that may not be written (a link, a device, a name that leads outside, a protected place, a name that is taken)
is told with its reason, and the others are unpacked. Nothing that is there already is replaced. Only the right to
execute is kept of a member's mode.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Final

import msgspec

from runners.tools import beneath, file_changes, output
from runners.tools.archive_members import MOST_DEPTH, Archive, Blocks, Member, place_of, shown, survey
from runners.tools.signature import CONTEXT, ToolError
from runners.tools.undo import DIRECTORY, Images

_KINDS: Final = frozenset({"file", "directory"})


class Left(msgspec.Struct, frozen=True):
    """Names a member that was not unpacked, and the reason."""

    name: str
    why: str


class Unpacked:
    """Holds the files that were made, their bytes, the members that were not unpacked, and the call's before-images."""

    def __init__(self) -> None:
        self.files: list[str] = []
        self.bytes = 0
        self.left: list[Left] = []
        self.undo: str | None = None


def unpack(archive: Archive, destination: str) -> Unpacked:
    """Unpack an archive below a directory, which is made if it is not there. Raises ToolError."""
    survey(archive)
    unpacked = Unpacked()
    unpacked.undo = make_directories(destination)
    for member, blocks in archive.members():
        try:
            _unpack_one(member, blocks, destination, unpacked)
        except ToolError as error:
            unpacked.left.append(Left(output.cut_line(shown(member.name)), error.message))
    return unpacked


def _unpack_one(member: Member, blocks: Blocks, destination: str, unpacked: Unpacked) -> None:
    if member.kind not in _KINDS:
        raise ToolError(f"it is a {member.kind}; files and directories are unpacked")
    if member.why:
        raise ToolError(member.why)
    place = place_of(member.name)
    if not place:
        return
    path = beneath.joined((destination, place))
    if member.kind == "directory":
        unpacked.undo = make_directories(path) or unpacked.undo
        return
    unpacked.undo = make_directories(path.rpartition("/")[0] or ".") or unpacked.undo
    size = 0

    def write(target: int) -> None:
        nonlocal size
        for block in blocks():
            beneath.write_all(target, block)
            size += len(block)

    mode = 0o755 if member.executable else 0o644
    changed = file_changes.put(path, write, may_exist=False, before=None, mode=mode)
    unpacked.undo = changed.undo or unpacked.undo
    unpacked.files.append(path)
    unpacked.bytes += size


def make_directories(path: str) -> str | None:
    """Make a directory and those above it that are not there; return the name of the before-images, if one was made."""
    images = Images()
    if (deep := path.count("/")) >= MOST_DEPTH:
        raise ToolError(f"the directory lies {deep + 1} directories deep", f"at most {MOST_DEPTH} are made")
    for part in _above(path):
        with beneath.parent_of(part) as (folder, name), beneath.translated(part):
            if beneath.status(folder, name) is None:
                real = beneath.joined((beneath.real_path(folder), name))
                images.keep(folder, name, real, DIRECTORY)
                os.mkdir(name, 0o755, dir_fd=folder)
                CONTEXT.get().note_effect(real, None, None)
        os.close(beneath.open_directory(part))
    return images.made


def _above(path: str) -> Iterator[str]:
    parts = [part for part in path.split("/") if part not in {"", "."}]
    for at in range(1, len(parts) + 1):
        yield "/".join(parts[:at])
