"""Unlock the vault's own key at a start, by a passphrase that whoever starts the daemon hands over.

It comes by systemd's credential, or on a file descriptor, which is read to its end and closed. Neither stands in an
environment or in a process's words.
"""

from __future__ import annotations

import os
from collections.abc import MutableMapping
from contextlib import suppress
from pathlib import Path
from typing import Final

import structlog

from epad.secrets.age_key import UnlockedBy
from epad.secrets.errors import SecretError
from epad.secrets.vault import Vault

CREDENTIAL: Final = "epad-vault-passphrase"
DESCRIPTOR: Final = "EPAD_VAULT_PASSPHRASE_FD"
_MOST_BYTES: Final = 1_024


async def unlock_at_start(vault: Vault, environment: MutableMapping[str, str]) -> None:
    """Unlock the key if there is one, and a passphrase for it; what is wrong is logged, and stops no start."""
    passphrase = passphrase_given(environment)
    if not vault.has_own_key():
        return
    log = structlog.get_logger("epad.secrets")
    if not passphrase:
        log.warning("vault.locked", fix="epactl secret unlock", effect="secrets sealed by age cannot be used")
        return
    try:
        done = await vault.unlock(passphrase, UnlockedBy.PASSPHRASE)
    except SecretError as error:
        log.error("vault.locked", error=str(error), effect="secrets sealed by age cannot be used")
    else:
        log.info("vault.unlocked", how=done)


def passphrase_given(environment: MutableMapping[str, str]) -> str:
    """Return the passphrase that was handed over; empty if there is none. The descriptor is closed and forgotten."""
    number = environment.pop(DESCRIPTOR, "")
    if number.isdecimal():
        with suppress(OSError), os.fdopen(int(number), "rb") as file:
            return _line(file.read(_MOST_BYTES))
    if directory := environment.get("CREDENTIALS_DIRECTORY"):
        with suppress(OSError):
            return _line(Path(directory, CREDENTIAL).read_bytes()[:_MOST_BYTES])
    return ""


def _line(data: bytes) -> str:
    return data.decode(errors="replace").removesuffix("\n")
