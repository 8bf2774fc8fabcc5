"""The category `code`: look at source files without importing or running them."""

from __future__ import annotations

from typing import Final

import msgspec

from runners.tools import code_dead, code_imports, code_measures, code_ruff, output, symbols
from runners.tools.python_source import source_at
from runners.tools.signature import Args, PathArg, Result, meta


class OutlineArgs(Args, frozen=True):
    """Names a Python file."""

    path: PathArg


class Line(msgspec.Struct, frozen=True):
    """Describes one definition."""

    kind: str
    name: str
    line: int
    end: int
    signature: str


class OutlineResult(Result, frozen=True):
    """Holds the definitions of a file, in order."""

    symbols: list[Line]
    truncated: bool


CODE_OUTLINE: Final = meta(
    "code_outline",
    OutlineArgs,
    OutlineResult,
    risk="R1",
    timeout=20,
    description="Outline a Python file: classes, functions, methods and variables with their lines.",
    examples=({"path": "src/app.py"},),
)


@CODE_OUTLINE.tool
async def code_outline(args: OutlineArgs) -> OutlineResult:
    """List the definitions."""
    source = source_at(args.path)
    lines = (
        Line(each.kind, each.name, each.line, each.end, each.signature)
        for each in symbols.definitions(source.tree, source.path)
    )
    kept, cut = output.cut_items(lines, 5000)
    return OutlineResult(symbols=kept, truncated=cut)


code_lint, code_format = code_ruff.code_lint, code_ruff.code_format
code_complexity = code_measures.code_complexity
code_dead_code = code_dead.code_dead_code
code_dependency_graph = code_imports.code_dependency_graph
TOOLS: Final = (
    *code_measures.TOOLS,
    *code_dead.TOOLS,
    *code_imports.TOOLS,
    *code_ruff.TOOLS,
    CODE_OUTLINE,
)
