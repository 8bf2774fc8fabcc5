"""The installed `epad` and `epactl`, driven from outside as a person would."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from patience import PATIENCE_SECONDS

from epad.api.client import ControlClient
from epad.supervisor.cgroup import cgroup_of

BIN = Path(sys.executable).parent
EPAD, EPACTL = BIN / "epad", BIN / "epactl"


# Thresholds made short, so that a test sees in seconds what a night shows; nothing else is changed.
QUICK = """
[gateway]
listen = "127.0.0.1:0"
[metrics]
listen = "127.0.0.1:0"
[web]
listen = "127.0.0.1:0"
[policy]
dwell_seconds = 1.0
verify_seconds = 2.0
[hysteresis.ledger_integrity]
clear_after_seconds = 1.0
[probes.ledger_integrity]
interval_seconds = 0.5
"""


class Installation:
    """A state directory, a configuration, and the daemon that runs on them."""

    def __init__(self, directory: Path, config: str = QUICK) -> None:
        self.directory = directory
        self.state = directory / "state"
        self.runtime: Path | None = None  # where the configuration puts the sockets, if not below the state
        self.config = directory / "epad.toml"
        self.config.write_text(config)
        self.log = directory / "daemon.log"
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start `epad run` and wait until it says it is ready."""
        said = self.log.stat().st_size if self.log.exists() else 0
        self.launch()
        self.wait(lambda: b"daemon.ready" in self.log.read_bytes()[said:], "the daemon to be ready")

    def launch(self) -> None:
        """Start `epad run` and wait for nothing."""
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [EPAD, "run", "--config", self.config, "--state", self.state], stdout=log, stderr=log
            )

    def start_refused(self) -> str:
        """Run `epad run` where it must not start; what it said."""
        done = subprocess.run(
            [EPAD, "run", "--config", self.config, "--state", self.state],
            capture_output=True,
            text=True,
            timeout=PATIENCE_SECONDS,
            check=False,
        )
        assert done.returncode == 1, (done.returncode, done.stderr)
        return done.stderr

    def kill(self) -> None:
        """`kill -9`: no chance to tidy up."""
        assert self.process is not None
        self.process.send_signal(signal.SIGKILL)
        self.process.wait(PATIENCE_SECONDS)

    def stop(self) -> int:
        """An orderly stop; the exit status."""
        assert self.process is not None
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(PATIENCE_SECONDS)

    def ctl(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run `epactl`."""
        return subprocess.run(
            [EPACTL, "--socket", (self.runtime or self.state / "run") / "control.sock", *arguments],
            capture_output=True,
            text=True,
            timeout=PATIENCE_SECONDS,
            check=False,
        )

    def ask(self, *arguments: str) -> Any:
        """Run `epactl -o json` and return what it printed."""
        done = self.ctl("-o", "json", *arguments)
        assert done.returncode == 0, (arguments, done.returncode, done.stdout, done.stderr)
        return json.loads(done.stdout)

    def client(self) -> ControlClient:
        """The API that `epactl` asks too: a process of its own for each look takes ten times the time of the look."""
        return ControlClient(str((self.runtime or self.state / "run") / "control.sock"))

    def status(self) -> dict[str, Any]:
        """What `epactl -o json status` prints."""
        status: dict[str, Any] = self.client().get("/v1/status")
        return status

    def subsystem(self, name: str) -> dict[str, Any]:
        return next(s for s in self.status()["subsystems"] if s["name"] == name)

    def events(self, kind: str) -> list[dict[str, Any]]:
        client, found, since = self.client(), list[dict[str, Any]](), 0
        while page := list(client.lines("/v1/events", {"since": str(since), "limit": "1000"})):
            found, since = [*found, *page], page[-1]["id"]
        return [event for event in found if event["kind"] == kind]

    def wait(
        self,
        holds: Callable[[], object],
        what: str,
        seconds: float = PATIENCE_SECONDS,
        *,
        killed: bool = False,
    ) -> None:
        """Wait until something holds; what the daemon said is in the failure. `killed`: it need not run for that."""
        deadline = time.monotonic() + seconds
        while not holds():
            dead = self.process is not None and self.process.poll() is not None and not killed
            if time.monotonic() > deadline or dead:
                log = self.log.read_text()[-6000:]
                raise AssertionError(f"waited {seconds} s for {what}; the daemon said:\n{log}")
            time.sleep(0.1)  # at 0.05 the asking took most of the processor time of a test that waits

    def wait_phase(self, phase: str, seconds: float = PATIENCE_SECONDS) -> None:
        self.wait(lambda: self.status()["phase"] == phase, f"phase {phase}", seconds)

    def wait_exits(self, count: int) -> None:
        """Wait until so many exits of subsystems were noticed."""
        self.wait(lambda: len(self.events("subsystem.exited")) >= count, "the exit to be noticed")

    def verify_ledger(self) -> subprocess.CompletedProcess[str]:
        """Run `epactl ledger verify` on the files, daemon or no daemon."""
        return self.ctl("ledger", "verify", "--state", str(self.state))

    def loop_switch(self) -> Path:
        """The file that makes the embedded chat client run away while it exists."""
        return self.state / "subsystems/chat/loop"

    def children(self) -> dict[int, str]:
        """Every process that belongs to this state directory: pid and subsystem."""
        found = {}
        mark = f"EPAD_STATE={self.state}".encode()
        for entry in Path("/proc").iterdir():
            with contextlib.suppress(OSError):
                if entry.name.isdigit() and mark in (
                    variables := (entry / "environ").read_bytes().split(b"\0")
                ):
                    name = next(v for v in variables if v.startswith(b"EPAD_SUBSYSTEM=")).decode()
                    if process_state(int(entry.name)) != "Z":
                        found[int(entry.name)] = name.partition("=")[2]
        return found

    def clean_up(self) -> None:
        """Leave no process behind, whatever the test did."""
        if self.process is not None and self.process.poll() is None:
            self.process.kill()
            self.process.wait(PATIENCE_SECONDS)
        for pid in self.children():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


def process_state(pid: int) -> str:
    """The letter of /proc/PID/stat: R, S, T (stopped), Z..."""
    text = Path(f"/proc/{pid}/stat").read_text()
    return text[text.rindex(")") + 2]


def stands_still(pid: int) -> bool:
    """Whether a process is kept from running: by signal, or by its control group (whose members show as asleep)."""
    group = cgroup_of(pid)
    return process_state(pid) == "T" or (group is not None and group.is_frozen)


@contextlib.contextmanager
def installation(config: str = QUICK) -> Iterator[Installation]:
    """An installation in a short path: a Unix socket's must fit 107 bytes."""
    with tempfile.TemporaryDirectory(prefix="epad-") as directory:
        one = Installation(Path(directory), config)
        try:
            yield one
        finally:
            one.clean_up()
