"""Which engine is taken, from what the machine has."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from epad.configuration.directories import Directories
from epad.configuration.schema import DaemonConfig
from epad.supervisor.engine_choice import choose, is_own_group, unit_tag, would_use
from epad.supervisor.errors import SupervisorError
from epad.supervisor.identity import ProcessTable
from epad.supervisor.systemd_bus import SYSTEM_BUS, find_bus


def touch(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()


def test_root_has_the_machines_manager_where_systemd_runs(tmp_path: Path) -> None:
    """A D-Bus without systemd is not enough, nor the other way round."""
    assert find_bus({}, 0, tmp_path) is None
    touch(tmp_path / "dbus/system_bus_socket")
    assert find_bus({}, 0, tmp_path) is None
    (tmp_path / "systemd/system").mkdir(parents=True)
    assert find_bus({}, 0, tmp_path) == SYSTEM_BUS


@pytest.mark.parametrize("named", [True, False])
def test_a_user_has_its_own_manager(tmp_path: Path, named: bool) -> None:
    """By XDG_RUNTIME_DIR, or where that is not set, as in a system service, by its number."""
    directory = tmp_path / "user/1000"
    environment = {"XDG_RUNTIME_DIR": str(directory)} if named else {}
    touch(directory / "bus")
    assert find_bus(environment, 1000, tmp_path) is None
    touch(directory / "systemd/private")
    bus = find_bus(environment, 1000, tmp_path)
    assert bus is not None
    assert (bus.address, bus.is_system) == (f"unix:path={directory}/bus", False)


def test_two_daemons_never_share_a_name(tmp_path: Path) -> None:
    """The installed service has the plain one; any other is told by its state directory."""
    service = Directories(Path("/var/lib/epad"), tmp_path)
    assert unit_tag(service, {"STATE_DIRECTORY": "/var/lib/epad"}) == "epad"
    tags = {unit_tag(Directories(tmp_path / name, tmp_path), {}) for name in ("a", "b")}
    assert len(tags | {"epad", unit_tag(service, {})}) == 4


def test_systemd_asked_for_in_vain_is_an_error_with_its_fix(tmp_path: Path) -> None:
    """Nothing weaker is taken in silence; `epad check` shows the same sentence."""
    if find_bus(os.environ, os.geteuid()) is not None:
        pytest.skip("there is a manager here")
    directories = Directories(tmp_path, tmp_path)
    with pytest.raises(SupervisorError, match=r"daemon\.engine = \"systemd\".*enable-linger"):
        choose("systemd", ProcessTable("boot"), directories, os.environ)
    config = DaemonConfig(str(tmp_path), "", "auto", "info", 1.0, 1.0, engine="systemd")
    assert would_use(config, os.environ).startswith("none: ")
    assert choose("auto", ProcessTable("boot"), directories, os.environ).name == "plain"


@pytest.mark.parametrize(
    ("path", "is_own"),
    [
        ("/user.slice/epad-1f.children", True),
        ("/epad.slice/epad-1f-chat.service", True),
        ("/epad.slice/epad-2e-chat.service", False),
        ("/system.slice/epad-1f-chat.service", False),
        ("/user.slice/epad-1f.children/chat", False),
        ("/epad.slice", False),
        ("/", False),
    ],
)
def test_a_group_is_told_by_whose_name_it_bears(path: str, is_own: bool) -> None:
    """That of all children of a daemon, or of one that systemd holds; never the slice that daemons share."""
    assert is_own_group(Path(path), "epad-1f") is is_own
