"""What a configuration names that is not there, or leads back to epad: looked at by `epad check`, before it hurts.

None of it keeps the daemon from starting: a program may be installed later, and its subsystem alone waits for it.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from urllib.parse import urlsplit

from epad.config import Config, SubsystemConfig
from epad.config_complaint import Complaint
from epad.supervisor.launch import inherited

_EVERYWHERE = frozenset({"", "0.0.0.0", "::", "*"})  # noqa: S104  compared, not listened on
_HERE = frozenset({"127.0.0.1", "::1", "localhost"})


def world_check(config: Config, environment: Mapping[str, str]) -> Iterator[Complaint]:
    """Everything that is named and not there."""
    for name, spec in config.subsystems.items():
        why = _missing_program(spec, environment)
        if why:
            yield Complaint(("subsystems", name, "command"), why)
    for name, upstream in config.upstreams.items():
        if leads_to(upstream.url, config.gateway.listen):
            text = (
                f"is {upstream.url}, where [gateway] listens: a turn would ask itself; name the model server"
            )
            yield Complaint(("upstreams", name, "url"), text)


def _missing_program(spec: SubsystemConfig, environment: Mapping[str, str]) -> str:
    """Why a subsystem's program could not be started; empty if it could."""
    if spec.kind != "process" or not spec.command:
        return ""
    program = spec.command[0]
    given = {**inherited(environment), **spec.environment}
    if "/" in program:
        path = Path(spec.working_directory or ".") / program
        if spec.working_directory == "" and not path.is_absolute():
            return ""  # from the subsystem's own directory, which is made at its first start
        if not path.exists():
            return f"names {program}, which is not there; correct it, or install it"
        return "" if os.access(path, os.X_OK) else f"names {program}, which may not be run; chmod +x {path}"
    if shutil.which(program, path=given.get("PATH", os.defpath)):
        return ""
    return f"names {program}, which is in none of PATH ({given.get('PATH', os.defpath)}); give its whole path"


def leads_to(url: str, listen: str) -> bool:
    """Whether a URL is an address of this machine that something listens on."""
    if listen.startswith("unix:") or url.startswith("unix:"):
        return url == listen
    try:
        parts = urlsplit(url)
        port = parts.port or (443 if parts.scheme == "https" else 80)
    except ValueError:
        return False
    host, _, own_port = listen.rpartition(":")
    own = host.strip("[]")
    if not own_port.isdecimal() or int(own_port) == 0 or int(own_port) != port:
        return False
    asked = parts.hostname or ""
    return asked == own or (asked in _HERE and (own in _HERE or own in _EVERYWHERE))
