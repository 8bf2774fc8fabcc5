"""Child process: read a whole bundle back, and mark it VERIFIED only if every byte is as it was made.

`python -m epad.checkpoint.verify DIRECTORY [STATE [DOUBT ...]]`. The hashes find every flipped bit since the copy was
made; the databases are checked as well, because the source may have been damaged before.
"""

from __future__ import annotations

import hashlib
import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from urllib.parse import quote

import apsw
import msgspec
from msgspec import Struct

from epad.checkpoint.critical_state import DATASTORES, datastore_of
from epad.checkpoint.manifest import (
    MANIFEST_FILE,
    OWN_FILES,
    SIGNATURE_FILE,
    SUMS_FILE,
    VERIFIED_FILE,
    Manifest,
    Part,
    decode,
    sums,
    verified_mark,
)
from epad.checkpoint.signature import signature_fault
from epad.copying.copied_file import CHUNK_BYTES, die_with_parent, give_way
from epad.copying.disk import Disk
from epad.copying.errors import BundleDamagedError
from epad.ledger.anchor import KEYS_FILE

FAULTS_SHOWN = 20


class Verification(Struct, frozen=True):
    """Holds the result of reading a bundle back, and the sources it lacks."""

    ok: bool
    faults: tuple[str, ...] = ()


def verify_bundle(
    directory: Path, disk: Disk | None = None, *, state: Path | None = None, doubts: Sequence[str] = ()
) -> Verification:
    """Check everything; set the mark VERIFIED if it is all well, and take it away if not.

    A doubt about the source counts like a fault of the copy.
    """
    disk = disk or Disk()
    mark = directory / VERIFIED_FILE
    try:
        encoded = (directory / MANIFEST_FILE).read_bytes()
        manifest = decode(encoded, directory / MANIFEST_FILE)
        faults = (*manifest.gaps, *doubts, *_faults(directory, manifest, encoded, state))
        if faults:
            disk.remove_file(mark)
        else:
            disk.write(mark, verified_mark(encoded))
        disk.sync_directory(directory)
    except (BundleDamagedError, OSError) as error:
        disk.remove_file(mark)
        faults = (str(error),)
    return Verification(ok=not faults, faults=faults[:FAULTS_SHOWN])


def bundle_faults(directory: Path, state: Path | None = None, *, keys: Sequence[str] = ()) -> tuple[str, ...]:
    """Return every fault of a bundle's contents; its mark stays as it is. Raises BundleDamagedError, OSError.

    `keys` are whose signature is believed, where that is not for the state directory to say.
    """
    encoded = (directory / MANIFEST_FILE).read_bytes()
    manifest = decode(encoded, directory / MANIFEST_FILE)
    return tuple(_faults(directory, manifest, encoded, state, keys))


def _faults(
    directory: Path, manifest: Manifest, encoded: bytes, state: Path | None, keys: Sequence[str] = ()
) -> Iterator[str]:
    note = (directory / SIGNATURE_FILE).read_bytes() if manifest.signer else b""
    if (directory / SUMS_FILE).read_bytes() != sums(manifest, encoded, note):
        yield f"{directory / SUMS_FILE}: does not match {MANIFEST_FILE}"
    if fault := signature_fault(directory, manifest, encoded, keys or _keys(state)):
        yield fault
    if manifest.id != directory.name:
        yield f"{directory}: the manifest is of bundle {manifest.id}"
    if not manifest.files:
        yield f"{directory}: holds nothing"
    expected = {part.file for part in manifest.files} | OWN_FILES
    for folder, _, files in os.walk(directory):
        for name in files:
            file = str((Path(folder) / name).relative_to(directory))
            if file not in expected:
                yield f"{file}: not in the manifest"
    anchor = directory / "anchor"
    for part in manifest.files:
        yield from part_faults(directory / part.file, part, anchor if anchor.is_dir() else None)
        if part.role == "datastore" and state is not None:
            yield from _datastore_faults(directory / part.file, part, state)


