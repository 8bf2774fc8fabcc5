"""Moves: what is plain where it is may be obeyed where it goes, and what is large is moved like the rest."""

from __future__ import annotations

import pytest
from tool_process import World


@pytest.mark.parametrize(
    ("inside", "target"),
    [
        ("autostart/x.desktop", ".config"),
        ("bin/ls", ".local"),
        ("user/x.service", "systemd"),
        ("gh/x", ".config"),
    ],
)
def test_no_directory_is_moved_to_where_it_is_obeyed(world: World, inside: str, target: str) -> None:
    """By the names that its files would have; elsewhere it may go."""
    (world.root / "made" / inside).parent.mkdir(parents=True)
    (world.root / "made" / inside).write_text("x")
    refused = world.worker.refusal("file_move", source="made", destination=target)
    assert "not written by tools" in refused
    world.worker("file_move", source="made", destination="plain")
    assert (world.root / "plain" / inside).exists()


def test_no_link_is_moved_to_where_it_is_obeyed(world: World) -> None:
    """What it leads to would be; elsewhere a link may go."""
    (world.root / "made/autostart").mkdir(parents=True)
    (world.root / "link").symlink_to("made")
    assert "would be a link" in world.worker.refusal("file_move", source="link", destination=".config")
    world.worker("file_move", source="link", destination="other")
    assert (world.root / "other").is_symlink()


def test_a_file_that_is_too_large_to_be_hashed_is_moved_and_deleted(world: World) -> None:
    """Its size, time and inode stand for its content: the move is undone too."""
    with (world.root / "model.bin").open("wb") as file:
        file.truncate(1 << 40)
    turn = world.worker("file_move", source="model.bin", destination="docs/model.bin")["undo"]
    world.worker.send({"id": 1, "undo": turn, "turn": "undo"})
    assert world.worker.receive()["result"]["restored"] == ["model.bin"]
    told = world.worker("file_delete", path="model.bin")
    assert told["deleted"] == ["model.bin"]
    assert "cannot_be_undone" in told
