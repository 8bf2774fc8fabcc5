"""The files in systemd/: accepted by systemd's own tools, and in step with the daemon."""

from __future__ import annotations

import configparser
import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from epad.daemon.process import EXIT_LIFEBOAT
from epad.install.files import ENGINE, service_files

ROOT = Path(__file__).parents[2]
UNITS = ROOT / "systemd"


class _AsWritten(configparser.ConfigParser):
    """Reads keys as they are written; others make them lower case."""

    def optionxform(self, optionstr: str) -> str:
        return optionstr


def tool(name: str) -> str:
    path = shutil.which(name)
    if path is None:
        pytest.skip(f"no {name} here")
    return path


def value(key: str) -> str:
    lines = [line for line in (UNITS / "epad.service").read_text().splitlines() if line.startswith(key + "=")]
    assert len(lines) == 1, lines
    return lines[0].partition("=")[2]


@pytest.fixture
def installed(tmp_path: Path) -> Path:
    """The units with a program that exists here in place of /opt/epad."""
    text = (UNITS / "epad.service").read_text()
    text, replaced = re.subn(
        r"(?m)^(ExecStart|ExecReload)=/opt/epad/\.venv/bin/(epad|epactl) ", rf"\1={sys.executable} ", text
    )
    assert replaced == 2
    (tmp_path / "epad.service").write_text(text)
    (tmp_path / "epad.slice").write_text((UNITS / "epad.slice").read_text())
    return tmp_path


def test_systemd_accepts_the_units(installed: Path) -> None:
    """`systemd-analyze verify` has nothing to say."""
    units = [str(path) for path in sorted(installed.iterdir())]
    done = subprocess.run(
        [tool("systemd-analyze"), "verify", "--man=no", *units], capture_output=True, text=True, check=False
    )
    ours = [line for line in done.stderr.splitlines() if "epad" in line]
    assert (done.returncode, ours) == (0, [])


def test_the_exposure_is_known(installed: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The score of `systemd-analyze security` is at most 2.6; it is printed, so that a change of it is seen."""
    done = subprocess.run(
        [
            tool("systemd-analyze"),
            "security",
            "--offline=true",
            "--no-pager",
            str(installed / "epad.service"),
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    if "offline" in done.stderr:
        pytest.skip("this systemd-analyze has no --offline")
    found = re.search(r"Overall exposure level for epad\.service: ([\d.]+)", done.stdout)
    assert found, done.stdout + done.stderr
    assert float(found[1]) <= 2.6
    with capsys.disabled():
        print(f"\nepad.service: exposure {found[1]} of 10 (systemd-analyze security)")


def test_sysusers_and_tmpfiles_are_accepted(tmp_path: Path) -> None:
    """The user, its groups and the configuration's modes come out as meant."""
    if os.geteuid() != 0:
        pytest.skip("needs root to create a user in a scratch root")
    (tmp_path / "etc" / "epad" / "epad.toml.d").mkdir(parents=True)
    (tmp_path / "etc" / "epad" / "epad.toml.d" / "10-systemd.toml").touch(mode=0o600)
    (tmp_path / "etc" / "epad" / "epad.toml").touch(mode=0o644)
    root = f"--root={tmp_path}"
    subprocess.run([tool("systemd-sysusers"), root, str(UNITS / "epad.sysusers")], check=True)
    group = (tmp_path / "etc" / "group").read_text()
    members = dict(line.split(":")[::3] for line in group.splitlines())
    assert members["video"] == members["render"] == "epad"
    subprocess.run([tool("systemd-tmpfiles"), root, "--create", str(UNITS / "epad.tmpfiles")], check=True)
    for file in ("epad.toml", "epad.toml.d/10-systemd.toml"):
        assert (tmp_path / "etc/epad" / file).stat().st_mode & 0o777 == 0o640
    assert (tmp_path / "etc/epad/epad.toml.d").stat().st_mode & 0o777 == 0o750


def test_it_is_the_unit_the_daemon_expects() -> None:
    """Names and times agree with the daemon's own."""
    assert (value("Type"), value("NotifyAccess")) == ("notify", "main")
    assert value("ExecStart") == "/opt/epad/.venv/bin/epad run --config /etc/epad/epad.toml"
    assert value("ExecReload") == "/opt/epad/.venv/bin/epactl reload"
    for directory in ("State", "Runtime", "Logs", "Configuration"):
        assert value(f"{directory}Directory") == "epad"
    shutdown_seconds = tomllib.loads((ROOT / "epad/default.toml").read_text())["daemon"]["shutdown_seconds"]
    assert int(value("TimeoutStopSec").removesuffix("s")) > shutdown_seconds


def test_the_daemon_is_hardened_and_its_children_are_elsewhere() -> None:
    """What would break an AI workload may be set, because the installed engine puts no child under this unit."""
    written = {file.path: file.body for file in service_files(Path("/opt/epad/bin/epad"), 977, [], "")}
    assert 'engine = "systemd"' in written[ENGINE]
    assert value("KillMode") == "mixed"
    assert value("RuntimeDirectoryPreserve") == "restart"
    assert value("RemoveIPC") == "no"
    unit = _AsWritten(strict=False, interpolation=None)
    unit.read(UNITS / "epad.service")
    harmful = {
        "PrivateDevices",
        "PrivateUsers",
        "ProtectProc",
        "ProcSubset",
        "ProtectControlGroups",
        "DynamicUser",
    }
    assert not harmful & set(unit["Service"])
    assert value("ProtectHome") == "read-only"


def test_a_lifeboat_that_exits_is_not_restarted() -> None:
    """A person relaunches it."""
    assert value("RestartPreventExitStatus") == str(EXIT_LIFEBOAT)
