"""A restore by root into another user's directory: no link of theirs makes root write, rename or give elsewhere."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from patience import PATIENCE_SECONDS

from epad.checkpoint.bundle import Label, bundle_id, create, verify
from epad.checkpoint.restore import Wish, restore
from epad.checkpoint.source import FileSource
from epad.copying.disk import OwnersDisk
from epad.copying.errors import CheckpointError

pytestmark = pytest.mark.skipif(
    os.geteuid() != 0, reason="only root can be led astray by another user's links"
)

UID = 12345
NOW = datetime(2026, 11, 22, 20, tzinfo=UTC)


@pytest.fixture
def root() -> Iterator[Path]:
    made = Path(tempfile.mkdtemp(prefix="epad-restore-", dir="/var/tmp"))
    made.chmod(0o755)
    for name in ("theirs", "state", "roots"):
        (made / name).mkdir()
    (made / "roots/data").write_text("root's")
    (made / "theirs/data").write_text("planted by the user")
    for path in (made / "theirs", made / "theirs/data"):
        os.chown(path, UID, UID)
    yield made
    shutil.rmtree(made)


async def bundle(root: Path) -> Path:
    source = FileSource("subsystems/agent/data", root / "theirs/data")
    label = Label(bundle_id(NOW, 1), "checkpoint", "a test", NOW)
    made = await create(root / "checkpoints", [source], label, deadline_seconds=PATIENCE_SECONDS)
    await verify(made.path, deadline_seconds=PATIENCE_SECONDS)
    return made.path


async def test_a_directory_that_has_become_a_link_is_not_written_through(root: Path) -> None:
    """The user has put a link to a directory of root's in its place: nothing there is renamed or written."""
    made = await bundle(root)
    (root / "theirs/data").rename(root / "theirs/old")
    (root / "theirs").rename(root / "moved")
    (root / "theirs").symlink_to(root / "roots")
    os.chown(root / "theirs", UID, UID, follow_symlinks=False)
    with pytest.raises(CheckpointError, match="Permission denied"):
        restore(made, state=root / "state", now=NOW, wish=Wish(outside=True))
    assert {path.name: path.read_text() for path in (root / "roots").iterdir()} == {"data": "root's"}
    assert os.geteuid() == 0


async def test_what_is_the_users_is_put_back_as_the_users(root: Path) -> None:
    """Content, owner and the displaced file beside it."""
    made = await bundle(root)
    (root / "theirs/data").write_text("changed")
    done = restore(made, state=root / "state", now=NOW, wish=Wish(outside=True))
    assert done.ok
    assert (root / "theirs/data").read_text() == "planted by the user"
    assert (root / "theirs/data").stat().st_uid == UID
    assert len(done.put_aside) == 1


def test_a_stores_disk_has_the_rights_of_whom_the_named_file_is(root: Path) -> None:
    """A link of the user's as the configured file: what it leads to is neither renamed nor removed nor written."""
    store = root / "theirs/store"
    store.symlink_to(root / "roots/data")
    os.chown(store, UID, UID, follow_symlinks=False)
    disk, real = OwnersDisk(store), store.resolve()
    with pytest.raises(PermissionError):
        disk.rename(real, real.with_name("aside"))
    with pytest.raises(PermissionError):
        disk.remove_file(real)
    with pytest.raises(PermissionError):
        disk.copy(root / "theirs/data", real.with_name("new"), real.stat())
    assert [path.name for path in (root / "roots").iterdir()] == ["data"]
    assert os.geteuid() == 0


async def test_a_users_file_in_a_directory_of_roots_is_put_back(root: Path) -> None:
    """Its owner may make nothing beside it; root may, and nobody can put a link there."""
    kept = root / "roots/store"
    kept.write_text("good")
    os.chown(kept, UID, UID)
    source = FileSource("subsystems/agent/store", kept)
    label = Label(bundle_id(NOW, 1), "checkpoint", "a test", NOW)
    made = await create(root / "checkpoints", [source], label, deadline_seconds=PATIENCE_SECONDS)
    await verify(made.path, deadline_seconds=PATIENCE_SECONDS)
    kept.write_text("spoilt")
    restore(made.path, state=root / "state", now=NOW, wish=Wish(outside=True))
    assert (kept.read_text(), kept.stat().st_uid) == ("good", UID)
