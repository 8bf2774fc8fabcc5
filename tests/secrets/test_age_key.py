"""Sealing by age: the key that a passphrase unlocks."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from machine_lacks import is_lacking
from secret_world import NotedUses

from epad.runtime.clock import SystemClock
from epad.secrets.age_key import FILE, UnlockedBy
from epad.secrets.errors import DamagedError, LockedError, SecretError
from epad.secrets.purpose import Binding, Purpose
from epad.secrets.vault import Vault, open_vault

pytestmark = pytest.mark.skipif(
    is_lacking("module pyrage"), reason="pyrage is not installed: pip install 'epad[vault]'"
)
PASSPHRASE = "correct horse battery"
BOUND = Binding(("api.github.com",), ("agent",))
AGENT = Purpose("agent", "api.github.com")


def vault_of(directory: Path) -> Vault:
    return open_vault(directory, {"PATH": os.environ["PATH"]}, NotedUses(), SystemClock())


async def test_a_passphrase_unlocks_the_vault_until_the_daemon_ends(tmp_path: Path) -> None:
    """Before, each secret says that it is locked; a wrong one, a short one and a changed file are refused."""
    vault = vault_of(tmp_path)
    assert "epactl secret unlock" in vault.missing()["age"]
    with pytest.raises(SecretError, match="at least 12"):
        await vault.unlock("short", UnlockedBy.PASSPHRASE)
    assert "was made" in await vault.unlock(PASSPHRASE, UnlockedBy.PASSPHRASE)
    assert await vault.set("github", b"value", BOUND, "age") == "age"
    assert await vault.open("github", AGENT) == b"value"

    later = vault_of(tmp_path)
    assert "it is locked" in later.missing()["age"]
    for work in (
        later.open("github", AGENT),
        later.set("other", b"value", BOUND, "age"),
        later.test("github"),
    ):
        with pytest.raises(LockedError, match="epactl secret unlock"):
            await work
    with pytest.raises(SecretError, match="does not unlock"):
        await later.unlock("correct horse batterie", UnlockedBy.PASSPHRASE)
    assert await later.unlock(PASSPHRASE, UnlockedBy.PASSPHRASE) == "unlocked by the passphrase"
    assert await later.open("github", AGENT) == b"value"

    data = (tmp_path / FILE).read_bytes()
    (tmp_path / FILE).write_bytes(data[:-10] + b"A" + data[-9:])
    with pytest.raises(DamagedError, match=FILE):
        await vault_of(tmp_path).unlock(PASSPHRASE, UnlockedBy.PASSPHRASE)


async def test_an_export_to_a_recipient_is_his_alone(tmp_path: Path) -> None:
    """And what is no recipient is told."""
    import pyrage  # noqa: PLC0415 - an extra

    vault, person = vault_of(tmp_path), pyrage.x25519.Identity.generate()
    await vault.unlock(PASSPHRASE, UnlockedBy.PASSPHRASE)
    await vault.set("github", b"value", BOUND, "age")
    assert await vault.export("github", "") == b"value"
    sealed = await vault.export("github", str(person.to_public()))
    assert b"value" not in sealed
    assert pyrage.decrypt(sealed, [person]) == b"value"
    with pytest.raises(SecretError, match="no recipient"):
        await vault.export("github", "somebody")
