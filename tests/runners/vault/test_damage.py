"""A torn file opens: what can be read is kept, what is lost is told, and the tools go on."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from vault_desk import Desk, RefusedError

ROWS = 300


def filled(path: Path) -> Path:
    """A file with rows on many pages, closed in order."""
    desk = Desk(path)
    for number in range(ROWS):
        desk.remember(
            f"n{number}", f"fact {number} about the build and its compiler, in some words " + "x" * 200
        )
    desk.close()
    return path


def cut_to_half(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def zeros_in_the_middle(path: Path) -> None:
    with path.open("r+b") as file:
        file.seek(path.stat().st_size // 2)
        file.write(bytes(20_000))


def one_bit(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[data.index(b"fact 150 about") + 5] ^= 1
    path.write_bytes(data)


def no_header(path: Path) -> None:
    with path.open("r+b") as file:
        file.write(os.urandom(4096))


def nothing_like_it(path: Path) -> None:
    path.write_text("this is no database\n" * 500)


@pytest.mark.parametrize("harm", [cut_to_half, zeros_in_the_middle, one_bit, no_header, nothing_like_it])
def test_a_torn_file_opens_and_tells_its_loss(tmp_path: Path, harm: object) -> None:
    """Writing goes on, whatever is left is right, and the torn file is kept aside."""
    path = filled(tmp_path / "vault.db")
    assert callable(harm)
    harm(path)
    desk = Desk(path)

    [loss] = desk.order("list")["losses"]
    assert "torn-1.db" in loss
    assert "lost" in loss or "no row could be read" in loss
    assert (tmp_path / "torn-1.db").exists()
    for number, content in desk.store.rows("SELECT id, content FROM observations"):
        assert content.startswith(f"fact {number - 1} about")
    desk.remember("new", "something new is stored")
    assert desk.found("something new") == ["something new is stored"]
    assert desk.order("verify", heads=[])["faults"] == []
    desk.again()
    assert desk.order("list")["losses"] == [loss]
    desk.close()


def test_a_flipped_bit_costs_one_row(tmp_path: Path) -> None:
    """Every other row is as it was, is found, and has its entity."""
    path = filled(tmp_path / "vault.db")
    one_bit(path)
    desk = Desk(path)

    kept = desk.store.rows("SELECT id FROM observations")
    assert len(kept) == ROWS - 1
    assert "1 are lost" in desk.order("list")["losses"][0]
    assert len(desk.found("fact 77", limit=25)) == 25
    desk.close()


def test_a_whole_file_is_left_alone(tmp_path: Path) -> None:
    """The twin: nothing is put aside, nothing told."""
    desk = Desk(filled(tmp_path / "vault.db"))
    assert desk.order("list")["losses"] == []
    assert not list(tmp_path.glob("torn-*"))
    desk.close()


def refusal(desk: Desk, name: str) -> str:
    try:
        desk.ask("memory_get", name=name)
    except RefusedError as error:
        return str(error)
    return ""


def test_damage_under_a_running_child_is_told_and_ends_it(tmp_path: Path) -> None:
    """The next life puts the file aside; until then nothing is acknowledged."""
    path = filled(tmp_path / "vault.db")
    desk = Desk(path)
    desk.store.connection.execute("PRAGMA cache_size = 1; PRAGMA shrink_memory")
    with path.open("r+b") as file:
        file.seek(8192)
        file.write(bytes(path.stat().st_size - 8192))
    told = [refused for number in range(ROWS) if (refused := refusal(desk, f"n{number}"))]
    assert told
    assert "cannot be written" in told[0]
    assert desk.server.is_torn
    desk.again()
    assert len(desk.order("list")["losses"]) == 1
    desk.close()
