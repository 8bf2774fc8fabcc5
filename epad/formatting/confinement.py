"""How a subsystem is confined, as text for people."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from epad.answers.status import Subsystem

NOT_CONFINED = "not confined"
_OPEN = "open"


def in_full(subsystem: Subsystem) -> str:
    """Say how a subsystem is confined, and which walls or doors are amiss; `-` for one without a process of epad's."""
    confined = subsystem.get("confine")
    if confined is None:
        return "-"
    return "; ".join([in_a_word(subsystem), *troubles(subsystem)])


def in_a_word(subsystem: Subsystem) -> str:
    """Name the profile, as `confined: workspace`; empty for a subsystem without a process of epad's."""
    confined = subsystem.get("confine")
    if confined is None:
        return ""
    return NOT_CONFINED if confined["profile"] == _OPEN else f"confined: {confined['profile']}"


def troubles(subsystem: Subsystem) -> list[str]:
    """Name the walls that are missing, with the reasons, and say how the doors are at fault."""
    confined = subsystem.get("confine")
    if confined is None:
        return []
    walls: dict[str, list[str]] = {}
    for wall, reason in confined["missing"].items():
        walls.setdefault(reason, []).append(wall)
    listed = "; ".join(f"{', '.join(names)} ({reason})" for reason, names in walls.items())
    missing = f"without walls: {listed}: `epactl doctor` names the way to have them"
    return [missing] * bool(walls) + [confined["trouble"]] * bool(confined["trouble"])


def summary(subsystems: Sequence[Subsystem]) -> str:
    """Name the confined subsystems with their profiles, and those that are not; empty where none has a process."""
    groups: dict[str, list[str]] = {}
    for subsystem in subsystems:
        if word := in_a_word(subsystem):
            groups.setdefault(word.removeprefix("confined: "), []).append(subsystem["name"])
    groups = {word: groups[word] for word in sorted(groups, key=lambda word: word == NOT_CONFINED)}
    return "; ".join(f"{word}: {', '.join(names)}" for word, names in groups.items())


def all_troubles(subsystems: Sequence[Subsystem]) -> Iterator[str]:
    """Yield a line for each thing that is amiss, with all of whom it is true."""
    names: dict[str, list[str]] = {}
    for subsystem in subsystems:
        for trouble in troubles(subsystem):
            names.setdefault(trouble, []).append(subsystem["name"])
    return (f"{', '.join(names[trouble])}: {trouble}" for trouble in names)
