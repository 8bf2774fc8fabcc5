"""The rooms of epad/, the layers that they lie on, and which imports which: for a test and for docs/rooms.py."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[2]

# From the ground up; within a layer a room may import those named before it.
LAYERS: tuple[tuple[str, ...], ...] = (
    ("answers", "formatting", "gate", "runtime", "storage", "configuration", "listeners", "metrics"),
    (
        "secrets",
        "copying",
        "ledger",
        "audit",
        "confinement",
        "supervisor",
        "measurement",
        "gateway",
        "tools",
        "vault",
        "agents",
        "identity",
        "intent",
        "foreign",
        "inspection",
        "checkpoint",
        "datastore",
    ),
    ("control_loop", "probing", "incidents"),
    ("simulate", "lifeboat", "response", "notifying"),
    ("operations",),
    ("api", "web"),
    ("install", "doctor", "epactl", "daemon"),
)
# The values that the daemon and a child of its own exchange: they stand with the child, which imports nothing of epad.
TOOL_DECLARATIONS = (
    "catalogue",
    "comms",
    "environment_shown",
    "epa",
    "memory",
    "ollama",
    "program_paths",
    "prompt_library",
    "services",
    "signature",
    "signing",
    "tasks",
    "vault",
    "visible",
)
"""The modules of `runners/tools/` that declare, or find programs, with no tool's code and no library of a tool."""
SHARED_WITH_CHILDREN = frozenset(
    {
        "runners.cell.plan",
        "runners.measure.request",
        *(f"runners.tools.{name}" for name in TOOL_DECLARATIONS),
        "runners.identity.messages",
        "runners.intent.needs",
        *(f"runners.egress.{name}" for name in ("addresses", "channel", "messages", "refusal", "rules")),
    }
)
RANK = {room: (level, place) for level, rooms in enumerate(LAYERS) for place, room in enumerate(rooms)}
CHILD = re.compile(r"epad\.\w+\.[\w.]*")


def imports(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """Every module of epad that a file names, as far as its name says: `epad.room.file` or `epad.room.file.name`."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names if alias.name.startswith("epad."))
        elif isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "epad":
            yield from ((node.lineno, f"{node.module}.{alias.name}") for alias in node.names)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and CHILD.fullmatch(node.value):
            yield node.lineno, node.value


@cache
def parsed() -> dict[str, ast.Module]:
    files = sorted((ROOT / "epad").rglob("*.py"))
    return {str(path.relative_to(ROOT)): ast.parse(path.read_bytes()) for path in files}


def between_files(trees: Mapping[str, ast.Module]) -> dict[str, set[str]]:
    """Which file imports which."""
    graph: dict[str, set[str]] = {}
    for file, tree in trees.items():
        for _, module in imports(tree):
            path = module.replace(".", "/")
            for found in (f"{path}.py", f"{path.rpartition('/')[0]}.py"):
                if found in trees and found != file:
                    graph.setdefault(file, set()).add(found)
    return graph


def between_rooms(files: Mapping[str, set[str]]) -> dict[str, set[str]]:
    """Which room imports which other, by which file imports which."""
    graph: dict[str, set[str]] = {}
    for file, others in files.items():
        own = file.split("/")[1]
        graph.setdefault(own, set()).update({other.split("/")[1] for other in others} - {own})
    return graph
