"""Making a bundle: copied by children, described, fsynced, and only then given its name.

A directory without `.partial` in its name is complete by construction. That it is also good is another
question: `verify` answers it, and says so in the file VERIFIED.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from epad import __version__
from epad.checkpoint.manifest import (
    MANIFEST_FILE,
    SCHEMA,
    SIGNATURE_FILE,
    SUMS_FILE,
    VERIFIED_FILE,
    BundleKind,
    Manifest,
    Part,
    decode,
    encode,
    sums,
    verified_mark,
)
from epad.checkpoint.signature import signature
from epad.checkpoint.source import (
    BytesSource,
    DirectorySource,
    PathSource,
    ReportSource,
    Source,
    SqliteSource,
    check_names,
)
from epad.checkpoint.verify import Verification
from epad.copying.child import ChildError, ask_child
from epad.copying.copied_file import CopiedFile, CopyReport
from epad.copying.disk import Disk
from epad.copying.errors import BundleDamagedError, CheckpointError, disk_error, no_room
from epad.ledger.head import Signer

PARTIAL_SUFFIX = ".partial"
_ID = re.compile(r"\d{8}T\d{6}Z-(\d{6,})")


@dataclass(frozen=True, slots=True)
class Label:
    """Identifies a bundle. `id` comes from `bundle_id` and is fixed before the work begins."""

    id: str
    kind: BundleKind
    reason: str
    at: datetime
    facts: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Bundle:
    """A complete bundle on the disk. It is `verified` if it was read back, and no source is missing from it."""

    path: Path
    manifest: Manifest
    verified: bool

    @property
    def id(self) -> str:
        return self.manifest.id

    @property
    def partial(self) -> bool:
        """Tell if a source could not be copied; the manifest says which and why."""
        return bool(self.manifest.lost)


def bundle_id(at: datetime, number: int) -> str:
    """Name a bundle: the time is for people, the number alone orders (a wall clock may step back)."""
    return f"{at.astimezone(UTC):%Y%m%dT%H%M%SZ}-{number:06d}"


def bundle_number(name: str) -> int | None:
    """Return the number in a bundle's name, finished or not; None if it is no bundle's name."""
    found = _ID.fullmatch(name.removesuffix(PARTIAL_SUFFIX))
    return int(found[1]) if found else None


async def create(
    directory: Path,
    sources: Sequence[Source],
    label: Label,
    *,
    deadline_seconds: float,
    disk: Disk | None = None,
    signer: Signer | None = None,
) -> Bundle:
    """Make the bundle `directory/label.id`, or return it if it is there. Raises CheckpointError.

    A source that cannot be read, or not within its share of the time, is recorded and does not stop the
    rest. Called again after a crash it starts over, so it can be a step of a journal.
    """
    disk = disk or Disk()
    if bundle_number(label.id) is None or label.id.endswith(PARTIAL_SUFFIX):
        raise CheckpointError(f"{label.id!r} is not a bundle id; make one with bundle_id()")
    check_names(sources)
    partial = directory / (label.id + PARTIAL_SUFFIX)
    try:
        if (directory / label.id).is_dir():
            await asyncio.to_thread(disk.sync_directory, directory)
        else:
            await asyncio.to_thread(_start_over, disk, partial)
            parts = await _copy_all(disk, partial, sources, deadline_seconds)
            await asyncio.to_thread(_finish, disk, partial, _manifest(label, parts, signer), signer)
    except OSError as error:
        await _give_room_back(disk, partial)
        raise disk_error(partial, error) from error
    except CheckpointError:
        await _give_room_back(disk, partial)
        raise
    return await asyncio.to_thread(read_bundle, directory / label.id)


async def verify(
    directory: Path, deadline_seconds: float, *, state: Path | None = None, doubts: Sequence[str] = ()
) -> Verification:
    """Read a bundle back in a child and mark it VERIFIED if all is well. A slow check is not a good one.

    `state` is the state directory whose keys and sound copies it is compared with. `doubts` about the sources keep the
    mark away, even if the copying went well.
    """
    try:
        return await ask_child(
            "epad.checkpoint.verify",
            str(directory),
            str(state or ""),
            *doubts,
            answer=Verification,
            deadline_seconds=deadline_seconds,
        )
    except ChildError as error:
        return Verification(ok=False, faults=(f"{directory}: {error}",))


def read_bundle(path: Path) -> Bundle:
    """Read a bundle's manifest, without checking its parts. Raises BundleDamagedError."""
    place = path / MANIFEST_FILE
    try:
        encoded = place.read_bytes()
    except OSError as error:
        raise BundleDamagedError(f"{place}: {error.strerror}; use an older bundle") from error
    try:
        verified = (path / VERIFIED_FILE).read_bytes() == verified_mark(encoded)
    except OSError:
        verified = False
    manifest = decode(encoded, place)
    return Bundle(path, manifest, verified and not manifest.gaps)


