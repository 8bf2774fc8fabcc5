"""List the sources of every checkpoint: epad's own state, and the declared files of subsystems."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

import msgspec

from epad.checkpoint.source import BytesSource, DirectorySource, FileSource, Source, SqliteSource
from epad.configuration.directories import Directories
from epad.configuration.schema import Config, DatastoreConfig, StateConfig
from epad.ledger.anchor import HEAD_FILE, KEYS_FILE, LOG_FILE
from epad.storage.bundle_names import subsystem_file

DATASTORES = "datastores"


def critical_state(config: Config, directories: Directories) -> list[Source]:
    """Return every source, the small and irreplaceable first."""
    parts = own_state(config, directories)
    for name, spec in config.subsystems.items():
        parts += subsystem_state(name, spec.state, directories.work(name))
    return parts + datastore_state(config.datastores)


def own_state(config: Config, directories: Directories) -> list[Source]:
    """Epad's own: configuration, journal (in state.db), heads, ledger, the stores of tools, segments.

    The heads go before the ledger: they may then lag behind its copy, and never speak of records it lacks.
    """
    anchor = directories.state / "anchor"
    heads = [name for name in (KEYS_FILE, LOG_FILE, HEAD_FILE) if (anchor / name).exists()]
    segments = directories.state / "segments"
    sealed = [DirectorySource("segments", segments, sealed=True)] if segments.is_dir() else []
    return [
        BytesSource("config.json", msgspec.json.format(msgspec.json.encode(config))),
        SqliteSource("state.db", directories.state_database),
        *(FileSource(f"anchor/{name}", anchor / name) for name in heads),
        SqliteSource("ledger.db", directories.ledger_database, role="ledger"),
        SqliteSource("vault/vault.db", directories.vault_database, optional=True),
        *_documents(config, directories),
        *sealed,
    ]


def _documents(config: Config, directories: Directories) -> Iterator[Source]:
    """Yield the versions of the vault's documents, after the rows that name them, so that each row has its bytes."""
    versions = Path(config.vault.directory or directories.vault / "documents") / "versions"
    if versions.is_dir():
        yield DirectorySource("vault/documents/versions", versions, sealed=True)


def subsystem_state(name: str, state: StateConfig, work: Path) -> list[Source]:
    """Return the declared files of a subsystem, some not made yet; `work` is where its relative paths start from."""
    return [
        *(FileSource(subsystem_file(name, file), work / file, optional=True) for file in state.files),
        *(SqliteSource(subsystem_file(name, file), work / file, optional=True) for file in state.databases),
        *(
            DirectorySource(subsystem_file(name, file), work / file, optional=True)
            for file in state.directories
        ),
    ]


def datastore_state(datastores: Mapping[str, DatastoreConfig]) -> list[Source]:
    """Return the stores that have a probe of their own, the smallest kind first."""
    return sorted(_datastores(datastores), key=lambda source: isinstance(source, SqliteSource))


def datastore_of(part: str) -> str:
    """Return the datastore that a part's name belongs to."""
    return part.split("/")[1]


def _datastores(datastores: Mapping[str, DatastoreConfig]) -> Iterator[Source]:
    for name, store in datastores.items():
        path = Path(store.path)
        place = f"{DATASTORES}/{name}/{path.name}"
        if store.kind == "sqlite":
            yield SqliteSource(place, path, role="datastore")
        else:  # a file that turns out to be a database is copied as one
            yield FileSource(place, path, role="datastore")
