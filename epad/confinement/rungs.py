"""Grade how well this machine can confine, and word the way to the next grade."""

from __future__ import annotations

import platform
import shlex
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Final

from epad.confinement.plan import Abilities
from epad.confinement.zygote import PROFILE, START
from runners.cell.plan import Wall

_USER_NAMESPACES_OFF: Final = "kernel.unprivileged_userns_clone"
_PROFILE_PLACE: Final = "/etc/apparmor.d/epad-cell"


class Rung(StrEnum):
    """Names the walls that a machine's cells have, from the best down."""

    USER_NAMESPACE = "every wall stands, in a user namespace"
    ROOT = "every wall stands, put up by root"
    PART = "some walls are missing"
    LANDLOCK = "Landlock and the filter of system calls stand alone"
    SYSCALLS = "only the filter of system calls stands"
    NONE = "no wall stands"


@dataclass(frozen=True, slots=True)
class Machine:
    """Describes why namespaces may be kept from an ordinary user here."""

    root: bool = False
    container: bool = False
    apparmor_restricts: bool = False
    cloning_off: bool = False
    most_namespaces: int = 1

    @classmethod
    def read(cls, uid: int, root: Path = Path("/")) -> Machine:
        """Read it from the files of this machine; one that cannot be read says nothing."""
        sysctl = root / "proc/sys"
        return cls(
            root=uid == 0,
            container=any((root / name).exists() for name in (".dockerenv", "run/.containerenv")),
            apparmor_restricts=_number(sysctl / "kernel/apparmor_restrict_unprivileged_userns", 0) == 1,
            cloning_off=_number(sysctl / "kernel/unprivileged_userns_clone", 1) == 0,
            most_namespaces=_number(sysctl / "user/max_user_namespaces", 1),
        )


def rung_of(abilities: Abilities) -> Rung:
    """Grade the abilities of a machine; walls that others cover are not missed."""
    lacking = abilities.lacking()
    if not lacking:
        return Rung.USER_NAMESPACE if abilities.user_namespace else Rung.ROOT
    if any(abilities.have(wall) for wall in (Wall.NETWORK, Wall.FILES)):
        return Rung.PART
    if abilities.have(Wall.LANDLOCK):
        return Rung.LANDLOCK
    return Rung.SYSCALLS if abilities.have(Wall.SYSCALLS) else Rung.NONE


def next_rung(abilities: Abilities, machine: Machine) -> str:
    """Return the line that gives a better rung; empty on the best."""
    lacking = abilities.lacking()
    if not lacking:
        return ""
    if Wall.LANDLOCK in lacking and len(lacking) == 1:
        return "boot with `lsm=landlock,` before the names in /sys/kernel/security/lsm, or a kernel with Landlock"
    if Wall.SYSCALLS in lacking and platform.machine() not in {"x86_64", "aarch64"}:
        return f"none: epad has no table of system calls for {platform.machine()}"
    return _next_for_namespaces(machine)


def _next_for_namespaces(machine: Machine) -> str:
    if machine.apparmor_restricts:
        return profile_line()
    if machine.cloning_off:
        return f"sudo sysctl -w {_USER_NAMESPACES_OFF}=1, and in /etc/sysctl.d for the next boot"
    if machine.most_namespaces == 0:
        return "sudo sysctl -w user.max_user_namespaces=15000, and in /etc/sysctl.d for the next boot"
    if machine.container:
        return (
            "start the container with `--security-opt seccomp=unconfined --security-opt systempaths=unconfined` "
            "(Docker, Podman), or run epad outside of it"
        )
    return "run the daemon as root, and name a `user` for each confined subsystem"


def profile_line() -> str:
    """Return the line that installs AppArmor's profile for the program that makes cells."""
    script = f"s#@START@#{START}#"
    profile = shlex.quote(str(PROFILE))
    return (
        f"sed {shlex.quote(script)} {profile} | sudo tee {_PROFILE_PLACE} >/dev/null && "
        f"sudo apparmor_parser -r {_PROFILE_PLACE}"
    )


def _number(path: Path, otherwise: int) -> int:
    try:
        return int(path.read_text())
    except (OSError, ValueError):
        return otherwise
