"""A TPM2 in software: swtpm, as systemd-creds finds it by SYSTEMD_TPM2_DEVICE.

It has three sessions, and no resource manager gives them back: `restart` before each piece of work.
"""

from __future__ import annotations

import functools
import os
import shutil
import socket
import subprocess
import tempfile
import time
from pathlib import Path
from types import TracebackType
from typing import Self

SECONDS = 20.0


class SoftwareTpm:
    """One TPM, whose state lies in a directory."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        directory.mkdir(parents=True, exist_ok=True)
        self._process: subprocess.Popen[bytes] | None = None
        self.port = 0

    def __enter__(self) -> Self:
        self.port = _two_ports()
        self._start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end()

    @property
    def environment(self) -> dict[str, str]:
        return {"PATH": os.environ.get("PATH", os.defpath), "SYSTEMD_TPM2_DEVICE": f"swtpm:port={self.port}"}

    def restart(self) -> None:
        """Give its sessions back; its seed stays."""
        self._end()
        self._start()

    def _start(self) -> None:
        self._process = subprocess.Popen(
            [
                *("swtpm", "socket", "--tpm2", "--tpmstate", f"dir={self._directory}"),
                *("--server", f"type=tcp,port={self.port}", "--ctrl", f"type=tcp,port={self.port + 1}"),
                *("--flags", "not-need-init,startup-clear"),
            ],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        deadline = time.monotonic() + SECONDS
        while not _listens(self.port):
            if time.monotonic() > deadline or self._process.poll() is not None:
                raise OSError("swtpm does not start")
            time.sleep(0.01)

    def _end(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait(SECONDS)


def _listens(port: int) -> bool:
    """Look without a connection, which swtpm would take for its one client."""
    wanted = f":{port:04X} "
    return any(wanted in line and " 0A " in line for line in Path("/proc/net/tcp").read_text().splitlines())


def _two_ports() -> int:
    """Return a port that is free, as the one after it is: libtss2 takes that for control."""
    while True:
        with socket.create_server(("127.0.0.1", 0)) as first:
            port = first.getsockname()[1]
            try:
                socket.create_server(("127.0.0.1", port + 1)).close()
            except (OSError, OverflowError):
                continue
            return int(port)


@functools.cache
def can_be_had() -> bool:
    """Tell whether systemd-creds seals by a software TPM here."""
    if shutil.which("swtpm") is None or shutil.which("systemd-creds") is None:
        return False
    with tempfile.TemporaryDirectory() as place:
        try:
            with SoftwareTpm(Path(place)) as tpm:
                device = f"--tpm2-device=swtpm:port={tpm.port}"
                done = subprocess.run(
                    ["systemd-creds", "encrypt", "--with-key=tpm2", "--name=probe", device, "-", "-"],
                    input=b"probe",
                    env=tpm.environment,
                    capture_output=True,
                    timeout=SECONDS,
                    check=False,
                )
                return done.returncode == 0
        except (OSError, subprocess.SubprocessError):
            return False
