"""List the categories of tools for people: each as a subsystem is, with its workers and what is held of it. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from epad.answers.tools import HeldTool, ToolCategory
from epad.tools.protocol import Definition
from statemachine.containment import Hold
from statemachine.rung import Rung
from statemachine.tool_targets import category_target, tool_target, without_subsystem

KIND = "tools"


@dataclass(frozen=True, slots=True)
class Work:
    """Says what the workers of one category do: their processes, the calls in them, and how many were lost so far."""

    pids: tuple[int, ...] = ()
    calls: int = 0
    lost: int = 0


def names_of(definitions: Iterable[Definition]) -> frozenset[str]:
    """Return every tool and category as a target of holds."""
    tools = list(definitions)
    return frozenset(
        {*(category_target(one.category) for one in tools), *(tool_target(one.name) for one in tools)}
    )


def listed(
    definitions: Iterable[Definition],
    work: Mapping[str, Work],
    holds: Mapping[str, Hold],
    line_of: Callable[[str], str],
) -> list[ToolCategory]:
    """Return the categories, sorted. `holds` are those in force, and `line_of` words one of them."""
    tools: dict[str, list[str]] = {}
    for definition in definitions:
        tools.setdefault(definition.category, []).append(definition.name)
    return [
        _listed(category, names, work.get(category, Work()), holds, line_of)
        for category, names in sorted(tools.items())
    ]


def _listed(
    category: str,
    tools: Sequence[str],
    work: Work,
    holds: Mapping[str, Hold],
    line_of: Callable[[str], str],
) -> ToolCategory:
    own = category_target(category)
    about = {own, *map(tool_target, tools)}
    held = [
        (target, hold)
        for target, hold in sorted(holds.items())
        if hold.rung is not Rung.OPEN and without_subsystem(target) in about
    ]
    return {
        "name": own,
        "kind": KIND,
        "state": _state(holds.get(own, Hold(Rung.OPEN)).rung, work),
        "tools": sorted(tools),
        "workers": work.pids,
        "calls": work.calls,
        "lost": work.lost,
        "held": [HeldTool(target=one, rung=hold.rung.label, line=line_of(one)) for one, hold in held],
    }


def _state(rung: Rung, work: Work) -> str:
    """Return the state in the words of the subsystems' states."""
    if rung >= Rung.BLOCK:
        return "quarantined"
    if rung is Rung.THROTTLE:
        return "throttled"
    return "running" if work.pids else "idle"
