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
    """Return the tree of a source file, or None for one that is not Python, or nested too deeply."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return ast.parse(data)
    except (SyntaxError, ValueError, RecursionError, MemoryError, LookupError):
        return None


def definitions(tree: ast.AST, path: str, *, within: str = "") -> Iterator[Symbol]:
    """Yield classes, functions, methods and the variables of modules and classes, in order."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.ClassDef):
            bases = ", ".join(ast.unparse(base) for base in node.bases)
            yield _symbol(
                node, path, "class", f"class {node.name}({bases})" if bases else f"class {node.name}"
            )
            yield from definitions(node, path, within="class")
        elif isinstance(node, _FUNCTIONS):
            yield _symbol(node, path, "method" if within == "class" else "function", _signature(node))
            yield from definitions(node, path, within="function")
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            if within != "function":
                yield from _variables(node, path)
        elif isinstance(node, ast.stmt | ast.ExceptHandler):
            yield from definitions(node, path, within=within)  # below `if`, `try`, `with`


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
                    path, node.lineno, "variable", _cut(ast.unparse(node)), each.id, node.end_lineno or 0
                )


def _symbol(
    node: ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef, path: str, kind: str, signature: str
) -> Symbol:
    return Symbol(path, node.lineno, kind, _cut(signature), node.name, node.end_lineno or node.lineno)


def _signature(node: ast.FunctionDef | ast.AsyncFunctionDef) -> str:
    returns = f" -> {ast.unparse(node.returns)}" if node.returns else ""
    word = "async def" if isinstance(node, ast.AsyncFunctionDef) else "def"
    return f"{word} {node.name}({ast.unparse(node.args)}){returns}"


def _cut(text: str) -> str:
    return text if len(text) <= _SIGNATURE_CHARACTERS else text[:_SIGNATURE_CHARACTERS] + "…"
