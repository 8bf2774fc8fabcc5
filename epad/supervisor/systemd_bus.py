"""Find the manager of systemd that obeys this daemon: by its sockets, before any D-Bus library is loaded."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Bus:
    """Names one of systemd's managers: the machine's, or a user's own."""

    address: str
    is_system: bool

    @property
    def label(self) -> str:
        return "system manager" if self.is_system else "user manager"


SYSTEM_BUS = Bus("unix:path=/run/dbus/system_bus_socket", is_system=True)


def find_bus(environment: Mapping[str, str], uid: int, run: Path = Path("/run")) -> Bus | None:
    """Find the manager that obeys us: the machine's obeys root, a user's own that user; None if there is none."""
    if uid == 0:
        managed = (run / "systemd/system").is_dir() and (run / "dbus/system_bus_socket").exists()
        return SYSTEM_BUS if managed else None
    directory = Path(environment.get("XDG_RUNTIME_DIR") or run / "user" / str(uid))
    if (directory / "systemd/private").exists() and (directory / "bus").exists():
        return Bus(f"unix:path={directory}/bus", is_system=False)
    return None
