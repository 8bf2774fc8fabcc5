"""Describe a bundle: MANIFEST.json, and SHA256SUMS for people without an epad at hand."""

from __future__ import annotations

import hashlib
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

import msgspec
from msgspec import Struct

from epad.copying.copied_file import How
from epad.copying.errors import BundleDamagedError
from epad.storage.bundle_names import is_safe

SCHEMA = 1
MANIFEST_FILE = "MANIFEST.json"
SUMS_FILE = "SHA256SUMS"
VERIFIED_FILE = "VERIFIED"
SIGNATURE_FILE = "MANIFEST.sig"
OWN_FILES = frozenset({MANIFEST_FILE, SUMS_FILE, VERIFIED_FILE, SIGNATURE_FILE})

BundleKind = Literal["checkpoint", "lifeboat"]
Role = Literal["", "database", "ledger", "datastore"]


class Part(Struct, frozen=True):
    """Describes one file of a bundle, or the failure to copy a source (`file` is then empty).

    `origin` is where it came from, which is where a restore puts it. `how` says how it was made.
    """

    name: str
    file: str
    size_bytes: int
    sha256: str
    how: How
    origin: str
    role: Role = ""
    error: str = ""


class Manifest(Struct, frozen=True):
    """A bundle's table of contents, and why it was made.

    `signer` is the public key that MANIFEST.sig is by, as C2SP writes it; empty where nothing was signed.
    """

    schema: int
    epad_version: str
    id: str
    kind: BundleKind
    reason: str
    at: datetime
    facts: dict[str, Any]
    parts: tuple[Part, ...]
    signer: str = ""

    @property
    def files(self) -> tuple[Part, ...]:
        """Return the parts that are there."""
        return tuple(part for part in self.parts if part.file)

    @property
    def lost(self) -> tuple[Part, ...]:
        """Return the sources that could not be copied, each with its error."""
        return tuple(part for part in self.parts if part.error)

    @property
    def gaps(self) -> tuple[str, ...]:
        """Return the gaps that forbid restoring from it; none for a lifeboat, which saves as much as it can."""
        if self.kind == "lifeboat":
            return ()
        return tuple(f"{part.name} is not in it: {part.error}" for part in self.lost)


def encode(manifest: Manifest) -> bytes:
    """Render it for people and programs: sorted keys, two spaces, a newline at the end."""
    return msgspec.json.format(msgspec.json.encode(manifest, order="sorted"), indent=2) + b"\n"


def decode(data: bytes, place: Path) -> Manifest:
    """Read it back. Raises BundleDamagedError, naming `place`."""
    try:
        manifest = msgspec.json.decode(data, type=Manifest)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise BundleDamagedError(f"{place}: not a manifest ({error}); use an older bundle") from error
    if manifest.schema > SCHEMA:
        message = f"{place}: schema {manifest.schema} is newer than this epad's {SCHEMA}; use a newer epad"
        raise BundleDamagedError(message)
    for part in manifest.files:
        if not is_safe(part.file, OWN_FILES):
            raise BundleDamagedError(f"{place}: part {part.name!r} lies outside the bundle: {part.file!r}")
    return manifest


def sums(manifest: Manifest, encoded: bytes, signature: bytes = b"") -> bytes:
    """Render the list that `sha256sum -c` reads; the manifest's own hash is in it, and its signature's."""
    hashes = {part.file: part.sha256 for part in manifest.files}
    hashes[MANIFEST_FILE] = hashlib.sha256(encoded).hexdigest()
    if signature:
        hashes[SIGNATURE_FILE] = hashlib.sha256(signature).hexdigest()
    return "".join(_sum_line(digest, file) for file, digest in sorted(hashes.items())).encode()


def verified_mark(encoded: bytes) -> bytes:
    """Render VERIFIED: bound to this very manifest, and readable by `sha256sum -c` too."""
    return _sum_line(hashlib.sha256(encoded).hexdigest(), MANIFEST_FILE).encode()


def _sum_line(digest: str, file: str) -> str:
    if "\\" in file:  # coreutils' escape: a leading backslash announces it
        escaped = file.replace("\\", "\\\\")
        return f"\\{digest}  {escaped}\n"
    return f"{digest}  {file}\n"
