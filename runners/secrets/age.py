"""Encrypt by age (pyrage): X25519 for the vault's secrets, scrypt for the key that opens them."""

from __future__ import annotations

import base64
from typing import Final

from runners.secrets.failed import FailedError

LEAST_CHARACTERS: Final = 12
"""Of a passphrase: what is shorter is found by trying, even with scrypt."""


def make(passphrase: str) -> dict[str, str]:
    """Make a key. Raises FailedError for a passphrase that is too short."""
    import pyrage  # noqa: PLC0415

    if len(passphrase) < LEAST_CHARACTERS:
        raise FailedError(
            f"the passphrase has {len(passphrase)} characters", f"give at least {LEAST_CHARACTERS}"
        )
    identity = pyrage.x25519.Identity.generate()
    sealed = pyrage.passphrase.encrypt(str(identity).encode(), passphrase)
    return {**_shown(identity), "sealed": base64.b64encode(sealed).decode()}


def unlock(sealed: bytes, passphrase: str) -> dict[str, str]:
    """Return the key that a passphrase opens. Raises FailedError."""
    import pyrage  # noqa: PLC0415

    try:
        opened = pyrage.passphrase.decrypt(sealed, passphrase)
        return _shown(pyrage.x25519.Identity.from_str(opened.decode()))
    except (pyrage.DecryptError, pyrage.IdentityError, ValueError):
        raise FailedError(
            "it does not unlock the vault's key", "give the one that the key was made with"
        ) from None


def seal(recipient: str, payload: bytes) -> bytes:
    """Return a payload that the owner of a public key can open. Raises FailedError."""
    import pyrage  # noqa: PLC0415

    try:
        to = pyrage.x25519.Recipient.from_str(recipient)
    except pyrage.RecipientError:
        raise FailedError(f"{recipient[:80]!r} is no recipient", "give an age1... of age-keygen") from None
    sealed: bytes = pyrage.encrypt(payload, [to])
    return sealed


def open_sealed(identity: str, sealed: bytes) -> bytes:
    """Return what was sealed to a key. Raises FailedError."""
    import pyrage  # noqa: PLC0415

    try:
        payload: bytes = pyrage.decrypt(sealed, [pyrage.x25519.Identity.from_str(identity)])
    except (pyrage.DecryptError, pyrage.IdentityError):
        raise FailedError("it was not sealed to this key, or was changed") from None
    return payload


def _shown(identity: object) -> dict[str, str]:
    return {"identity": str(identity), "recipient": str(identity.to_public())}  # type: ignore[attr-defined]
