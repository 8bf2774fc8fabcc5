"""The vault: what may be opened by whom, and which files are refused."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest
from secret_world import QuickSealer, quick_vault

from epad.secrets.errors import DamagedError, SecretError, UnboundError, UnknownSecretError
from epad.secrets.purpose import Binding, Purpose

VALUE = b"ghp_a-value-to-keep"
BOUND = Binding(("api.github.com",), ("agent",))
AGENT = Purpose("agent", "api.github.com")


async def test_a_secret_is_opened_for_whom_and_where_it_is_bound(tmp_path: Path) -> None:
    """And for nobody and nowhere else; each use is noted, and no refusal is."""
    vault, uses = quick_vault(tmp_path / "secrets")
    await vault.set("github", VALUE, BOUND)
    assert await vault.open("github", AGENT) == VALUE
    assert await vault.open("github", Purpose("agent")) == VALUE  # it goes nowhere
    for purpose in (Purpose("other", "api.github.com"), Purpose("agent", "evil.example"), Purpose("gateway")):
        with pytest.raises(UnboundError, match="epactl secret bind github"):
            await vault.open("github", purpose)
    with pytest.raises(UnknownSecretError, match="epactl secret set gitlab"):
        await vault.open("gitlab", AGENT)
    assert uses.noted == [("github", AGENT), ("github", Purpose("agent"))]


async def test_nothing_of_a_value_lies_in_the_directory(tmp_path: Path) -> None:
    """And each file is its owner's alone."""
    vault, _ = quick_vault(tmp_path / "secrets")
    await vault.set("github", VALUE, BOUND)
    [file] = (tmp_path / "secrets").iterdir()
    assert VALUE not in file.read_bytes()
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert stat.S_IMODE(file.parent.stat().st_mode) == 0o700


async def test_each_flipped_bit_is_refused(tmp_path: Path) -> None:
    """Whichever byte of the file it is in."""
    vault, _ = quick_vault(tmp_path)
    await vault.set("github", VALUE, BOUND)
    file = tmp_path / "github.secret"
    whole = file.read_bytes()
    for place in range(len(whole)):
        for bit in (0, 5):  # bit 5 makes a letter large or small
            changed = bytearray(whole)
            changed[place] ^= 1 << bit
            file.write_bytes(changed)
            with pytest.raises(SecretError):
                await vault.open("github", AGENT)
    file.write_bytes(whole)
    assert await vault.open("github", AGENT) == VALUE


@pytest.mark.parametrize(
    ("former", "new"),
    [
        (b'"hosts":["api.github.com"]', b'"hosts":["evil.example"]'),
        (b'"subsystems":["agent"]', b'"subsystems":["agent","other"]'),
        (b'"format":1', b'"format": 1'),
        (b'"format":1', b'"format":2'),
    ],
)
async def test_a_binding_changed_in_the_file_is_refused(tmp_path: Path, former: bytes, new: bytes) -> None:
    vault, _ = quick_vault(tmp_path)
    await vault.set("github", VALUE, BOUND)
    file = tmp_path / "github.secret"
    assert former in file.read_bytes()
    file.write_bytes(file.read_bytes().replace(former, new))
    with pytest.raises(SecretError):
        await vault.open("github", AGENT)
    with pytest.raises(SecretError):
        await vault.open("github", Purpose("agent", "evil.example"))


async def test_a_file_by_another_name_is_refused(tmp_path: Path) -> None:
    """Renamed, or copied over another; also with the name in it put right."""
    vault, _ = quick_vault(tmp_path)
    await vault.set("github", VALUE, BOUND)
    data = (tmp_path / "github.secret").read_bytes()
    for text in (data, data.replace(b'"name":"github"', b'"name":"gitlab"')):
        (tmp_path / "gitlab.secret").write_bytes(text)
        with pytest.raises(DamagedError, match="gitlab is refused"):
            await vault.open("gitlab", AGENT)
    assert [
        one.name for one in vault.show() if one.fault
    ] == []  # the second can only be told once it is opened
    (tmp_path / "gitlab.secret").write_bytes(data)
    assert "another name" in vault.show()[1].fault


async def test_a_file_of_another_machine_is_refused(tmp_path: Path) -> None:
    vault, _ = quick_vault(tmp_path)
    await vault.set("github", VALUE, BOUND)
    elsewhere, _ = quick_vault(tmp_path, QuickSealer())
    with pytest.raises(DamagedError, match="secret set github --replace"):
        await elsewhere.open("github", AGENT)


async def test_a_rotation_keeps_the_binding_and_tells_whoever_has_the_value(tmp_path: Path) -> None:
    vault, _ = quick_vault(tmp_path)
    told: list[str] = []

    async def changed(name: str) -> None:
        told.append(name)

    vault.tell(changed)
    await vault.set("github", VALUE, BOUND)
    await vault.rotate("github", b"new")
    assert await vault.open("github", AGENT) == b"new"
    assert await vault.bind("github", Binding(("b.example",), ())) == Binding(("b.example",), ("agent",))
    assert await vault.open("github", Purpose("agent", "b.example")) == b"new"
    with pytest.raises(UnboundError):
        await vault.open("github", AGENT)
    await vault.remove("github")
    assert vault.names() == ()
    assert told == ["github"] * 4


async def test_what_cannot_be_kept_is_told(tmp_path: Path) -> None:
    """A name, a host or a value that is none, and a secret that is there already."""
    vault, _ = quick_vault(tmp_path)
    await vault.set("github", VALUE, BOUND)
    with pytest.raises(SecretError, match="there already"):
        await vault.set("github", VALUE, BOUND)
    await vault.set("github", b"other", BOUND, replace=True)
    for name in ("../github", "", "a/b", ".hidden", "x" * 65, "a b"):
        with pytest.raises(SecretError, match="no name of a secret"):
            await vault.set(name, VALUE, BOUND)
    for host in ("*.github.com", "https://a.example", "a.example:443", "a b", "0x7f.1"):
        with pytest.raises(SecretError, match="host"):
            await vault.set("other", VALUE, Binding((host,), ("agent",)))
    for value in (b"", b"x" * 20_000):
        with pytest.raises(SecretError, match="bytes"):
            await vault.set("other", value, BOUND)
    with pytest.raises(SecretError, match="tpm2, host, age"):
        await vault.set("other", VALUE, BOUND, "crayon")
    assert vault.names() == ("github",)
