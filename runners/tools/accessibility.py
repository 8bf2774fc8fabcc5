"""Write the accessibility tree of a page as lines, within a budget: elements, names, and refs to act by. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from runners.tools.visible import visible

BUDGET_BYTES: Final = 16 << 10
_NAME_CHARACTERS: Final = 160
_MOST_INDENT: Final = 12
_PASSED_OVER: Final = frozenset(
    {"none", "generic", "InlineTextBox", "RootWebArea", "LineBreak", "ListMarker"}
)
_ACTED_ON: Final = frozenset(
    {
        *(
            "button",
            "link",
            "textbox",
            "searchbox",
            "checkbox",
            "radio",
            "combobox",
            "listbox",
            "option",
            "menuitem",
        ),
        *(
            "tab",
            "switch",
            "slider",
            "spinbutton",
            "textarea",
            "menuitemcheckbox",
            "menuitemradio",
            "treeitem",
        ),
    }
)


def tree_of(nodes: Sequence[Mapping[str, Any]], budget: int = BUDGET_BYTES) -> tuple[str, int]:
    """Return the lines of a tree as far as there is room, and how many elements were left out."""
    lines: list[str] = []
    left, out = budget, 0
    for line in _lines(nodes):
        left -= len(line.encode()) + 1
        if left < 0:
            out += 1
        else:
            lines.append(line)
    return "\n".join(lines), out


def _lines(nodes: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """Yield a line for each element that says something. The tree is walked without recursion: pages nest deeply."""
    known = {node["nodeId"]: node for node in nodes}
    stack = [(nodes[0]["nodeId"], 0, "")] if nodes else []
    while stack:
        number, depth, above = stack.pop()
        node = known.pop(number, None)
        if node is None:
            continue
        line = _line(node, above)
        if line:
            yield "  " * min(depth, _MOST_INDENT) + line
        name = _name(node) if line else above
        below = ((child, depth + bool(line), name) for child in reversed(node.get("childIds", [])))
        stack.extend(below)


def _line(node: Mapping[str, Any], above: str) -> str:
    """Return the line of an element; empty for one that says nothing, or what the one above it has said."""
    role = str(node.get("role", {}).get("value", ""))
    name = _name(node)
    if node.get("ignored") or role in _PASSED_OVER:
        return ""
    if role == "StaticText":
        return f'"{name}"' if name.strip() and name != above else ""
    acted_on = role in _ACTED_ON
    if not name and not acted_on:
        return ""
    words = [role, *([f'"{name}"'] if name else [])]
    value = node.get("value", {}).get("value")
    if value not in {None, ""} and isinstance(value, str | int | float) and acted_on:
        words.append(f'= "{visible(str(value))[:_NAME_CHARACTERS]}"')
    words += [each["name"] for each in node.get("properties", []) if _is_state(each)]
    if acted_on and "backendDOMNodeId" in node:
        words.append(f"[ref={node['backendDOMNodeId']}]")
    return " ".join(words)


def _is_state(state: Mapping[str, Any]) -> bool:
    names = {"checked", "disabled", "expanded", "selected", "required", "pressed"}
    return state.get("name") in names and state.get("value", {}).get("value") in {True, "true"}


def _name(node: Mapping[str, Any]) -> str:
    name = node.get("name", {}).get("value", "")
    return visible(name).replace("\n", " ")[:_NAME_CHARACTERS] if isinstance(name, str) else ""