def _keys(state: Path | None) -> list[str]:
    """Return the public keys that the state directory's anchor vouches for; none where it has none."""
    path = state / "anchor" / KEYS_FILE if state else None
    return path.read_text(errors="replace").split() if path and path.exists() else []


def part_faults(path: Path, part: Part, anchor: Path | None) -> Iterator[str]:
    """Yield every fault of one file: bytes, structure, and for a ledger its chain and the heads at `anchor`."""
    try:
        size, digest = _hash(path)
    except OSError as error:
        yield f"{part.file}: {error.strerror}"
        return
    if size != part.size_bytes:
        yield f"{part.file}: {size} bytes, not {part.size_bytes}"
    elif digest != part.sha256:
        yield f"{part.file}: its bytes have changed (SHA-256)"
    elif part.how == "sqlite_backup":
        yield from database_faults(path, part)
    if part.role == "ledger":
        yield from _ledger_faults(path, part, anchor)


def _hash(path: Path) -> tuple[int, str]:
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while chunk := stream.read(CHUNK_BYTES):
            digest.update(chunk)
        return stream.tell(), digest.hexdigest()


def database_faults(path: Path, part: Part) -> Iterator[str]:
    """Check a copy's structure, and its foreign keys if it was declared as a database of the system.

    Immutable, so that looking leaves no -wal, -shm or lock behind.
    """
    if part.role not in {"database", "ledger"}:
        yield from _foreign_faults(path, part)
        return
    flags = apsw.SQLITE_OPEN_READONLY | apsw.SQLITE_OPEN_URI
    try:
        connection = apsw.Connection(f"file:{quote(str(path))}?immutable=1", flags=flags)
        try:
            connection.pragma("trusted_schema", 0)
            connection.pragma("cell_size_check", 1)
            for (line,) in connection.execute(f"PRAGMA quick_check({FAULTS_SHOWN})"):
                if line != "ok":
                    yield f"{part.file}: {line}"
            for table, row, parent, _ in connection.execute("PRAGMA foreign_key_check"):
                yield f"{part.file}: row {row} of {table} refers to a row of {parent} that is not there"
        finally:
            connection.close()
    except apsw.Error as error:
        yield f"{part.file}: {error}"


def _foreign_faults(path: Path, part: Part) -> Iterator[str]:
    """Check another program's database as far as possible: a collation that only it has is no fault of the copy."""
    # Imported here: a bundle without foreign databases is verified without it.
    from epad.inspection.structure import check_structure  # noqa: PLC0415

    try:
        yield from (f"{part.file}: {line}" for line in check_structure(path, deep=False).faults)
    except apsw.SQLError:
        return  # of a later format: its bytes are vouched for, and no more can be said of it here
    except apsw.Error as error:
        yield f"{part.file}: {error}"


def _ledger_faults(path: Path, part: Part, anchor: Path | None) -> Iterator[str]:
    # Imported here: a bundle without a ledger is verified without loading one.
    from epad.ledger.errors import LedgerError  # noqa: PLC0415
    from epad.ledger.verify import verify  # noqa: PLC0415

    try:
        report = verify(path, anchor=anchor)
    except LedgerError as error:
        yield f"{part.file}: {error}"
        return
    for fault in report.faults:
        yield f"{part.file}: record {fault.seq}: {fault.kind}: {fault.detail}"


def _datastore_faults(path: Path, part: Part, state: Path) -> Iterator[str]:
    # Imported here for the same reason.
    from epad.inspection.inspect import copy_faults  # noqa: PLC0415

    name = datastore_of(part.name)
    yield from (f"datastore {name}: {fault}" for fault in copy_faults(path, state / DATASTORES / name))


def main(arguments: list[str]) -> int:
    """Run as a child of the daemon, or by hand."""
    die_with_parent()
    os.umask(0o077)
    give_way()
    directory, state, *doubts = [*arguments, ""][: max(2, len(arguments))]
    verification = verify_bundle(Path(directory), state=Path(state) if state else None, doubts=doubts)
    sys.stdout.buffer.write(msgspec.json.encode(verification) + b"\n")
    return 0 if verification.ok else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
