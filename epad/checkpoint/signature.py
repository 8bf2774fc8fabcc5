"""MANIFEST.sig: the key that signs the ledger's heads vouches for a bundle's table of contents too."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

from epad.checkpoint.manifest import SIGNATURE_FILE, Manifest
from epad.ledger.anchor import KEYS_FILE
from epad.ledger.errors import HeadError
from epad.ledger.head import Signer, Verifier, is_key

_ORIGIN = "epad/checkpoint"


def signature(signer: Signer, identity: str, encoded: bytes) -> bytes:
    """Return the signed note over a manifest's bytes."""
    return signer.sign_text(_statement(identity, encoded)).encode()


def signature_fault(directory: Path, manifest: Manifest, encoded: bytes, keys: Sequence[str]) -> str:
    """Return why the signature cannot be believed; empty if it can, or if there was no key to sign with.

    Where keys are known every bundle was signed: one without a signature was made by somebody else, or its
    signature taken away. `keys` are those that the ledger's anchor vouches for. Without any, as on a new machine, the
    manifest's own has to do: that proves that nothing has changed since, not who made it.
    """
    path = directory / SIGNATURE_FILE
    if not manifest.signer and path.exists():
        return f"{SIGNATURE_FILE}: signs a manifest that names no signer"
    if not manifest.signer:
        return f"{SIGNATURE_FILE}: is missing, and the ledger's key signs every bundle" if keys else ""
    try:
        text = Verifier(keys or [manifest.signer]).text(path.read_text())
    except (OSError, UnicodeDecodeError, HeadError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        return f"{SIGNATURE_FILE}: {reason}"
    if text != _statement(manifest.id, encoded):
        return f"{SIGNATURE_FILE}: speaks of another manifest"
    return ""


def keys_at(anchor: Path) -> list[str]:
    """The public keys that a ledger's anchor vouches for, as far as they are whole; none where it is gone."""
    try:
        lines = (anchor / KEYS_FILE).read_text(errors="replace").split()
    except OSError:
        return []
    return [line for line in lines if is_key(line)]


def signed_by(manifest: Manifest, keys: Sequence[str]) -> str:
    """Return the signer of a bundle whose signature is sound."""
    if not manifest.signer:
        return "not signed: its hashes tell accidents, not forgery"
    if manifest.signer in keys:
        return "signed by the key of the ledger beside it"
    return f"signed by {manifest.signer}, which no ledger here vouches for"


def _statement(identity: str, encoded: bytes) -> str:
    return f"{_ORIGIN}\n{identity}\n{hashlib.sha256(encoded).hexdigest()}\n"
