"""Find definitions and uses of names in Python's syntax trees."""

from __future__ import annotations

import ast
import warnings
from collections.abc import Iterator
from typing import Final

import msgspec

_SIGNATURE_CHARACTERS: Final = 300
_FUNCTIONS: Final = (ast.FunctionDef, ast.AsyncFunctionDef)


class Symbol(msgspec.Struct, frozen=True):
    """Describes one definition."""

    path: str
    line: int
    kind: str
    signature: str
    name: str = ""
    end: int = 0


def parse(data: bytes) -> ast.Module | None:
    """Return the tree of a source file, or None for one that is not Python, or too deep, or in a rare encoding.

    Python reads the file of an encoding when it is asked for, which a call may not: that is an OSError.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return ast.parse(data)
    except (SyntaxError, ValueError, RecursionError, MemoryError, LookupError, OSError):
        return None


def definitions(tree: ast.AST, path: str) -> Iterator[Symbol]:
    """Yield classes, functions, methods and the variables of modules and classes, in order.

    Without recursion: a chain of `elif` is as deep as it is long.
    """
    open_blocks: list[tuple[Iterator[ast.AST], str]] = [(ast.iter_child_nodes(tree), "")]
    while open_blocks:
        children, within = open_blocks[-1]
        node = next(children, None)
        if node is None:
            open_blocks.pop()
        elif isinstance(node, ast.ClassDef):
            bases = ", ".join(_written(base) for base in node.bases)
            yield _symbol(
                node, path, "class", f"class {node.name}({bases})" if bases else f"class {node.name}"
            )
            open_blocks.append((ast.iter_child_nodes(node), "class"))
        elif isinstance(node, _FUNCTIONS):
            yield _symbol(node, path, "method" if within == "class" else "function", _signature(node))
            open_blocks.append((ast.iter_child_nodes(node), "function"))
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            if within != "function":
                yield from _variables(node, path)
        elif isinstance(node, ast.stmt | ast.ExceptHandler | ast.match_case):
            open_blocks.append((ast.iter_child_nodes(node), within))  # below `if`, `try`, `with`


def uses(tree: ast.AST, name: str) -> Iterator[int]:
    """Yield the lines, in order, on which a name is read, called, imported or an attribute."""
    lines = {line for node in ast.walk(tree) for line in _lines_of(node, name)}
    yield from sorted(lines)


def _lines_of(node: ast.AST, name: str) -> Iterator[int]:
    match node:
        case ast.Name(id=found) | ast.Attribute(attr=found) if found == name:
            yield node.lineno
        case ast.Import(names=aliases) | ast.ImportFrom(names=aliases):
            if any(name in {alias.name, alias.asname, alias.name.rpartition(".")[2]} for alias in aliases):
                yield node.lineno


def _variables(node: ast.Assign | ast.AnnAssign, path: str) -> Iterator[Symbol]:
    targets = node.targets if isinstance(node, ast.Assign) else [node.target]
    for target in targets:
        for each in target.elts if isinstance(target, ast.Tuple | ast.List) else [target]:
            if isinstance(each, ast.Name):
                yield Symbol(
                    path, node.lineno, "variable", _cut(_written(node)), each.id, node.end_lineno or 0
                )


def _symbol(
    node: ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef, path: str, kind: str, signature: str
) -> Symbol:
    return Symbol(path, node.lineno, kind, _cut(signature), node.name, node.end_lineno or node.lineno)


def _signature(node: ast.FunctionDef | ast.AsyncFunctionDef) -> str:
    returns = f" -> {_written(node.returns)}" if node.returns else ""
    word = "async def" if isinstance(node, ast.AsyncFunctionDef) else "def"
    return f"{word} {node.name}({_written(node.args)}){returns}"


def _written(node: ast.AST) -> str:
    try:
        return ast.unparse(node)
    except RecursionError:  # a sum of a thousand terms is as deep as it is long
        return "…"


def _cut(text: str) -> str:
    return text if len(text) <= _SIGNATURE_CHARACTERS else text[:_SIGNATURE_CHARACTERS] + "…"
