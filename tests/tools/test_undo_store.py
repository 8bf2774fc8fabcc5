"""The directories of before-images: their rights, what is in them, and how they go."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from epad.tools.undo_store import KEPT_SECONDS, MOST_BYTES, UndoStore, call_name

NOW = 1_000_000.0


def kept(store: UndoStore, number: int, age: float, size: int = 1) -> Path:
    """A call that has kept a file of this size, so long ago."""
    folder = Path(store.directory("chat")) / call_name("a" * 32, f"{number:032x}")
    folder.mkdir()
    (folder / "journal").write_text("{}\n")
    with (folder / "1").open("wb") as file:
        file.truncate(size)
    os.utime(folder, (NOW - age, NOW - age))
    return folder


def test_a_directory_is_its_owners_alone(tmp_path: Path) -> None:
    """Others may pass to it, and not look into it."""
    store = UndoStore(tmp_path / "undo", lambda _: (os.getuid(), os.getgid()))
    made = Path(store.directory("chat"))
    assert stat.S_IMODE(made.stat().st_mode) == 0o700
    assert stat.S_IMODE(made.parent.stat().st_mode) == 0o711
    assert store.directory("chat") == str(made)


def test_a_call_is_found_by_its_session_and_turn(tmp_path: Path) -> None:
    """A link in the place of the journal is none."""
    store = UndoStore(tmp_path / "undo", lambda _: None)
    folder = kept(store, 1, 0)
    assert store.has("chat", "a" * 32, f"{1:032x}")
    assert not store.has("chat", "b" * 32, f"{1:032x}")
    (folder / "journal").unlink()
    (folder / "journal").symlink_to("/etc/passwd")
    assert not store.has("chat", "a" * 32, f"{1:032x}")


def test_old_calls_go_and_then_the_oldest(tmp_path: Path) -> None:
    """Younger ones stay; what a link leads to is not touched."""
    store = UndoStore(tmp_path / "undo", lambda _: None)
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "file").write_text("kept")
    old, big = kept(store, 1, KEPT_SECONDS + 1), kept(store, 2, 500, MOST_BYTES)
    young = kept(store, 3, 100, 1 << 20)
    (young / "link").symlink_to(outside)
    os.utime(young, (NOW - 100, NOW - 100))
    (tmp_path / "undo/chat/x").symlink_to(outside)
    assert store.sweep(NOW) == 2
    assert (old.exists(), big.exists(), young.exists()) == (False, False, True)
    assert store.sweep(NOW + 2 * KEPT_SECONDS) == 1
    assert (outside / "file").read_text() == "kept"


def test_a_daemon_without_before_images_has_nothing_to_sweep(tmp_path: Path) -> None:
    """Nor anything to undo."""
    store = UndoStore(tmp_path / "undo", lambda _: None)
    assert store.sweep(NOW) == 0
    assert not store.has("chat", "a" * 32, "b" * 32)
