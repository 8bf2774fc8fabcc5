"""Tell which findings count for nothing: symptoms of another's trouble, and those of subsystems that are gone. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from epad.control_loop.world_protocol import World
from statemachine.assessor import Anomaly
from statemachine.finding import HOST, AnomalyKey
from statemachine.tool_targets import is_tool_target, whose

SYMPTOMS = frozenset({"cascade", "progress", "token_rate"})
"""Probes whose findings about a victim say only that its root has failed: it crashes, stands still, retries."""


def is_excused(key: AnomalyKey, world: World) -> bool:
    """Tell if it is a symptom of another's trouble, which is reported instead."""
    return key.probe in SYMPTOMS and key.subsystem in world.victims()


def taken_back(active: Sequence[Anomaly], world: World) -> Iterator[tuple[set[AnomalyKey], str]]:
    """Return the anomalies that no longer count, each group with the reason.

    They are of subsystems that are no longer configured, since no release and no step reaches them; then of
    subsystems that have turned out to be victims.
    """
    if not active:  # a hundred findings a second come through here, and mostly nothing is wrong
        return
    known = {HOST, *(c.name for c in world.containables())}
    # A tool is known where it is held for everybody, or for a subsystem that is.
    names = {a.key.subsystem for a in active}
    tools = {name for name in names if is_tool_target(name, known) and (whose(name) or HOST) in known}
    yield {a.key for a in active if a.key.subsystem not in known | tools}, "it is configured no more"
    for name, root in world.victims().items():
        keys = {a.key for a in active if a.key.subsystem == name and is_excused(a.key, world)}
        yield keys, f"it is a victim of {root}"
