"""Check `user` of each subsystem: that the machine knows it, and that this daemon can run a process as it."""

from __future__ import annotations

import os
import pwd
from collections.abc import Iterator
from contextlib import suppress

from epad.configuration.complaint import Complaint
from epad.configuration.confining import confine_of
from epad.configuration.schema import Config
from epad.configuration.toml_lines import KeyPath


def check_users(config: Config) -> Iterator[Complaint]:
    """Yield a complaint for each user who is unknown, and for each process that cannot be started as its user."""
    own = os.geteuid()
    for name, spec in config.subsystems.items():
        path: KeyPath = ("subsystems", name, "user")
        if not spec.user:
            continue
        uid = _uid(spec.user)
        if uid is None:
            text = f"names {spec.user}, whom this machine does not know; make the user, or give a uid"
            yield Complaint(path, text)
        elif spec.kind != "process" or uid == own:
            continue
        elif own != 0:
            yield Complaint(
                path,
                f"names {spec.user}, whom only root's daemon can run it as, and this one is {_name(own)}'s; "
                "run epad as root, or take this out",
            )
        elif confine_of(name, config).profile == "open" and not spec.working_directory:
            yield Complaint(
                path,
                f"is {spec.user}, to whom the directories that epad keeps for subsystems are closed; name one of "
                f"{spec.user}'s as working_directory, or confine it, so that its cell shows it its own",
            )


def _uid(text: str) -> int | None:
    if text.isdecimal():
        return int(text)
    with suppress(KeyError):
        return pwd.getpwnam(text).pw_uid
    return None


def _name(uid: int) -> str:
    with suppress(KeyError):
        return pwd.getpwuid(uid).pw_name
    return f"uid {uid}"
