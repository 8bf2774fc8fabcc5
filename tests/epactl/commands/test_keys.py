"""`epactl key list`, out of a real `state.db`."""

from __future__ import annotations

import asyncio
import hashlib
import json
from pathlib import Path

import pytest

from epad.epactl import main
from epad.gateway.identity import KEY_SCHEMA, Identities
from epad.storage.database import Database
from statemachine.clock import ManualClock


async def issue(state: Path, *names: str) -> list[str]:
    """Keys for these, in this order."""
    database = Database(state / "state.db", KEY_SCHEMA)
    await database.open()
    identities = Identities(database, ManualClock())
    keys = [await identities.issue(name) for name in names]
    await database.close()
    return keys


def run(state: Path, capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str, str]:
    status = main.main(["key", "list", *words, "--state", str(state)])
    out, err = capsys.readouterr()
    return status, out, err


def test_each_key_is_listed_and_none_is_shown(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Whose it is, since when, and enough of its hash that the owner of a key can tell which it is."""
    keys = asyncio.run(issue(tmp_path, "wargame", "chat", "chat"))
    digests = [hashlib.sha256(key.encode()).hexdigest() for key in (keys[1], keys[2], keys[0])]
    status, out, err = run(tmp_path, capsys)
    assert (status, err) == (0, "")
    heads, *rows = out.splitlines()
    assert heads.split() == ["SUBSYSTEM", "ISSUED", "SHA256", "OF", "THE", "KEY"]
    issued = ManualClock().utc().isoformat(timespec="seconds")
    names = ["chat", "chat", "wargame"]
    assert [row.split() for row in rows] == [
        [name, issued, digest[:16]] for name, digest in zip(names, digests, strict=True)
    ]
    assert not any(key in out for key in keys)
    status, out, _ = run(tmp_path, capsys, "-o", "json")
    assert [one["sha256"] for one in json.loads(out)] == digests


def test_without_keys_or_files_it_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """No key at all is an answer; no file and no database are not."""
    assert run(tmp_path, capsys)[0] == 4
    asyncio.run(issue(tmp_path))
    assert run(tmp_path, capsys)[:2] == (0, "no keys\n")
    (tmp_path / "state.db").write_bytes(b"nonsense" * 1_000)
    status, out, err = run(tmp_path, capsys)
    assert (status, out) == (4, "")
    assert "state.db" in err
