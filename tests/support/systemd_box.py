"""A real systemd in a box: PID 1 of namespaces of its own, on a throw-away overlay of this machine's file system."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from patience import PATIENCE_SECONDS

ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / "tests/support/systemd_box.sh"
BIN = Path(sys.executable).parent
# A box has no network and no reason to be slow; nothing is asserted of how long anything takes.


class SystemdBox:
    """One box that is up. Paths of this machine are valid in it, copied on write; /tmp is its own."""

    def __init__(self, name: str) -> None:
        self._name = name
        self.before: set[str] = set()  # what was there before the tests' own set-up
        self.said = ""  # what that printed
        self.root = Path(f"/proc/{Path(f'/tmp/sdbox/{name}/pid1').read_text().strip()}/root")

    def run(self, *command: str | Path, check: bool = True) -> str:
        """Run a command inside as root; what it printed."""
        done = self._do(command)
        if check and done.returncode:
            raise AssertionError(
                f"{command}: {done.returncode}\n{done.stdout}{done.stderr}\n{self.journal()}"
            )
        return done.stdout

    def status(self, *command: str | Path) -> int:
        """Run a command inside as root; its exit status."""
        return self._do(command).returncode

    def _do(self, command: Sequence[str | Path]) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["bash", SCRIPT, "sh", self._name, *command],
            capture_output=True,
            text=True,
            timeout=PATIENCE_SECONDS,
            check=False,
        )

    def begin(self, *command: str | Path) -> subprocess.Popen[bytes]:
        """Start a command inside as root, and do not wait for it."""
        return subprocess.Popen(["bash", SCRIPT, "sh", self._name, *command])

    def write(self, path: str, text: str) -> None:
        file = self.root / path.lstrip("/")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)

    def let_everybody_reach(self, path: Path) -> None:
        """Open the directories above a path to other users; in the box alone."""
        for parent in path.resolve().parents:
            self.run("chmod", "o+x", parent)

    def property(self, unit: str, name: str) -> str:
        return self.run("systemctl", "show", "-P", name, unit).strip()

    def wait(
        self, holds: Callable[[], bool], what: str, seconds: float = PATIENCE_SECONDS, *, every: float = 0.2
    ) -> None:
        """Wait until something holds; the box's journal is in the failure."""
        deadline = time.monotonic() + seconds
        while not holds():
            assert time.monotonic() < deadline, f"waited for {what}\n{self.journal()}"
            time.sleep(every)

    def journal(self) -> str:
        return self.run("journalctl", "--no-pager", "-o", "short-monotonic", "-n", "80", check=False)

    def epactl(self, *arguments: str) -> Any:
        """Run `epactl -o json` on the installed service; None while it does not answer."""
        text = self.run(
            BIN / "epactl", "--socket", "/run/epad/control.sock", "-o", "json", *arguments, check=False
        )
        return json.loads(text) if text.strip() else None

    def subsystem(self, name: str) -> dict[str, Any]:
        status = self.epactl("status")
        found = [s for s in (status or {"subsystems": []})["subsystems"] if s["name"] == name]
        return found[0] if found else {}

    def processes(self, *words: str) -> set[int]:
        """Name the pids, inside, of the commands that contain all of these words."""
        lines = self.run("ps", "-eo", "pid=,stat=,args=").splitlines()
        rows = (line.split(None, 2) for line in lines)
        return {
            int(pid) for pid, state, args in rows if state[0] != "Z" and all(word in args for word in words)
        }


def _elsewhere() -> str:
    """Name what the overlay of / does not show: directories on file systems of their own."""
    device = Path("/").stat().st_dev
    wanted = (ROOT, Path(sys.prefix).resolve(), Path(sys.base_prefix).resolve())
    return " ".join(str(path) for path in wanted if path.stat().st_dev != device)


@contextmanager
def systemd_box(name: str) -> Iterator[SystemdBox]:
    """Boot a box; where that is refused the test is skipped, in one line."""
    if os.geteuid() != 0:
        pytest.skip("a box with systemd needs root")
    if Path(__file__).resolve().is_relative_to("/tmp"):
        pytest.skip("a box has a /tmp of its own, so a checkout below /tmp cannot be seen in it")
    environment = {**os.environ, "SDBOX_BIND": _elsewhere()}
    up = subprocess.run(
        ["bash", SCRIPT, "up", name],
        capture_output=True,
        text=True,
        timeout=PATIENCE_SECONDS,
        check=False,
        env=environment,
    )
    try:
        if up.returncode != 0:
            pytest.skip(f"no box with systemd here: {(up.stdout + up.stderr).strip()[-200:]!r}")
        yield SystemdBox(name)
    finally:
        subprocess.run(
            ["bash", SCRIPT, "down", name], capture_output=True, timeout=PATIENCE_SECONDS, check=False
        )
