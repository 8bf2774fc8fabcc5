"""The passphrase that a daemon is handed over: by systemd's credential or a descriptor, once."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import structlog
from machine_lacks import is_lacking
from secret_world import NotedUses, quick_vault

from epad.runtime.clock import SystemClock
from epad.secrets.age_key import UnlockedBy
from epad.secrets.purpose import Binding, Purpose
from epad.secrets.start import CREDENTIAL, DESCRIPTOR, passphrase_given, unlock_at_start
from epad.secrets.vault import open_vault

PASSPHRASE = "correct horse battery"


def on_a_descriptor(text: str) -> dict[str, str]:
    reading, writing = os.pipe()
    with os.fdopen(writing, "w") as file:
        file.write(text)
    return {DESCRIPTOR: str(reading)}


def test_a_descriptor_is_read_closed_and_forgotten() -> None:
    """No child has its number, and one that leads nowhere is no passphrase."""
    environment = on_a_descriptor(f"{PASSPHRASE}\n")
    number = int(environment[DESCRIPTOR])
    assert passphrase_given(environment) == PASSPHRASE
    assert environment == {}
    with pytest.raises(OSError, match="descriptor"):
        os.fstat(number)
    assert passphrase_given({DESCRIPTOR: "9999"}) == ""


def test_a_credential_is_read(tmp_path: Path) -> None:
    (tmp_path / CREDENTIAL).write_text(PASSPHRASE)
    assert passphrase_given({"CREDENTIALS_DIRECTORY": str(tmp_path)}) == PASSPHRASE
    assert passphrase_given({"CREDENTIALS_DIRECTORY": str(tmp_path / "other")}) == ""


async def test_a_vault_without_a_key_of_its_own_needs_none(tmp_path: Path) -> None:
    with structlog.testing.capture_logs() as logs:
        await unlock_at_start(quick_vault(tmp_path)[0], {})
    assert logs == []


@pytest.mark.skipif(is_lacking("module pyrage"), reason="pyrage is not installed: pip install 'epad[vault]'")
async def test_a_start_unlocks_or_says_that_it_did_not(tmp_path: Path) -> None:
    environment = {"PATH": os.environ["PATH"]}
    vault = open_vault(tmp_path, environment, NotedUses(), SystemClock())
    await vault.unlock(PASSPHRASE, UnlockedBy.PASSPHRASE)
    await vault.set("github", b"value", Binding((), ("agent",)), "age")
    later = open_vault(tmp_path, environment, NotedUses(), SystemClock())
    with structlog.testing.capture_logs() as logs:
        await unlock_at_start(later, {})
        await unlock_at_start(later, on_a_descriptor("a guess of another"))
        await unlock_at_start(later, on_a_descriptor(PASSPHRASE))
    assert [one["event"] for one in logs] == ["vault.locked", "vault.locked", "vault.unlocked"]
    assert PASSPHRASE not in str(logs)
    assert await later.open("github", Purpose("agent")) == b"value"
