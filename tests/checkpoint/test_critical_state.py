"""What goes into a checkpoint, as the configuration says."""

from __future__ import annotations

from pathlib import Path

from epad_house import configured

from epad.checkpoint.critical_state import critical_state, datastore_of, datastore_state
from epad.checkpoint.source import check_names
from epad.configuration.directories import Directories
from epad.configuration.schema import DatastoreConfig, StateConfig, SubsystemConfig


def test_everything_declared_has_a_place_of_its_own(tmp_path: Path) -> None:
    """Relative to the subsystem's directory or from the root; heads before the ledger they speak of."""
    directories = Directories(tmp_path / "state", tmp_path / "run")
    directories.create()
    (directories.state / "anchor").mkdir()
    (directories.state / "anchor/head").write_text("h")
    (directories.state / "segments").mkdir()
    state = StateConfig(files=("rounds.json", "/srv/notes"), directories=("logs",), databases=("a.db",))
    config = configured(wargame=SubsystemConfig(command=("x",), state=state))
    sources = critical_state(config, directories)
    check_names(sources)
    names = [source.name for source in sources]
    assert names == [
        "config.json",
        "state.db",
        "anchor/head",
        "ledger.db",
        "vault/vault.db",
        "segments",
        "subsystems/wargame/rounds.json",
        "subsystems/wargame/srv/notes",
        "subsystems/wargame/a.db",
        "subsystems/wargame/logs",
    ]
    paths = {source.name: getattr(source, "path", None) for source in sources}
    assert paths["subsystems/wargame/srv/notes"] == Path("/srv/notes")
    assert paths["subsystems/wargame/a.db"] == directories.work("wargame") / "a.db"


def test_a_datastore_is_known_by_its_part() -> None:
    """Its probe finds its own baseline by the name in the bundle."""
    stores = {"m": DatastoreConfig("/x/memory.db", kind="sqlite"), "n": DatastoreConfig("/x/memory.jsonl")}
    sources = datastore_state(stores)
    assert [(s.name, datastore_of(s.name)) for s in sources] == [
        ("datastores/n/memory.jsonl", "n"),
        ("datastores/m/memory.db", "m"),
    ]
