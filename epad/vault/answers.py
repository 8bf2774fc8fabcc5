"""Answer the tools on the store: each is a request to the child, by the session that calls.

What a session reads of others labels it: of a session of a lower tier, or of one that has read untrusted content,
UNTRUSTED; of `shared`, which is kept for this machine's own, PRIVATE too.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import msgspec

from epad.configuration.vault_schema import VaultConfig
from epad.gate.tiers import tier_of
from epad.gate.tool_labels import heard
from epad.gate.tool_table import Taint
from epad.tools.own import OwnCall, OwnTool, OwnToolError
from epad.tools.sessions import Origin, Session
from epad.vault.child import VaultChild
from probes.vault import DOCUMENTS
from runners.tools.comms import TOOLS as COMMS
from runners.tools.memory import TOOLS as MEMORY
from runners.tools.prompt_library import TOOLS as PROMPTS
from runners.tools.signature import ToolMeta
from runners.tools.tasks import TOOLS as TASKS
from runners.tools.vault import TOOLS as VAULT
from runners.tools.vault import VAULT_SEARCH
from runners.tools.visible import visible

DECLARED: Final[tuple[ToolMeta, ...]] = (*MEMORY, *TASKS, *COMMS, *PROMPTS, *VAULT)
URI: Final = "epad://vault/"
"""How the URI of a document begins; its path follows."""
EFFECT: Final = "vault"
"""The target of a write's effect on the record: the head of the store's chain before and after it."""

TEXTS: Final = frozenset({"text", "content", "title", "detail", "evidence", "reason", "save"})
"""The arguments that are texts, and not names: in a name hidden characters are refused."""

_DOCUMENT_CALLS: Final = {"memory_get": ("vault_get", "name"), "memory_observe": ("vault_append", "entity")}
"""The tools that take a document's URI for a name: what the child is asked then, and the argument."""


@dataclass(frozen=True, slots=True)
class House:
    """Says what the configuration and the holds make of a call.

    `sees_shared` tells if a subsystem's sessions may read `shared`, `quarantined` whose rows nobody sees now.
    """

    sees_shared: Callable[[str], bool]
    quarantined: Callable[[], Sequence[str]] = tuple
    config: Callable[[], VaultConfig] = VaultConfig

    def by(self, call: OwnCall) -> Mapping[str, object]:
        """Return who asks, as the child's rows have it."""
        session = call.session
        return {
            "author": session.subsystem,
            "session": session.name,
            "tier": int(session.tier),
            "taint": int(session.taint),
            "turn": call.turn,
            "shared": self.sees_shared(session.subsystem),
            "held": [name for name in self.quarantined() if name != session.subsystem],
        }

    def label(self, session: Session, read: Mapping[str, Any], origin: Origin) -> None:
        """Add the labels of the texts that a session gets. They are added before it gets them."""
        taint = Taint(read.get("taint", 0))
        session.label(heard(taint, lower=bool(read.get("lower")), shared=bool(read.get("shared"))), origin)
        config = self.config()
        for path in read.get("paths", ()):
            by_path = Taint.PRIVATE if config.is_private(path) else Taint.NONE
            by_path |= Taint.UNTRUSTED if config.is_untrusted(path) else Taint.NONE
            session.label(by_path, Origin(f"{URI}{path}", origin.turn))

    def require_open(self) -> None:
        """Raise OwnToolError while documents are held: they may not be what was added."""
        if DOCUMENTS in self.quarantined():
            raise OwnToolError(
                "the vault is held: its documents may have been changed", f"epactl explain {DOCUMENTS}"
            )

    def require_append(self, session: Session, path: str) -> None:
        """Raise OwnToolError unless the configuration lets sessions of this tier append to a path."""
        label = self.config().tier_to_append(path)
        if label is None:
            raise OwnToolError(
                f"the vault's {path} is only read", "a person adds to it, or allows it: [vault.append]"
            )
        if session.tier < tier_of(label, has_workspace=False):
            raise OwnToolError(
                f"the vault's {path} takes the tier {label} or above to append; this session is {session.tier.label}",
                "a person appends to it, or allows it: [vault.append]",
            )


def make_vault_tools(child: VaultChild, house: House) -> dict[str, OwnTool]:
    """Return the tools of the categories memory, tasks and comms, prompt_library and vault_search, by their names."""
    return {declared.name: _tool(declared, child, house) for declared in DECLARED}


def _tool(declared: ToolMeta, child: VaultChild, house: House) -> OwnTool:
    async def tool(call: OwnCall) -> msgspec.Struct:
        arguments = msgspec.structs.asdict(_seen(call).checked(declared.args))
        request, arguments = _asked(declared.name, arguments, call.session, house)
        answer = await child.ask(request, {"by": house.by(call), "arguments": arguments})
        origin = Origin(f"{declared.name}: what others have written", call.turn)
        house.label(call.session, answer.pop("read", {}), origin)
        if head := answer.pop("head", None):
            call.effects.append((EFFECT, head[0], head[1]))
        return msgspec.convert(answer, declared.result)

    return tool


def _asked(
    name: str, arguments: dict[str, Any], session: Session, house: House
) -> tuple[str, dict[str, Any]]:
    """Return what the child is asked: about a document where its URI stands for a name. Raises OwnToolError."""
    request, argument = _DOCUMENT_CALLS.get(name, ("", ""))
    uri = str(arguments.get(argument, ""))
    if name == VAULT_SEARCH.name:
        house.require_open()
    if not uri.startswith(URI):
        return name, arguments
    house.require_open()
    path = uri.removeprefix(URI)
    if request == "vault_get":
        return request, {"path": path, "name": uri}
    house.require_append(session, path)
    return request, {"path": path, "text": arguments["content"]}


def _seen(call: OwnCall) -> OwnCall:
    """Return a call whose texts hide nothing: what it stores is read by others, and by a person in a terminal."""
    shown = {
        name: visible(value) if name in TEXTS and isinstance(value, str) else value
        for name, value in call.arguments.items()
    }
    return replace(call, arguments=shown)
