"""Where everything lies."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest
from epad_story import shipped

from epad.configuration.directories import Directories, resolve
from epad.configuration.schema import DaemonConfig


def configured(**changes: str) -> DaemonConfig:
    daemon = shipped().daemon
    fields = {name: getattr(daemon, name) for name in daemon.__struct_fields__}
    return DaemonConfig(**{**fields, **changes})


@pytest.mark.parametrize(
    ("changes", "environment", "state", "runtime"),
    [
        ({}, {"HOME": "/h"}, "/h/.local/state/epad", "/h/.local/state/epad/run"),
        ({}, {"HOME": "/h", "XDG_STATE_HOME": "/x"}, "/x/epad", "/x/epad/run"),
        ({}, {"HOME": "/h", "XDG_RUNTIME_DIR": "/run/user/1"}, "/h/.local/state/epad", "/run/user/1/epad"),
        (
            {},
            {"STATE_DIRECTORY": "/var/lib/epad:/other", "RUNTIME_DIRECTORY": "/run/epad:/o", "HOME": "/h"},
            "/var/lib/epad",
            "/run/epad",
        ),
        (
            {"state_directory": "/s", "runtime_directory": "/r"},
            {"STATE_DIRECTORY": "/var/lib/epad", "RUNTIME_DIRECTORY": "/run/epad"},
            "/s",
            "/r",
        ),
        # A second daemon on a state of its own must not take the first one's socket.
        ({"state_directory": "/s"}, {"XDG_RUNTIME_DIR": "/run/user/1"}, "/s", "/s/run"),
    ],
)
def test_configuration_comes_before_systemd_and_that_before_the_user(
    changes: dict[str, str], environment: dict[str, str], state: str, runtime: str
) -> None:
    """Of several directories the first is ours."""
    assert resolve(configured(**changes), environment) == Directories(Path(state), Path(runtime))


def test_relative_paths_become_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A child is started in another directory."""
    monkeypatch.chdir(tmp_path)
    assert resolve(configured(state_directory="here"), {}).state == tmp_path / "here"


def test_what_is_made_is_for_the_owner_alone(tmp_path: Path) -> None:
    """Keys and prompts lie in there; others may pass through to the socket, and no more. Twice is no error."""
    directories = Directories(tmp_path / "a" / "state", tmp_path / "run")
    for _ in range(2):
        directories.create()
    made = [directories.state, directories.keys, directories.checkpoints]
    made += [directories.log("chat").parent, directories.work("chat").parent]
    made += [directories.notify_directory("chat").parent]
    assert {stat.S_IMODE(path.stat().st_mode) for path in made} == {0o700}
    assert stat.S_IMODE(directories.runtime.stat().st_mode) & 0o066 == 0


def test_nothing_has_the_place_of_something_else(tmp_path: Path) -> None:
    """Two subsystems share neither log nor socket nor directory."""
    one = Directories(tmp_path / "state", tmp_path / "run")
    places = [one.control_socket, one.state_database, one.ledger_database, one.checkpoints, one.keys]
    for name in ("chat", "game"):
        places += [one.log(name), one.work(name), one.notify_socket(name)]
    assert len(set(places)) == len(places)
