"""Sealing by systemd-creds: by the host key of a directory of its own, and by a software TPM."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from machine_lacks import is_lacking
from secret_world import NotedUses
from software_tpm import SoftwareTpm

from epad.runtime.clock import SystemClock
from epad.secrets.errors import DamagedError, SecretError
from epad.secrets.purpose import Binding, Purpose
from epad.secrets.systemd_creds import SystemdCreds
from epad.secrets.vault import Vault, open_vault

VALUE = b"ghp_a-value-to-keep"
BOUND = Binding(("api.github.com",), ("agent",))
AGENT = Purpose("agent", "api.github.com")

needs_program = pytest.mark.skipif(
    is_lacking("program systemd-creds"), reason="no systemd-creds here: apt-get install systemd"
)
needs_root = pytest.mark.skipif(is_lacking("root"), reason="only root may seal by the host key")
needs_tpm = pytest.mark.skipif(
    is_lacking("a software TPM"),
    reason="no swtpm here, or systemd-creds cannot talk to it: .ci/programs installs both",
)


def vault_of(directory: Path, environment: dict[str, str]) -> Vault:
    return open_vault(directory, environment, NotedUses(), SystemClock())


def with_host_key(file: Path) -> dict[str, str]:
    return {"PATH": os.environ["PATH"], "SYSTEMD_CREDENTIAL_SECRET": str(file)}


@needs_program
@needs_root
async def test_the_host_key_seals_and_is_made_by_the_first_secret_alone(tmp_path: Path) -> None:
    """To look makes none. Another host's key, another name and a changed file are refused."""
    key = tmp_path / "host.key"
    sealer = SystemdCreds("host", with_host_key(key))
    vault = vault_of(tmp_path / "secrets", with_host_key(key))
    assert vault.missing()["host"] == ""
    assert sealer.would_make_key()
    assert not key.exists()
    assert await vault.set("github", VALUE, BOUND) == "host"
    assert key.exists()
    assert not sealer.would_make_key()
    assert await vault.open("github", AGENT) == VALUE
    assert await vault.test("github") == ("host", len(VALUE))
    elsewhere = vault_of(tmp_path / "secrets", with_host_key(tmp_path / "other.key"))
    with pytest.raises(DamagedError, match="the host key of this machine"):
        await elsewhere.open("github", AGENT)


@needs_program
@needs_root
async def test_no_flipped_bit_of_what_systemd_creds_wrote_passes(tmp_path: Path) -> None:
    """A sample of its bytes, the first and the last among them."""
    sealer = SystemdCreds("host", with_host_key(tmp_path / "host.key"))
    sealed = await sealer.seal("github", VALUE)
    places = [*range(0, len(sealed), 7), len(sealed) - 1]
    passed = []
    for place in places:
        changed = bytearray(sealed)
        changed[place] ^= 1
        try:
            if await sealer.open("github", bytes(changed)) != VALUE:
                passed.append(place)
            passed.append(place)
        except DamagedError:
            continue
    assert passed == []


@needs_tpm
async def test_a_tpm_seals_and_no_other_opens(tmp_path: Path) -> None:
    """Another TPM, another name and a flipped byte are refused; the TPM comes before the host key."""
    with SoftwareTpm(tmp_path / "tpm") as tpm:
        vault = vault_of(tmp_path / "secrets", tpm.environment)
        assert await vault.set("github", VALUE, BOUND) == "tpm2"
        tpm.restart()
        assert await vault.open("github", AGENT) == VALUE
        tpm.restart()
        sealer = SystemdCreds("tpm2", tpm.environment)
        sealed = await sealer.seal("github", VALUE)
        with pytest.raises(DamagedError):
            await sealer.open("gitlab", sealed)
        tpm.restart()
        changed = bytearray(sealed)
        changed[-1] ^= 1
        with pytest.raises(DamagedError):
            await sealer.open("github", bytes(changed))
    with SoftwareTpm(tmp_path / "another") as other:
        elsewhere = vault_of(tmp_path / "secrets", other.environment)
        with pytest.raises(DamagedError, match="the TPM of this machine"):
            await elsewhere.open("github", AGENT)
        assert elsewhere.show()[0].sealed_by == "tpm2"


async def test_what_is_lacking_is_told(tmp_path: Path) -> None:
    """Without the program nothing can be sealed, and each way says what it lacks."""
    vault = vault_of(tmp_path, {"PATH": "/nowhere"})
    assert vault.missing()["tpm2"] == "systemd-creds is not installed"
    with pytest.raises(SecretError, match=r"nothing here can seal a secret: tpm2: .*; host: .*; age: .*"):
        await vault.set("github", VALUE, BOUND)
