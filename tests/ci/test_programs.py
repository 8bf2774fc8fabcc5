"""`.ci/programs` installs what some tests drive where that is possible; elsewhere it says a line, and CI goes on."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / ".ci/programs"
TOOLS = ("bash", "env", "timeout", "cat", "chmod", "rm", "grep", "touch")

APT = """#!/bin/bash
echo "$1 ${@: -1}" >>"$HERE/apt"
[ "$1" = update ] && exit "${NO_INDEX:-0}"
test -e "$POLICY_RC_D" && echo kept-still >>"$HERE/apt"
packages=(); for word in "$@"; do case $word in -*|*=*|install) ;; *) packages+=("$word");; esac; done
for package in "${packages[@]}"; do [ "$package" = "${UNKNOWN:-}" ] && exit 100; done
for package in "${packages[@]}"; do touch "$HERE/has-$package"; done
"""
DPKG = """#!/bin/bash
test -e "$HERE/has-${@: -1}" && echo -n installed
"""


@pytest.fixture
def machine(tmp_path: Path) -> Path:
    """A Debian with nothing of it installed, whose apt is a script."""
    for name in TOOLS:
        found = shutil.which(name)
        assert found, name
        (tmp_path / name).symlink_to(found)
    for name, text in (("apt-get", APT), ("dpkg-query", DPKG), ("id", "#!/bin/bash\necho ${WHO:-0}\n")):
        (tmp_path / name).write_text(text)
        (tmp_path / name).chmod(0o755)
    return tmp_path


def run(machine: Path, **environment: str) -> str:
    """Run the script there; the one line that it says."""
    done = subprocess.run(
        [SCRIPT],
        env={"PATH": str(machine), "HERE": str(machine), "POLICY_RC_D": f"{machine}/policy", **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    lines = done.stdout.splitlines()
    assert (done.returncode, len(lines), done.stderr) == (0, 1, ""), done
    return lines[0]


def packages() -> list[str]:
    found = re.search(r"^PACKAGES=\((.*)\)$", SCRIPT.read_text(), re.MULTILINE)
    assert found
    return found[1].split()


def installed(machine: Path) -> set[str]:
    return {path.name.removeprefix("has-") for path in machine.glob("has-*")}


def test_what_is_missing_is_installed_and_no_service_of_it_started(machine: Path) -> None:
    """All of it by one order, while a policy keeps services down; the second time nothing is asked."""
    (machine / "has-dbus").touch()
    assert run(machine).startswith("programs for tests: installed: chromium ")
    assert installed(machine) == set(packages())
    asked = (machine / "apt").read_text()
    assert asked.count("install ") == 1
    assert "kept-still" in asked
    assert not (machine / "policy").exists()
    assert run(machine) == "programs for tests: all there"
    assert (machine / "apt").read_text() == asked


def test_one_that_is_unknown_keeps_no_other_away(machine: Path) -> None:
    """It alone is named."""
    assert run(machine, UNKNOWN="wrk") == "programs for tests: cannot be installed: wrk"
    assert installed(machine) == set(packages()) - {"wrk"}


def test_a_policy_that_was_there_is_left(machine: Path) -> None:
    """It is the machine's own."""
    (machine / "policy").write_text("mine")
    run(machine)
    assert (machine / "policy").read_text() == "mine"


@pytest.mark.parametrize(
    ("taken", "environment", "said"),
    [
        ("apt-get", {}, "no apt here"),
        ("", {"WHO": "1000"}, "which needs root: chromium "),
        ("", {"NO_INDEX": "100"}, "the package index cannot be reached: chromium "),
    ],
)
def test_where_nothing_can_be_installed_a_line_says_so(
    machine: Path, taken: str, environment: dict[str, str], said: str
) -> None:
    """CI goes on: the tests that need it are skipped, and that they lack it is true."""
    if taken:
        (machine / taken).unlink()
    assert said in run(machine, **environment)
    assert installed(machine) == set()


def test_ci_runs_what_a_developer_runs() -> None:
    """The same two commands, watched for skips; and the script may be run as it lies there."""
    lines = (ROOT / ".ci/run").read_text().splitlines()
    assert lines[-4:] == [".ci/programs", "export CI=true", "make check", "make test-ci JOBS=2"]
    assert all(os.access(ROOT / ".ci" / name, os.X_OK) for name in ("run", "programs"))
