"""Tell which names can be held: those of subsystems, and those of tools and their categories. Pure."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from epad.operations.protocol import UnknownSubsystemError, UnknownToolError
from statemachine.tool_targets import is_tool_target, whose, without_subsystem


def check_holdable(
    name: str, subsystems: Sequence[str], targets: Collection[str], also: Sequence[str] = ()
) -> None:
    """Check a name against the subsystems, the targets that tools and categories are, and what else there is.

    Raises UnknownSubsystemError, UnknownToolError.
    """
    if name in subsystems or name in also:
        return
    if not is_tool_target(name, subsystems):
        raise UnknownSubsystemError(name, [*subsystems, *also])
    if without_subsystem(name) not in targets:
        raise UnknownToolError(without_subsystem(name), sorted(targets))
    if (subsystem := whose(name)) and subsystem not in subsystems:
        raise UnknownSubsystemError(subsystem, subsystems)
