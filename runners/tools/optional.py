"""Import the libraries that only some tools need. What is lacking is refused by these tools, with the fix."""

from __future__ import annotations

import importlib
from types import ModuleType

from runners.tools.signature import ToolError


def load(name: str) -> ModuleType | None:
    """Return a module, or None if it is not installed. Call it as the worker starts: a call cannot read libraries."""
    try:
        return importlib.import_module(name)
    except ImportError:
        return None


def need(module: ModuleType | None, package: str) -> ModuleType:
    """Return the module. Raises ToolError if it is not there."""
    if module is None:
        raise ToolError(f"the library {package} is not installed", "pip install 'epad[tools]'")
    return module
