"""epad's own keys: sealed where the machine seals by itself, as they are where it does not."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest
from machine_lacks import is_lacking
from secret_world import QuickSealer

from epad.confinement.authorities import Authorities
from epad.secrets.age_key import AgeKey
from epad.secrets.errors import DamagedError
from epad.secrets.own_keys import OwnKeys
from epad.secrets.sealing import SealedBy, Sealers, sealers_of
from runners.egress.messages import Authority

KEY = b"a key of epad's own"


def quick(directory: Path, **ways: QuickSealer) -> OwnKeys:
    return OwnKeys(Sealers({SealedBy(name): way for name, way in ways.items()}, AgeKey(directory, {})))


async def test_a_key_is_sealed_under_its_name(tmp_path: Path) -> None:
    """The first way that a machine has by itself; another name, and a changed file, are refused."""
    keys, file = quick(tmp_path, tpm2=QuickSealer("there is none"), host=QuickSealer()), tmp_path / "key"
    await keys.keep(file, "one", KEY)
    assert KEY not in file.read_bytes()
    assert file.read_bytes().startswith(b"epad-sealed/1 host\n")
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert await keys.read(file, "one") == KEY
    with pytest.raises(DamagedError):
        await keys.read(file, "other")
    file.write_bytes(file.read_bytes()[:-4] + b"AAAA")
    with pytest.raises(DamagedError):
        await keys.read(file, "one")


async def test_where_nothing_seals_the_key_lies_as_it_is(tmp_path: Path) -> None:
    """Nor does a key that a person has to unlock seal one that is needed at the start."""
    keys, file = quick(tmp_path, age=QuickSealer()), tmp_path / "key"
    await keys.keep(file, "one", KEY)
    assert file.read_bytes() == KEY
    assert await keys.read(file, "one") == KEY


@pytest.mark.skipif(
    is_lacking("program systemd-creds"), reason="no systemd-creds here: apt-get install systemd"
)
@pytest.mark.skipif(is_lacking("root"), reason="only root may seal by the host key")
async def test_no_host_key_is_made_for_a_key_of_epad(tmp_path: Path) -> None:
    """A person's first secret makes it; from then on it seals these too."""
    place = tmp_path / "host.key"
    sealers = sealers_of(tmp_path, {"PATH": os.environ["PATH"], "SYSTEMD_CREDENTIAL_SECRET": str(place)})
    keys, file = OwnKeys(sealers), tmp_path / "key"
    await keys.keep(file, "one", KEY)
    assert (file.read_bytes(), place.exists()) == (KEY, False)
    await sealers.of("host").seal("a-secret", b"value")
    await keys.keep(file, "one", KEY)
    assert KEY not in file.read_bytes()
    assert await keys.read(file, "one") == KEY


async def test_the_authority_of_a_cell_outlives_a_daemon_sealed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The next daemon opens it at its start; another machine tells that it cannot."""
    made = Authority("a certificate\n", "-----BEGIN PRIVATE KEY-----", ("a.example",))

    async def make(*_: object) -> Authority:
        return made

    monkeypatch.setattr("epad.confinement.authorities._made", make)
    from epad.confinement.policy import Policy  # noqa: PLC0415

    host = QuickSealer()
    shown = tmp_path / "trusted"
    authorities = Authorities(tmp_path / "cells", lambda _: shown / "agent", quick(tmp_path, host=host))
    await authorities.make(Policy("agent", "workspace", "/w", "/w", ()))
    assert b"PRIVATE KEY" not in (tmp_path / "cells/agent.authority").read_bytes()
    for sealer, found in ((host, made), (QuickSealer(), None)):
        later = Authorities(tmp_path / "cells", lambda _: shown / "agent", quick(tmp_path, host=sealer))
        await later.load()
        assert later.of("agent") == found
    authorities.forget("agent")
    assert list((tmp_path / "cells").iterdir()) == []
