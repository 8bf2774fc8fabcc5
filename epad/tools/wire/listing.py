"""The list of tools as MCP's clients get it: stable to the byte, and short above forty tools (search mode).

The list is made of the definitions alone, sorted by name, so that a provider's prompt cache holds it across restarts.
In search mode it holds the pinned tools, `tool_search` and `tool_call`; each other tool is called by either way.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from msgspec import Raw

from epad.gate.tool_risk import READS
from epad.tools.protocol import Caller, Definition, ToolAnswer, Tools
from epad.tools.wire.messages import encode
from epad.tools.wire.ranking import Ranking

SEARCH_ABOVE = 40
SEARCH = "tool_search"
CALL = "tool_call"
# Those that most jobs begin with: an agent that has them rarely needs to search first.
PINNED = frozenset(
    {"epa_status", "file_list", "file_read", "file_write", "git_diff", "git_status", "glob", "grep_recursive"}
)
_MOST_FOUND = 20
# The daemon itself ranks the tools, and every agent waits meanwhile.
_MOST_QUERY_CHARACTERS = 1_000
_USUALLY_FOUND = 5
_KEPT_LISTS = 64

_SEARCH_TOOL: dict[str, object] = {
    "name": SEARCH,
    "description": "Find tools by words; returns their full definitions. Call a found tool by tool_call.",
    "inputSchema": {
        "type": "object",
        "properties": {
            "query": {
                "type": "string",
                "minLength": 1,
                "maxLength": _MOST_QUERY_CHARACTERS,
                "description": "what the tool should do",
            },
            "limit": {"type": "integer", "minimum": 1, "maximum": _MOST_FOUND, "default": _USUALLY_FOUND},
        },
        "required": ["query"],
        "additionalProperties": False,
    },
    "annotations": {"readOnlyHint": True},
}
_CALL_TOOL: dict[str, object] = {
    "name": CALL,
    "description": "Call a tool that tool_search has found, by its name, with its arguments.",
    "inputSchema": {
        "type": "object",
        "properties": {"name": {"type": "string"}, "arguments": {"type": "object", "default": {}}},
        "required": ["name"],
        "additionalProperties": False,
    },
}


class Listed:
    """One list of definitions: its bytes, and the search over it."""

    def __init__(self, definitions: Sequence[Definition], search_above: int) -> None:
        self.definitions = definitions
        self.searched = len(definitions) > search_above
        shown = [d for d in definitions if d.name in PINNED] if self.searched else definitions
        entries = [*map(entry, shown), *((_CALL_TOOL, _SEARCH_TOOL) if self.searched else ())]
        entries.sort(key=lambda each: str(each["name"]))
        self.tools = Raw(encode(entries))
        self.mirrored = {each.name: names for each in definitions if (names := _mirrored(each))}
        """The arguments of each tool that clients repeat in headers, with the headers' names."""
        self._ranking: Ranking | None = None

    def search(self, query: str, limit: int) -> list[dict[str, object]]:
        """Return the definitions that fit a query."""
        if self._ranking is None:
            self._ranking = Ranking(self.definitions)
        return [entry(found) for found in self._ranking.best(query, limit)]


class Listing:
    """Keeps the lists in use, and answers the two tools of search mode."""

    def __init__(self, tools: Tools, search_above: int = SEARCH_ABOVE) -> None:
        self._tools = tools
        self._search_above = search_above
        self._lists: dict[tuple[str, ...], Listed] = {}

    def of(self, caller: Caller) -> Listed:
        """Return a caller's list."""
        definitions = self._tools.definitions(caller)
        key = tuple(each.sha256 for each in definitions)
        listed = self._lists.get(key)
        if listed is None:
            if len(self._lists) >= _KEPT_LISTS:
                self._lists.clear()
            listed = self._lists[key] = Listed(definitions, self._search_above)
        return listed

    def own_answer(self, caller: Caller, name: str, arguments: Mapping[str, Any]) -> ToolAnswer | None:
        """Answer `tool_search`; None for another tool, or outside search mode."""
        if name != SEARCH or not (listed := self.of(caller)).searched:
            return None
        query, limit = arguments.get("query"), arguments.get("limit", _USUALLY_FOUND)
        if not isinstance(query, str) or not query.strip():
            return _wrong("query: words that say what the tool should do")
        if len(query) > _MOST_QUERY_CHARACTERS:
            return _wrong(f"query: at most {_MOST_QUERY_CHARACTERS} characters")
        if not isinstance(limit, int) or isinstance(limit, bool) or not 1 <= limit <= _MOST_FOUND:
            return _wrong(f"limit: a whole number from 1 to {_MOST_FOUND}")
        if unknown := arguments.keys() - {"query", "limit"}:
            return _wrong(f"{min(unknown)[:80]}: not an argument of {SEARCH}; it takes query and limit")
        found = listed.search(query, limit)
        content: dict[str, object] = {"tools": found, "of": len(listed.definitions)}
        if not found:
            content["hint"] = "no tool fits these words; try others, such as a noun and a verb"
        return ToolAnswer("", is_error=False, content=content)

    def meant(
        self, caller: Caller, name: str, arguments: Mapping[str, Any]
    ) -> tuple[str, Mapping[str, Any]] | ToolAnswer:
        """Return the tool and the arguments that a call means: those inside of `tool_call`, or its own."""
        if name != CALL or not self.of(caller).searched:
            return name, arguments
        inner, given = arguments.get("name"), arguments.get("arguments", {})
        if not isinstance(inner, str) or not inner:
            return _wrong("name: the name of a tool")
        if not isinstance(given, dict):
            return _wrong("arguments: an object with the tool's arguments")
        if inner in {CALL, SEARCH}:
            return _wrong(f"name: {inner} is not called through {CALL}")
        return inner, given


def entry(definition: Definition) -> dict[str, object]:
    """Return a tool as MCP lists it. The output's schema stays out: it would add a quarter to every context."""
    return {
        "name": definition.name,
        "description": definition.description,
        "inputSchema": definition.input_schema,
        "annotations": host_hints(definition.risk),
    }


def host_hints(risk: str) -> dict[str, object]:
    """Return what hosts ask people by: whether a tool only reads, deletes, or reaches outside."""
    if risk in READS:
        return {"readOnlyHint": True, "openWorldHint": False}
    return {
        "destructiveHint": risk in {"W2", "X1", "X2"},
        "openWorldHint": risk in {"N1", "N2", "X1", "X2", "V1"},
        **({"readOnlyHint": True} if risk == "N1" else {}),
    }


def _mirrored(definition: Definition) -> dict[str, str]:
    """Return the arguments that `x-mcp-header` has clients repeat in a header, for proxies to see."""
    properties = definition.input_schema.get("properties")
    given = properties if isinstance(properties, dict) else {}
    names = {name: one.get("x-mcp-header") for name, one in given.items() if isinstance(one, dict)}
    return {name: header for name, header in names.items() if isinstance(header, str)}


def _wrong(what: str) -> ToolAnswer:
    hint = f"see the definition of {SEARCH} and {CALL} in the list of tools"
    return ToolAnswer(
        "", is_error=True, content={"error": what, "hint": hint}, reason_code="invalid_arguments"
    )
