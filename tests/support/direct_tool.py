"""Call a pure tool in this process, for properties that take many calls."""

from __future__ import annotations

from typing import Any

from runners.tools.call import drive
from runners.tools.signature import CONTEXT, CallContext, ToolFunction


def direct(tool: ToolFunction, context: CallContext | None = None, /, **arguments: Any) -> dict[str, Any]:
    """Return what the tool answers: its result, or its error and hint."""
    token = CONTEXT.set(context or CallContext())
    try:
        return drive(tool(arguments))  # type: ignore[arg-type]  # a tool is a coroutine
    finally:
        CONTEXT.reset(token)
