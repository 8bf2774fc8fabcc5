"""The store is looked at as a datastore from the start after its first row on."""

from __future__ import annotations

from pathlib import Path

from vault_desk import Desk

from epad.configuration.directories import Directories
from epad.vault.watched import own_datastores


def test_a_store_is_watched_once_there_is_one(tmp_path: Path) -> None:
    """Without one there is nothing to be missed."""
    directories = Directories(tmp_path / "state", tmp_path / "run")
    assert own_datastores(directories) == {}
    directories.vault.mkdir(parents=True)
    Desk(directories.vault_database).close()
    assert own_datastores(directories)["vault"].path == str(directories.vault_database)
