"""Have the probe of datastores look at the store too, once there is a file."""

from __future__ import annotations

from epad.configuration.directories import Directories
from epad.configuration.schema import DatastoreConfig

NAME = "vault"


def own_datastores(directories: Directories) -> dict[str, DatastoreConfig]:
    """Return the store as a datastore, unless no tool has written yet: the next start finds it then."""
    path = directories.vault_database
    return {NAME: DatastoreConfig(str(path), kind="sqlite")} if path.exists() else {}
