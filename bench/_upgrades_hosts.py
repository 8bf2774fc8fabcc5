"""Where epad is exchanged: in a box with a systemd of its own, installed as the docs say; or as a plain process."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from collections.abc import Set as AbstractSet
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

sys.path.insert(0, str(Path(__file__).parents[1] / "tests/support"))

from installed import Installation, installation
from systemd_box import BIN, ROOT, SystemdBox, systemd_box

LOAD = Path(__file__).with_name("_upgrades_load.py")
_PATIENCE_SECONDS = 60.0


class Host(Protocol):
    """One epad, its files, and the ways in which it can be exchanged while it runs."""

    name: str
    kinds: tuple[str, ...]
    state: str

    def exchange(self, kind: str) -> None:
        """Exchange the daemon, or its configuration, in one way; return once epad is ready."""

    def configure(self, text: str) -> None:
        """Write the configuration; it is not in force yet."""

    def children(self) -> Mapping[str, AbstractSet[int]]:
        """The processes of each subsystem."""

    def load(self, config: Mapping[str, object], path: str) -> subprocess.Popen[bytes]:
        """Start the clients."""

    def stop(self) -> None:
        """End epad in order."""

    def file(self, path: str) -> Path:
        """A file of the host, as this process reaches it."""


class Plain:
    """epad as a process of this bench: it is upgraded, reloaded, or killed and started again."""

    name = "plain process"
    kinds = ("upgrade", "reload", "kill -9")

    def __init__(self, house: Installation, text: str) -> None:
        self._house = house
        house.config.write_text(text)
        house.start()
        self.state = str(house.state)

    def exchange(self, kind: str) -> None:
        """As the protocol says."""
        if kind == "kill -9":
            self._house.kill()
            self._house.start()
            return
        done = self._house.ctl(kind, "--reason", "a campaign")
        if done.returncode != 0:
            raise RuntimeError(f"{kind}: {done.stdout}{done.stderr}")

    def configure(self, text: str) -> None:
        """As the protocol says."""
        self._house.config.write_text(text)

    def children(self) -> Mapping[str, AbstractSet[int]]:
        """As the protocol says."""
        found: dict[str, set[int]] = {}
        for pid, name in self._house.children().items():
            found.setdefault(name, set()).add(pid)
        return found

    def load(self, config: Mapping[str, object], path: str) -> subprocess.Popen[bytes]:
        """As the protocol says."""
        Path(path).write_text(json.dumps(config))
        return subprocess.Popen([sys.executable, LOAD, path])

    def stop(self) -> None:
        """As the protocol says."""
        self._house.stop()

    def file(self, path: str) -> Path:
        """As the protocol says."""
        return Path(path)


class Installed:
    """epad as a service: restarted and killed under systemd, installed again, upgraded, reloaded."""

    name = "service of a real systemd"
    kinds = ("systemctl restart", "epad install --now", "epactl upgrade", "systemctl reload", "kill -9")
    state = "/var/lib/epad"

    def __init__(self, box: SystemdBox, text: str) -> None:
        self._box = box
        for path in (BIN / "python", ROOT / "epad"):
            box.let_everybody_reach(path)
        box.write("/etc/epad/epad.toml", text)
        # A campaign restarts it more often than a person ever would, which systemd must not take for a failing start.
        box.write("/etc/systemd/system/epad.service.d/90-campaign.conf", "[Unit]\nStartLimitIntervalSec=0\n")
        box.run(BIN / "epad", "install", "--now")
        self._ready("0")

    def exchange(self, kind: str) -> None:
        """As the protocol says."""
        old = self._box.property("epad", "MainPID")
        match kind:
            case "kill -9":
                self._box.run("kill", "-KILL", old)
                self._ready(old)
            case "epad install --now":
                self._box.run(BIN / "epad", "install", "--now")
            case "epactl upgrade":
                self._box.run(BIN / "epactl", "upgrade", "--reason", "a campaign")
            case _:
                self._box.run(*kind.split(), "epad")

    def configure(self, text: str) -> None:
        """As the protocol says."""
        self._box.write("/etc/epad/epad.toml", text)

    def children(self) -> Mapping[str, AbstractSet[int]]:
        """As the protocol says."""
        lines = self._box.run(
            "systemctl", "list-units", "--plain", "--no-legend", "epad-*.service"
        ).splitlines()
        found: dict[str, AbstractSet[int]] = {}
        for unit in (line.split()[0] for line in lines):
            path = self._box.property(unit, "ControlGroup")
            pids = self._box.run("cat", f"/sys/fs/cgroup{path}/cgroup.procs", check=False).split()
            found[unit.removeprefix("epad-").removesuffix(".service")] = set(map(int, pids))
        return found

    def load(self, config: Mapping[str, object], path: str) -> subprocess.Popen[bytes]:
        """As the protocol says."""
        self._box.write(path, json.dumps(config))
        return self._box.begin(sys.executable, LOAD, path)

    def stop(self) -> None:
        """As the protocol says."""
        self._box.run("systemctl", "stop", "epad")

    def file(self, path: str) -> Path:
        """As the protocol says."""
        return self._box.root / path.lstrip("/")

    def _ready(self, old: str) -> None:
        deadline = time.monotonic() + _PATIENCE_SECONDS
        while self._box.property("epad", "MainPID") in {"0", old} or not self._box.epactl("status"):
            if time.monotonic() > deadline:
                raise RuntimeError(f"epad is not back\n{self._box.journal()}")
            time.sleep(0.05)


@contextmanager
def plain(text: str) -> Iterator[Host]:
    """A plain process, ended afterwards."""
    with installation() as house:
        yield Plain(house, text)


@contextmanager
def installed(text: str) -> Iterator[Host]:
    """A service in a box. Raises pytest's Skipped where there can be no box."""
    with systemd_box("upgrades") as box:
        yield Installed(box, text)
