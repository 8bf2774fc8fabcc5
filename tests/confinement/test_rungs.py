"""Grades of a machine, and the line that gives the next one. Pure, but for files made up for it."""

from __future__ import annotations

from pathlib import Path

import pytest

from epad.confinement.plan import Abilities
from epad.confinement.rungs import Machine, Rung, next_rung, profile_line, rung_of
from epad.confinement.zygote import PROFILE, START
from runners.cell.plan import Wall

NAMESPACES = (Wall.NETWORK, Wall.FILES, Wall.PROCESSES, Wall.PROC, Wall.IPC, Wall.HOSTNAME, Wall.CGROUPS)
LANDLOCK = tuple(wall for wall in Wall if wall.startswith("landlock"))


def without(*walls: Wall) -> Abilities:
    return Abilities(dict.fromkeys(walls, "why"))


@pytest.mark.parametrize(
    ("abilities", "rung"),
    [
        (without(), Rung.USER_NAMESPACE),
        (Abilities(user_namespace=False), Rung.ROOT),
        (without(Wall.LANDLOCK_TCP, Wall.LANDLOCK_SCOPE), Rung.USER_NAMESPACE),
        (without(Wall.PROC), Rung.PART),
        (without(*NAMESPACES), Rung.LANDLOCK),
        (without(*NAMESPACES, *LANDLOCK), Rung.SYSCALLS),
        (without(*Wall), Rung.NONE),
    ],
)
def test_a_machine_is_graded_by_what_is_lacking(abilities: Abilities, rung: Rung) -> None:
    """Walls that others cover are not missed."""
    assert rung_of(abilities) is rung


@pytest.mark.parametrize(
    ("machine", "line"),
    [
        (Machine(apparmor_restricts=True), "apparmor_parser -r"),
        (Machine(cloning_off=True), "kernel.unprivileged_userns_clone=1"),
        (Machine(most_namespaces=0), "user.max_user_namespaces="),
        (Machine(container=True), "--security-opt"),
        (Machine(), "as root"),
    ],
)
def test_the_next_rung_has_a_line(machine: Machine, line: str) -> None:
    """By what keeps namespaces from a user here."""
    assert line in next_rung(without(*NAMESPACES), machine)
    assert next_rung(without(), machine) == ""


def test_landlock_is_switched_on_at_boot() -> None:
    assert "lsm=landlock" in next_rung(without(Wall.LANDLOCK), Machine())


def test_a_machine_is_read_from_its_files(tmp_path: Path) -> None:
    """What is not there says nothing."""
    assert Machine.read(0, tmp_path) == Machine(root=True)
    for name, text in (
        ("proc/sys/kernel/apparmor_restrict_unprivileged_userns", "1\n"),
        ("proc/sys/kernel/unprivileged_userns_clone", "0\n"),
        ("proc/sys/user/max_user_namespaces", "0\n"),
        ("run/.containerenv", ""),
    ):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    assert Machine.read(1000, tmp_path) == Machine(
        container=True, apparmor_restricts=True, cloning_off=True, most_namespaces=0
    )


def test_the_profile_names_the_program_that_is_shipped() -> None:
    """And the line fills its path in."""
    assert START.stat().st_mode & 0o111
    assert PROFILE.read_text().count("profile epad-cell @START@ ") == 1
    assert f"s#@START@#{START}#" in profile_line()
    assert str(PROFILE) in profile_line()
