"""Hold tools: each call comes under its tool and its category, for everybody and for its subsystem alone.

The holds themselves are the gateway's (`Access`), which the ladder of containment sets and a restart of the daemon
restores; `statemachine/tool_targets.py` names them.

| a call | then |
|---|---|
| arrives while one of its targets is held | it is refused by the firmest hold, and recorded |
| is under way when one of them is held | its process is killed; the end says so, with the effects so far |
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from epad.gateway.access import Access, Severable
from epad.gateway.refusal import Refusal
from epad.tools.protocol import Definition
from statemachine.rung import Rung
from statemachine.tool_targets import targets_of


def shut(
    access: Access, ask: Callable[[str], Refusal | None], subsystem: str, definition: Definition
) -> Refusal | None:
    """Say why a tool is shut to a subsystem, if it is. `ask` is `access.check`, which takes allowances, or `shut`."""
    names = sorted(_targets(subsystem, definition), key=lambda name: -access.held(name).rung)
    return next((refusal for name in names if (refusal := ask(name)) is not None), None)


def firmest(access: Access, subsystem: str, definition: Definition) -> Rung:
    """Return the firmest hold on a subsystem, the tool and its category."""
    return max(access.held(name).rung for name in (subsystem, *_targets(subsystem, definition)))


def enter(access: Access, subsystem: str, definition: Definition, call: Severable) -> Callable[[], None]:
    """Remember a call under way, which a hold on any of its targets ends; return what forgets it."""
    names = subsystem, *_targets(subsystem, definition)
    for name in names:
        access.enter(name, call)
    return partial(_leave, access, names, call)


def _leave(access: Access, names: tuple[str, ...], call: Severable) -> None:
    for name in names:
        access.leave(name, call)


def _targets(subsystem: str, definition: Definition) -> tuple[str, ...]:
    return targets_of(subsystem, definition.category, definition.name)
