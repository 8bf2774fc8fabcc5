"""The supervisors that bench/supervision.py compares, each set up as its manual says, with the same children."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import IO, Protocol

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "tests/support"))
from installed import EPACTL, EPAD  # noqa: E402 (found by the line above)

CACHE = Path.home() / ".cache/epad-bench"


class Supervised(Protocol):
    """One supervisor, ready to be started; `missing` says why it cannot be."""

    name: str
    missing: str
    mark: str
    command: list[str]
    status: list[str]
    log: IO[bytes]

    def is_up(self) -> bool: ...


class _Base:
    name = ""

    def __init__(self, directory: Path, children: int) -> None:
        self.directory = directory
        # In the command line of every child, and of no process of anybody else.
        self.mark = f"9876.{os.getpid()}"
        self.commands = [f"sleep {self.mark}{n:03d}" for n in range(children)]
        self.log = (directory / "log").open("ab")
        self.command: list[str] = []
        self.status: list[str] = []
        self.missing = ""
        self.write()

    def write(self) -> None:
        raise NotImplementedError

    def is_up(self) -> bool:
        return subprocess.run(self.status, check=False, capture_output=True).returncode == 0


class Epad(_Base):
    name = "epad"

    def write(self) -> None:
        head = '[daemon]\nengine = "plain"\n[gateway]\nlisten = "127.0.0.1:0"\n[metrics]\nlisten = "127.0.0.1:0"\n'
        # Killed by the dozen, children are a cascade, and epad would freeze the rest: not what is measured here.
        head += (
            "[probes.cascade]\nwindow_seconds = 0.01\nsettle_seconds = 0.0\ncrashes = 256\nrow_crashes = 256\n"
            "subsystems = 256\n"
        )
        # A delay of zero is not to be had: a millisecond is the shortest back-off, and the budget is not to be spent.
        limits = "intensity = 1000, failures_in_a_row = 0"
        restart = f"restart = {{ backoff_seconds = 0.001, backoff_max_seconds = 0.001, {limits} }}"
        for n, command in enumerate(self.commands):
            words = ", ".join(f'"{word}"' for word in command.split())
            head += f"[subsystems.c{n}]\ncommand = [{words}]\n{restart}\n"
        config = self.directory / "epad.toml"
        config.write_text(head)
        self.command = [str(EPAD), "run", "--config", str(config), "--state", str(self.directory / "state")]
        self.status = [str(EPACTL), "--socket", str(self.directory / "state/run/control.sock"), "status"]


def _installed(name: str, version: str) -> str:
    """Install a peer into a virtual environment of its own; why not, where that fails."""
    if (CACHE / name / "installed").exists():
        return ""
    try:
        subprocess.run([sys.executable, "-m", "venv", CACHE / name], check=True, capture_output=True)
        pip = [CACHE / name / "bin/pip", "install", "--quiet", f"{name}=={version}", "setuptools<81"]
        subprocess.run(pip, check=True, capture_output=True, timeout=180)
    except (subprocess.SubprocessError, OSError) as error:
        return f"not installed: {error}"
    (CACHE / name / "installed").touch()
    return ""


class Supervisord(_Base):
    name = "supervisor 4.3.0"

    def write(self) -> None:
        self.missing = _installed("supervisor", "4.3.0")
        here = self.directory
        text = (
            f"[unix_http_server]\nfile={here}/s.sock\n[supervisord]\nnodaemon=true\npidfile={here}/pid\n"
            f"logfile={here}/supervisord.log\nchildlogdir={here}\n[supervisorctl]\nserverurl=unix://{here}/s.sock\n"
            "[rpcinterface:supervisor]\n"
            "supervisor.rpcinterface_factory=supervisor.rpcinterface:make_main_rpcinterface\n"
        )
        for n, command in enumerate(self.commands):
            text += f"[program:c{n}]\ncommand={command}\n"
        config = here / "supervisord.conf"
        config.write_text(text)
        binaries = CACHE / "supervisor/bin"
        self.command = [str(binaries / "supervisord"), "-c", str(config)]
        self.status = [str(binaries / "supervisorctl"), "-c", str(config), "status"]


class Circus(_Base):
    name = "circus 0.19.0"

    def write(self) -> None:
        self.missing = _installed("circus", "0.19.0")
        port = 20000 + os.getpid() % 20000
        text = f"[circus]\nendpoint=tcp://127.0.0.1:{port}\npubsub_endpoint=tcp://127.0.0.1:{port + 1}\n"
        for n, command in enumerate(self.commands):
            text += f"[watcher:c{n}]\ncmd={command}\n"
        config = self.directory / "circus.ini"
        config.write_text(text)
        binaries = CACHE / "circus/bin"
        self.command = [str(binaries / "circusd"), str(config)]
        self.status = [str(binaries / "circusctl"), "--endpoint", f"tcp://127.0.0.1:{port}", "status"]


PEERS = (Supervisord, Circus)
