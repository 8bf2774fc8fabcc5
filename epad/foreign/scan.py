"""Look through the texts of a definition for what aims at the model, or hides from the person who reads it. Pure.

What is found is told and changes nothing else, but for hidden characters: no person can have seen these, so a server
with some is held until it is accepted. The list of phrases finds the usual ones; the gate does not rely on it.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import Final

from runners.tools.visible import visible

_ORDERS: Final = re.compile(
    r"""<\s*/?\s*(?:important|system|instructions?|assistant|secret)\s*>
    |\b(?:ignore|disregard|forget)\b[^.]{0,40}\b(?:previous|above|prior|earlier|other|all)\b
    |\b(?:do\ not|don't|never)\b[^.]{0,30}\b(?:tell|mention|inform|show|reveal)\b
    |\bbefore\ (?:using|calling|you\ (?:use|call))\b[^.]{0,60}\b(?:read|call|send|pass)\b
    |\b(?:you\ must|always)\b[^.]{0,60}\b(?:this\ tool\ first|before\ any\ other|instead\ of)\b
    |\bsystem\ prompt\b
    |(?:~|/home/[^/\s]+|/root)/\.(?:ssh|aws|cursor|gnupg|config)\b
    |\b(?:id_rsa|mcp\.json|api\ keys?|credentials)\b[^.]{0,60}\b(?:pass|send|include|as)\b""",
    re.IGNORECASE | re.VERBOSE,
)
_MOST_SCANNED: Final = 20_000


@dataclass(frozen=True, slots=True)
class Remark:
    """Says what is odd about a tool's texts. `hidden`: there are characters that nobody sees."""

    tool: str
    text: str
    hidden: bool = False


def remarks(tool: str, texts: Collection[str], others: Collection[str]) -> Iterator[Remark]:
    """Yield what is found in the texts of a tool; `others` are the names of tools that are not its server's."""
    joined = "\n".join(texts)[:_MOST_SCANNED]
    if any(visible(text) != text.replace("\r\n", "\n") for text in texts):
        yield Remark(tool, "has characters that are not seen", hidden=True)
    if found := _ORDERS.search(joined):
        yield Remark(tool, f"speaks to the model: {visible(found[0])[:80]!r}")
    named = sorted(name for name in others if _names(joined, name))
    if named:
        yield Remark(tool, f"speaks of tools that are not its server's: {', '.join(named[:5])}")
    if tool in others:
        yield Remark(tool, "has the name of a tool that is not its server's")


def _names(text: str, name: str) -> bool:
    """Tell if a text speaks of a tool by its name; a name that is a plain word says nothing."""
    return "_" in name and re.search(rf"(?<![\w-]){re.escape(name)}(?![\w-])", text) is not None
