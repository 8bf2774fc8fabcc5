"""Resolve every path once, from configuration, systemd's environment or the XDG rules."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from epad.configuration.schema import DaemonConfig

# A Unix socket's path must fit sockaddr_un.sun_path: 108 bytes with its closing NUL.
MAX_SOCKET_PATH_BYTES = 107


@dataclass(frozen=True, slots=True)
class Directories:
    """Holds the daemon's state (survives reboots) and runtime (sockets) directories, and the paths below them.

    `config_file` is the one that `--config` names; None where the usual one is read.
    """

    state: Path
    runtime: Path
    config_file: Path | None = None

    @property
    def control_socket(self) -> Path:
        return self.runtime / "control.sock"

    @property
    def state_database(self) -> Path:
        return self.state / "state.db"

    @property
    def ledger_database(self) -> Path:
        return self.state / "ledger.db"

    @property
    def checkpoints(self) -> Path:
        return self.state / "checkpoints"

    @property
    def lifeboat(self) -> Path:
        """Return the directory of the last resort: the first tier and the ballast."""
        return self.state / "lifeboat"

    @property
    def vault(self) -> Path:
        """Return the directory of the stores that tools write to: memory, tasks, channels and prompts."""
        return self.state / "vault"

    @property
    def intent(self) -> Path:
        """Return the directory of the versions of the classifier of intents."""
        return self.state / "intent"

    @property
    def vault_database(self) -> Path:
        return self.vault / "vault.db"

    @property
    def secrets(self) -> Path:
        """Return the directory of the secrets vault: a sealed file for each secret."""
        return self.state / "secrets"

    @property
    def keys(self) -> Path:
        return self.state / "keys"

    @property
    def decoys(self) -> Path:
        """Return the file of the secret that decoys are made from."""
        return self.keys / "decoys.secret"

    @property
    def web_token(self) -> Path:
        """Return the path of the token for orders on the status page."""
        return self.runtime / "web-token"

    @property
    def proxy(self) -> tuple[Path, Path]:
        """Return the socket of an authenticating reverse proxy, and the file of the token that it shows."""
        return self.runtime / "page.sock", self.state / "proxy-token"

    @property
    def alerts_token(self) -> Path:
        """Return the path of the token that Alertmanager sends; it outlives the daemon."""
        return self.state / "alerts-token"

    @property
    def logs(self) -> Path:
        """Return the directory of the subsystems' output."""
        return self.state / "logs"

    def log(self, subsystem: str) -> Path:
        """Return the file that a subsystem's output is kept in."""
        return self.logs / f"{subsystem}.log"

    def log_pipe(self, subsystem: str) -> Path:
        """Return the named pipe that a subsystem prints into; the log pump reads it."""
        return self.logs / f"{subsystem}.pipe"

    def work(self, subsystem: str) -> Path:
        """Return the directory a subsystem is started in, and may write to."""
        return self.state / "subsystems" / subsystem

    def notify_directory(self, subsystem: str) -> Path:
        """Return the directory of a subsystem's notify socket.

        A cell shows the directory, so that programs inside find the socket of a later daemon too.
        """
        return self.runtime / "notify" / subsystem

    def trusted(self, subsystem: str) -> Path:
        """Return the directory of the certificates that the programs of a subsystem's cell trust.

        A cell shows the directory, as it does that of the notify socket.
        """
        return self.runtime / "trusted" / subsystem

    def notify_socket(self, subsystem: str) -> Path:
        """Return the path of the socket for a subsystem's sd_notify datagrams."""
        return self.notify_directory(subsystem) / "sock"

    @property
    def measurements(self) -> Path:
        """Return the directory of what each subsystem was at its last start."""
        return self.state / "measurements"

    @property
    def identity_socket(self) -> Path:
        """Return the path of the SPIFFE Workload API; a cell shows its directory."""
        return self.runtime / "identity" / "workload.sock"

    @property
    def identity_keys(self) -> Path:
        """Return the file of the trust domain's authorities, with their keys."""
        return self.keys / "identity.json"

    @property
    def results(self) -> Path:
        """Return the directory of results of tools that were too long for their answers."""
        return self.state / "results"

    @property
    def foreign(self) -> Path:
        """Return the directory of the pinned definitions of foreign servers' tools."""
        return self.state / "foreign"

    @property
    def undo(self) -> Path:
        """Return the directory of the before-images of files that tools have changed."""
        return self.state / "undo"

    @property
    def cells(self) -> Path:
        """Return the directory of the records of living cells."""
        return self.state / "cells"

    def create(self) -> None:
        """Make the missing directories, readable by the owner alone. Raises OSError."""
        for directory in (self.state, self.keys, self.checkpoints):
            directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        # Others may pass through to the control socket, whose own mode and gate decide about them.
        self.runtime.mkdir(mode=0o711, parents=True, exist_ok=True)
        for name in ("logs", "subsystems"):
            (self.state / name).mkdir(mode=0o700, exist_ok=True)
        (self.runtime / "notify").mkdir(mode=0o700, exist_ok=True)


def resolve(config: DaemonConfig, environment: Mapping[str, str]) -> Directories:
    """Choose the directories: configuration first, then systemd's, then the user's own.

    systemd may give several, separated by colons; the first is ours (systemd.exec(5)).
    """
    home = Path(environment.get("HOME", "/root"))
    state = (
        config.state_directory
        or environment.get("STATE_DIRECTORY", "").split(":")[0]
        or str(Path(environment.get("XDG_STATE_HOME") or home / ".local/state") / "epad")
    )
    runtime = config.runtime_directory or environment.get("RUNTIME_DIRECTORY", "").split(":")[0]
    if not runtime:
        xdg = environment.get("XDG_RUNTIME_DIR", "")
        # A state directory of one's own means a second daemon: it must not share the user's socket.
        runtime = f"{xdg}/epad" if xdg and not config.state_directory else f"{state}/run"
    return Directories(Path(state).absolute(), Path(runtime).absolute())
