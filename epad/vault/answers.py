"""Answer the tools on the store: each is a request to the child, by the session that calls.

What a session reads of others labels it: of a session of a lower tier, or of one that has read untrusted content,
UNTRUSTED; of `shared`, which is kept for this machine's own, PRIVATE too.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, Final

import msgspec

from epad.gate.tool_labels import heard
from epad.gate.tool_table import Taint
from epad.tools.own import OwnCall, OwnTool
from epad.tools.sessions import Origin
from epad.vault.child import VaultChild
from runners.tools.comms import TOOLS as COMMS
from runners.tools.memory import TOOLS as MEMORY
from runners.tools.prompt_library import TOOLS as PROMPTS
from runners.tools.signature import ToolMeta
from runners.tools.tasks import TOOLS as TASKS
from runners.tools.visible import visible

DECLARED: Final[tuple[ToolMeta, ...]] = (*MEMORY, *TASKS, *COMMS, *PROMPTS)
EFFECT: Final = "vault"
"""The target of a write's effect on the record: the head of the store's chain before and after it."""

TEXTS: Final = frozenset({"text", "content", "title", "detail", "evidence", "reason", "save"})
"""The arguments that are texts, and not names: in a name hidden characters are refused."""

MaySeeShared = Callable[[str], bool]
"""Tells if a subsystem's sessions may read `shared`."""


def make_vault_tools(child: VaultChild, may_see_shared: MaySeeShared) -> dict[str, OwnTool]:
    """Return the tools of the categories memory, tasks and comms, and prompt_library, by their names."""
    return {declared.name: _tool(declared, child, may_see_shared) for declared in DECLARED}


def _tool(declared: ToolMeta, child: VaultChild, may_see_shared: MaySeeShared) -> OwnTool:
    async def tool(call: OwnCall) -> msgspec.Struct:
        arguments = msgspec.structs.asdict(_seen(call).checked(declared.args))
        shared = may_see_shared(call.session.subsystem)
        answer = await child.ask(declared.name, {"by": by(call, shared=shared), "arguments": arguments})
        _label(call, declared.name, answer.pop("read", {}))
        if head := answer.pop("head", None):
            call.effects.append((EFFECT, head[0], head[1]))
        return msgspec.convert(answer, declared.result)

    return tool


def _seen(call: OwnCall) -> OwnCall:
    """Return a call whose texts hide nothing: what it stores is read by others, and by a person in a terminal."""
    shown = {
        name: visible(value) if name in TEXTS and isinstance(value, str) else value
        for name, value in call.arguments.items()
    }
    return replace(call, arguments=shown)


def by(call: OwnCall, *, shared: bool) -> Mapping[str, object]:
    """Return who asks, as the child's rows have it."""
    session = call.session
    return {
        "author": session.subsystem,
        "session": session.name,
        "tier": int(session.tier),
        "taint": int(session.taint),
        "turn": call.turn,
        "shared": shared,
    }


def _label(call: OwnCall, tool: str, read: Mapping[str, Any]) -> None:
    """Add the labels of the texts that a session gets. They are added before it gets them."""
    taint = Taint(read.get("taint", 0))
    labels = heard(taint, lower=bool(read.get("lower")), shared=bool(read.get("shared")))
    call.session.label(labels, Origin(f"{tool}: what others have written", call.turn))
