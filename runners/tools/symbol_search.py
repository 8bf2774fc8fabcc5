"""Tools of the category `search` for names in Python files, by their syntax trees."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any, Final, Literal

import msgspec
from msgspec import Meta

from runners.tools import files, output, patterns, symbols
from runners.tools.searched import Skipped, chosen
from runners.tools.signature import Args, PathArg, Result, meta

_MOST_SOURCE_BYTES: Final = 2 << 20


class SymbolArgs(Args, frozen=True):
    """Names a symbol of Python files; the name may have * and ?."""

    name: Annotated[str, Meta(min_length=1, max_length=200)]
    path: PathArg = "."
    kind: Literal["class", "function", "method", "variable"] | None = None
    limit: Annotated[int, Meta(ge=1, le=1000)] = 200


class SymbolResult(Result, frozen=True):
    """Holds the places where symbols are defined."""

    symbols: list[symbols.Symbol]
    truncated: bool
    skipped: int


FIND_SYMBOL: Final = meta(
    "find_symbol",
    SymbolArgs,
    SymbolResult,
    risk="R1",
    timeout=20,
    description="Find where a class, function, method or variable is defined in Python files.",
    examples=({"name": "helper"}, {"name": "run", "kind": "method"}),
)


@FIND_SYMBOL.tool
async def find_symbol(args: SymbolArgs) -> SymbolResult:
    """Look through the definitions of each Python file."""
    wanted, counted = patterns.matcher(args.name.replace("/", "")), Skipped()

    def found() -> Iterator[symbols.Symbol]:
        for path, tree, _ in _trees(args.path, counted):
            for each in symbols.definitions(tree, path):
                if wanted(each.name) and args.kind in {None, each.kind}:
                    yield each

    kept, cut = output.cut_items(found(), args.limit)
    return SymbolResult(symbols=kept, truncated=cut, skipped=counted.skipped)


class Reference(msgspec.Struct, frozen=True):
    """Describes one use of a name."""

    path: str
    line: int
    text: str


class ReferenceArgs(Args, frozen=True):
    """Names what is used."""

    name: Annotated[str, Meta(min_length=1, max_length=200)]
    path: PathArg = "."
    limit: Annotated[int, Meta(ge=1, le=1000)] = 200


class ReferenceResult(Result, frozen=True):
    """Holds uses of a name."""

    references: list[Reference]
    truncated: bool
    skipped: int


FIND_REFERENCES: Final = meta(
    "find_references",
    ReferenceArgs,
    ReferenceResult,
    risk="R1",
    timeout=20,
    description="Find where a name is used in Python files: not in comments or texts.",
    examples=({"name": "helper"},),
)


@FIND_REFERENCES.tool
async def find_references(args: ReferenceArgs) -> ReferenceResult:
    """Look through the names and attributes of each Python file."""
    counted = Skipped()

    def found() -> Iterator[Reference]:
        for path, tree, lines in _trees(args.path, counted):
            for line in symbols.uses(tree, args.name):
                yield Reference(
                    path, line, output.cut_line(lines[line - 1].strip()) if line <= len(lines) else ""
                )

    kept, cut = output.cut_items(found(), args.limit)
    return ReferenceResult(references=kept, truncated=cut, skipped=counted.skipped)


def _trees(path: str, counted: Skipped) -> Iterator[tuple[str, Any, list[str]]]:
    for found in chosen(path, "*.py"):
        data = counted.read(found, _MOST_SOURCE_BYTES)
        if data is None:
            continue
        if (tree := symbols.parse(data)) is None:
            counted.skipped += 1
            continue
        yield files.shown(found.path), tree, data.decode("utf-8", errors="replace").splitlines()


TOOLS: Final = (FIND_REFERENCES, FIND_SYMBOL)
