"""The tool of the category `code` that counts how many ways lead through a function (McCabe), as ruff's C901 does."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from typing import Annotated, Final

import msgspec
from msgspec import Meta

from runners.tools import files, output
from runners.tools.python_source import Skipped, sources
from runners.tools.signature import Args, PathArg, Result, meta

Function = ast.FunctionDef | ast.AsyncFunctionDef
_LOOPS: Final = (ast.For, ast.AsyncFor, ast.While)


class ComplexityArgs(Args, frozen=True):
    """Names files, and the complexity above which a function is told."""

    path: PathArg = "."
    above: Annotated[int, Meta(ge=0)] = 10


class Measured(msgspec.Struct, frozen=True):
    """Describes one function, with the names of what it is in."""

    path: str
    line: int
    name: str
    complexity: int


class ComplexityResult(Result, frozen=True):
    """Holds functions, the most complex first, and the files that could not be read."""

    functions: list[Measured]
    truncated: bool
    skipped: list[str]


CODE_COMPLEXITY: Final = meta(
    "code_complexity",
    ComplexityArgs,
    ComplexityResult,
    risk="R1",
    timeout=60,
    description="Find Python functions whose cyclomatic complexity is above a number.",
    examples=({"path": "src", "above": 0},),
)


@CODE_COMPLEXITY.tool
async def code_complexity(args: ComplexityArgs) -> ComplexityResult:
    """Measure each function of each file."""
    skipped = Skipped()
    found = [
        Measured(files.shown(source.path), function.lineno, name, number)
        for source in sources(args.path, skipped)
        for name, function in functions(source.tree)
        if (number := complexity(function)) > args.above
    ]
    found.sort(key=lambda each: (-each.complexity, each.path, each.line))
    kept, cut = output.cut_items(found, 1000)
    return ComplexityResult(functions=kept, truncated=cut, skipped=skipped.told)


def functions(tree: ast.AST) -> Iterator[tuple[str, Function]]:
    """Yield all functions with their full names, without recursion: a chain of `elif` is as deep as it is long."""
    waiting: list[tuple[str, ast.AST]] = [("", tree)]
    while waiting:
        within, node = waiting.pop()
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef):
                yield within + child.name, child
                waiting.append((f"{within}{child.name}.", child))
            elif isinstance(child, ast.ClassDef):
                waiting.append((f"{within}{child.name}.", child))
            elif isinstance(child, ast.stmt | ast.ExceptHandler | ast.match_case):
                waiting.append((within, child))


def complexity(function: Function) -> int:
    """Return one more than the branches in a function, and in those that are defined inside it."""
    return sum(_branches(node) for node in ast.walk(function))


def _branches(node: ast.AST) -> int:
    match node:
        case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.If():
            return 1
        case ast.Try() | ast.TryStar():
            return len(node.handlers) + bool(node.orelse)
        case ast.Match(cases=cases):
            return len(cases) - (cases[-1].guard is None and _takes_all(cases[-1].pattern))
        case _:
            return int(isinstance(node, _LOOPS))


def _takes_all(pattern: ast.pattern) -> bool:
    match pattern:
        case ast.MatchAs(pattern=None):
            return True
        case ast.MatchAs(pattern=ast.pattern() as inner):
            return _takes_all(inner)
        case ast.MatchOr(patterns=patterns):
            return any(map(_takes_all, patterns))
        case _:
            return False


TOOLS: Final = (CODE_COMPLEXITY,)
