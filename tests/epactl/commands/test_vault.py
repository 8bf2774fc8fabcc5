"""`epactl vault`: what is asked of the daemon, and what a person reads."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from control_door import Door

from epad.answers.vault import VaultDocument
from epad.epactl import main
from epad.epactl.commands import vault

DOCUMENT: VaultDocument = {
    "path": "a.md",
    "version": 2,
    "kind": "add",
    "sha256": "ab" * 32,
    "size": 14,
    "reason": "\x1b[31mwhy",
    "at": 1.0,
    "author": "operator",
    "session": "",
}


async def epactl(door: Door, *words: str) -> int:
    return await asyncio.to_thread(main.main, ["--socket", str(door.path), *words])


async def test_documents_and_changes_are_a_table(door: Door, capsys: pytest.CaptureFixture[str]) -> None:
    """What a terminal would obey is shown."""
    assert await epactl(door, "vault", "list") == 0
    assert capsys.readouterr().out == "the vault has no document\n"
    door.operations.documents = [DOCUMENT]
    assert await epactl(door, "vault", "list") == 0
    shown = capsys.readouterr().out
    assert "a.md" in shown
    assert "\x1b" not in shown
    assert await epactl(door, "vault", "history", "a.md") == 0
    assert "operator" in capsys.readouterr().out


async def test_a_document_comes_in_pieces(door: Door, capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    """And is printed as it is."""
    door.operations.documents, door.operations.document = [DOCUMENT], b"0123456789\r\nabc\n"
    assert await epactl(door, "vault", "show", "a.md", "--version", "2") == 0
    assert door.operations.asked_documents == [("a.md", "2", "0"), ("a.md", "2", "10")]


async def test_a_fault_is_an_exit_status(door: Door, capsys: pytest.CaptureFixture[str]) -> None:
    assert await epactl(door, "vault", "verify") == 0
    assert "all of it is as it was appended" in capsys.readouterr().out
    door.operations.vault_faults = ["version ab of a.md is missing"]
    assert await epactl(door, "vault", "verify") == 1
    assert "version ab of a.md is missing" in capsys.readouterr().out


async def test_a_file_is_sent_in_pieces(
    door: Door, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Each with its place, and the digest of the whole."""
    monkeypatch.setattr(vault, "_PIECE_BYTES", 4)
    file, data = tmp_path / "a.md", b"0123456789"
    file.write_bytes(data)
    assert await epactl(door, "vault", "add", "a.md", str(file), "--reason", "r") == 0
    orders = [order for order in door.operations.orders if order[0] == "add_document"]
    assert len(orders) == 3
    assert await epactl(door, "vault", "add", "a.md", str(tmp_path / "none"), "--reason", "r") == 2
    assert "No such file" in capsys.readouterr().err


async def test_a_retraction_is_asked_about(door: Door) -> None:
    """An undo is not."""
    assert await epactl(door, "vault", "retract", "a.md", "--reason", "r") == 2
    assert await epactl(door, "vault", "retract", "a.md", "--reason", "r", "--yes") == 0
    assert await epactl(door, "vault", "undo", "a.md", "--reason", "r") == 0
    assert [order[0] for order in door.operations.orders] == ["retract_document", "undo_document"]
