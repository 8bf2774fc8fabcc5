"""Find the tools of each category, and print their definitions."""

from __future__ import annotations

import importlib
from collections.abc import Iterable
from dataclasses import dataclass
from types import ModuleType
from typing import Any, Final

from runners.tools.signature import ToolFunction, ToolMeta

CATEGORIES: Final = (
    "api",
    "archive",
    "browser",
    "code",
    "comms",
    "crypto",
    "data",
    "database",
    "docker",
    "epa",
    "files",
    "git",
    "http",
    "memory",
    "monitor",
    "notebook",
    "ollama",
    "prompt",
    "search",
    "system",
    "tasks",
    "text",
    "thinking",
    "vault",
    "websearch",
)
PROGRAMS: Final[dict[str, str]] = {"code": "ruff", "git": "git"}
"""The program that a category's tools run."""
LIBRARIES: Final[dict[str, tuple[str, ...]]] = {
    "api": ("yaml",),
    "data": ("defusedxml", "jmespath", "yaml"),
}
"""The libraries without which some of a category's tools fail."""
READS: Final[dict[str, tuple[str, ...]]] = {
    "system": (
        *("/proc", "/sys/bus/pci", "/sys/class/drm", "/sys/class/net", "/sys/devices"),
        *("/etc/os-release", "/usr/lib/os-release", "/usr/lib", "/lib", "/lib64", "/etc/ld.so.cache"),
    )
}
"""The places of the host that a category's tools read beside the workspace: facts of the kernel, drivers' libraries."""
DEVICES: Final[dict[str, tuple[str, ...]]] = {
    "system": ("/dev/nvidiactl", *(f"/dev/nvidia{number}" for number in range(16)))
}
"""The devices that a category's tools ask, by their drivers' own calls."""
SOCKETS: Final = frozenset({"docker"})
"""Categories whose tools connect to a Unix socket: the one that the cell of their worker shows."""


@dataclass(frozen=True, slots=True)
class Tool:
    """Joins a tool's metadata, its function and its category."""

    category: str
    meta: ToolMeta
    call: ToolFunction


def load(categories: Iterable[str]) -> dict[str, Tool]:
    """Import categories and return their tools by name. Raises ValueError for an unknown category."""
    tools: dict[str, Tool] = {}
    for category in categories:
        if category not in CATEGORIES:
            raise ValueError(f"there is no category {category!r}; there are {', '.join(CATEGORIES)}")
        module = importlib.import_module(f"runners.tools.{category}")
        tools |= {entry.name: Tool(category, entry, function_of(module, entry)) for entry in module.TOOLS}
    return tools


def function_of(module: ModuleType, entry: ToolMeta) -> ToolFunction:
    """Return the function of a tool. Raises ValueError where its module has none of that name."""
    function: ToolFunction | None = getattr(module, entry.name, None)
    if function is None or getattr(function, "__name__", "") != entry.name:
        raise ValueError(f"{module.__name__} lists {entry.name!r} and has no tool of that name")
    return function


def definitions(categories: Iterable[str] = CATEGORIES) -> list[dict[str, Any]]:
    """Return the definitions of all tools, sorted by name."""
    return [tool.meta.definition(tool.category) for _, tool in sorted(load(categories).items())]
