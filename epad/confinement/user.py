"""Find the user of this machine whom a root daemon runs a subsystem as."""

from __future__ import annotations

import os
import pwd
from dataclasses import dataclass

from epad.confinement.errors import ConfinementError


@dataclass(frozen=True, slots=True)
class User:
    """Whom a program runs as. A number that the machine has no entry for has no name, home or groups."""

    uid: int
    gid: int
    groups: tuple[int, ...] = ()
    name: str = ""
    home: str = ""
    shell: str = ""

    def variables(self) -> dict[str, str]:
        """Return the variables that a login of this user has; none for a number without an entry."""
        if not self.name:
            return {}
        found = {"HOME": self.home, "USER": self.name, "LOGNAME": self.name, "SHELL": self.shell}
        return {name: value for name, value in found.items() if value}

    def __str__(self) -> str:
        return self.name or f"uid {self.uid}"


def find_user(text: str) -> User | None:
    """Find the user that a program is to run as: None where it runs as the daemon does. Raises ConfinementError.

    Only a daemon that is root can make a program another user's; of any other daemon `epad.configuration` accepts its
    own user alone.
    """
    if not text or os.geteuid() != 0:
        return None
    try:
        entry = pwd.getpwuid(int(text)) if text.isdecimal() else pwd.getpwnam(text)
    except KeyError as error:
        if text.isdecimal():
            return User(int(text), int(text))
        fix = "make the user, or give a number"
        raise ConfinementError(f"this machine knows no user {text!r}", fix, permanent=True) from error
    groups = tuple(os.getgrouplist(entry.pw_name, entry.pw_gid))
    return User(entry.pw_uid, entry.pw_gid, groups, entry.pw_name, entry.pw_dir, entry.pw_shell)