def _start_over(disk: Disk, partial: Path) -> None:
    disk.remove_tree(partial)
    disk.make_directory(partial)


async def _copy_all(
    disk: Disk, partial: Path, sources: Sequence[Source], deadline_seconds: float
) -> tuple[Part, ...]:
    """Copy in the order given: each source may take its share of the time that is left.

    So the whole is bounded, and a hung one cannot take everything from those behind it.
    """
    loop = asyncio.get_running_loop()
    ends = loop.time() + deadline_seconds
    parts: list[Part] = []
    for index, source in enumerate(sources):
        destination = partial / source.name
        await asyncio.to_thread(disk.make_directory, destination.parent)
        if isinstance(source, ReportSource):
            source = BytesSource(source.name, source.make(tuple(parts)))  # noqa: PLW2901 - the same, made now
        if isinstance(source, BytesSource):
            await asyncio.to_thread(disk.write, destination, source.data)
            parts.append(_bytes_part(source))
        else:
            share_seconds = max(0.0, ends - loop.time()) / (len(sources) - index)
            report = await _copy(disk, source, destination, share_seconds)
            parts += [_part(source, copied) for copied in report.files]
    return tuple(parts)


async def _copy(disk: Disk, source: PathSource, destination: Path, deadline_seconds: float) -> CopyReport:
    if source.optional and await asyncio.to_thread(_is_absent, source.path):
        return CopyReport()
    module = "sqlite_copy" if isinstance(source, SqliteSource) else "file_copy"
    sealed = isinstance(source, DirectorySource) and source.sealed
    try:
        report = await ask_child(
            f"epad.copying.{module}",
            str(source.path),
            str(destination),
            *(["--sealed"] if sealed else []),
            answer=CopyReport,
            deadline_seconds=deadline_seconds,
        )
    except ChildError as error:
        await asyncio.to_thread(_remove_leftovers, disk, destination)
        return CopyReport((CopiedFile("", error=f"{source.path}: {error}"),))
    if report.failure:
        raise no_room(destination, report.failure) if report.disk_full else CheckpointError(report.failure)
    return report


def _is_absent(path: Path) -> bool:
    """Tell if a source is absent; an unreadable one counts as there, and its copy reports the failure."""
    try:
        path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return True
    except OSError:
        return False
    return False


def _remove_leftovers(disk: Disk, destination: Path) -> None:
    if destination.is_dir():
        disk.remove_tree(destination)
        return
    for suffix in ("", "-wal", "-shm", "-journal"):
        disk.remove_file(destination.with_name(destination.name + suffix))


def _bytes_part(source: BytesSource) -> Part:
    digest = hashlib.sha256(source.data).hexdigest()
    return Part(source.name, source.name, len(source.data), digest, "bytes", "")


def _part(source: PathSource, copied: CopiedFile) -> Part:
    below = f"/{copied.file}" if copied.file else ""
    return Part(
        name=source.name,
        file="" if copied.error else source.name + below,
        size_bytes=copied.size_bytes,
        sha256=copied.sha256,
        how=copied.how,
        origin=str(source.path) + below,
        role="" if isinstance(source, DirectorySource) else source.role,
        error=copied.error,
    )


def _manifest(label: Label, parts: tuple[Part, ...], signer: Signer | None) -> Manifest:
    return Manifest(
        schema=SCHEMA,
        epad_version=__version__,
        id=label.id,
        kind=label.kind,
        reason=label.reason,
        at=label.at.astimezone(UTC),
        facts=dict(label.facts),
        parts=parts,
        signer=signer.verifier_key if signer else "",
    )


def _finish(disk: Disk, partial: Path, manifest: Manifest, signer: Signer | None) -> None:
    """Describe it and make it durable, innermost first; the rename is the moment it exists."""
    encoded = encode(manifest)
    disk.write(partial / MANIFEST_FILE, encoded)
    note = signature(signer, manifest.id, encoded) if signer else b""
    if note:
        disk.write(partial / SIGNATURE_FILE, note)
    disk.write(partial / SUMS_FILE, sums(manifest, encoded, note))
    for folder, _, _ in os.walk(partial, topdown=False):
        disk.sync_directory(Path(folder))
    disk.rename(partial, partial.with_name(manifest.id))
    disk.sync_directory(partial.parent)


async def _give_room_back(disk: Disk, partial: Path) -> None:
    with contextlib.suppress(OSError):
        await asyncio.to_thread(disk.remove_tree, partial)
