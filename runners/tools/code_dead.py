"""The tool of the category `code` that finds Python code which nothing uses, by names.

| confidence | what |
|---|---|
| 100 | a statement behind `return`, `raise`, `break` or `continue` |
| 90 | an import whose name its file never uses, and no other file imports from it |
| 60 | a function, class, method or module's variable whose name is nowhere else in the workspace |
| 40 | the same, but decorated, or a method of a class with bases: something else may call it |

Names in texts count as uses, and so does any word of other files of the workspace: what is told is rather too little.
"""

from __future__ import annotations

import ast
import itertools
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Annotated, Final

import msgspec
from msgspec import Meta

from runners.tools import files, output, python_source, walk
from runners.tools.python_source import Skipped, Source, sources
from runners.tools.signature import Args, PathArg, Result, meta

_WORD: Final = re.compile(r"[A-Za-z_]\w*")
_WORD_BYTES: Final = re.compile(rb"[A-Za-z_]\w*")
_ENDS: Final = (ast.Return, ast.Raise, ast.Break, ast.Continue)
_CALLED_BY_OTHERS: Final = ("test", "Test", "visit_", "pytest_", "setUp", "tearDown")
_MOST_OTHER_BYTES: Final = 1 << 20


class DeadArgs(Args, frozen=True):
    """Names files, and the confidence from which something is told."""

    path: PathArg = "."
    confidence: Annotated[int, Meta(ge=0, le=100)] = 80


class Dead(msgspec.Struct, frozen=True):
    """Describes one thing that nothing uses."""

    path: str
    line: int
    kind: str
    name: str
    confidence: int


class DeadResult(Result, frozen=True):
    """Holds what nothing uses, the surest first, and the files that could not be read."""

    findings: list[Dead]
    truncated: bool
    skipped: list[str]


CODE_DEAD_CODE: Final = meta(
    "code_dead_code",
    DeadArgs,
    DeadResult,
    risk="R1",
    timeout=60,
    description="Find dead Python code: unreachable (100), unused imports (90), functions, classes (60).",
    examples=({"path": "src"}, {"path": "src", "confidence": 60}),
)


@CODE_DEAD_CODE.tool
async def code_dead_code(args: DeadArgs) -> DeadResult:
    """Look at each file alone, and at definitions across all of the workspace."""
    skipped, seen = Skipped(), _Seen()
    found: list[Dead] = []
    for source in sources(args.path, skipped):
        shown = files.shown(source.path)
        seen.look(source)
        found += (Dead(shown, line, "unreachable", "", 100) for line in unreachable(source.tree))
        seen.imports += ((shown, line, name) for line, name in unused_imports(source))
        if args.confidence <= 60:
            seen.definitions += _definitions(source.tree, shown)
    found += (Dead(path, line, "import", name, 90) for path, line, name in seen.imports_left())
    if seen.definitions:
        used = seen.words | _words_elsewhere(seen.paths)
        found += (each for each in seen.definitions if each.name not in used)
    wanted = [each for each in found if each.confidence >= args.confidence]
    wanted.sort(key=lambda each: (-each.confidence, each.path, each.line))
    kept, cut = output.cut_items(wanted, 1000)
    return DeadResult(findings=kept, truncated=cut, skipped=skipped.told)


@dataclass(slots=True)
class _Seen:
    """Collects what the files define, import and use."""

    paths: set[str] = field(default_factory=set)
    words: set[str] = field(default_factory=set)
    definitions: list[Dead] = field(default_factory=list)
    imports: list[tuple[str, int, str]] = field(default_factory=list)
    taken: set[tuple[str, str]] = field(default_factory=set)
    """The names that files import from a module, with the module's last name."""

    def look(self, source: Source) -> None:
        """Note the uses in one file."""
        self.paths.add(source.path)
        self.words |= used_names(source.tree)
        for node in ast.walk(source.tree):
            if isinstance(node, ast.ImportFrom):
                module = (node.module or "").rpartition(".")[2]
                self.taken |= {(module, alias.name) for alias in node.names}

    def imports_left(self) -> Iterator[tuple[str, int, str]]:
        """Yield the unused imports that no other file takes from there."""
        for path, line, name in self.imports:
            module = path.rpartition("/")[2].removesuffix(".py")
            if (module, name) not in self.taken:
                yield path, line, name


def used_names(tree: ast.AST) -> set[str]:
    """Return the names that a file reads, and the words of its short texts, which may be annotations or getattr's."""
    used: set[str] = set()
    for node in ast.walk(tree):
        match node:
            case ast.Name(id=name, ctx=ast.Load() | ast.Del()) | ast.Attribute(attr=name):
                used.add(name)
            case ast.ImportFrom(names=aliases):
                used |= {alias.name for alias in aliases}
            case ast.Constant(value=str(text)) if len(text) < 1000:
                used.update(_WORD.findall(text))
    return used


def unreachable(tree: ast.AST) -> Iterator[int]:
    """Yield the lines of the first statements that are behind one which ends its block."""
    for node in ast.walk(tree):
        for name in ("body", "orelse", "finalbody"):
            block = getattr(node, name, None)
            if not isinstance(block, list):
                continue
            for statement, following in itertools.pairwise(block):
                if isinstance(statement, _ENDS) and not _makes_generator(following):
                    yield following.lineno
                    break


def _makes_generator(statement: ast.stmt) -> bool:
    """Tell if a statement is there only to make its function a generator."""
    return isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Yield | ast.YieldFrom)


def unused_imports(source: Source) -> Iterator[tuple[int, str]]:
    """Yield the imports that their own file does not use. A package's own are what it offers, and not told."""
    if source.path.endswith("__init__.py"):
        return
    used: set[str] | None = None
    for line, name in _imported(source.tree):
        used = _names_but_imports(source.tree) if used is None else used
        if name not in used:
            yield line, name


def _names_but_imports(tree: ast.AST) -> set[str]:
    used: set[str] = set()
    for node in ast.walk(tree):
        match node:
            case ast.Name(id=name):
                used.add(name)
            case ast.Constant(value=str(text)) if len(text) < 1000:
                used.update(_WORD.findall(text))
    return used


def _imported(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Yield names that imports bind. One that is tried, or named as itself to be passed on, is meant to be there."""
    waiting: list[ast.AST] = [tree]
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.Import | ast.ImportFrom):
            if isinstance(node, ast.ImportFrom) and node.module == "__future__":
                continue
            for alias in node.names:
                name = alias.asname or (
                    alias.name.partition(".")[0] if isinstance(node, ast.Import) else alias.name
                )
                if name != "*" and alias.asname != alias.name:
                    yield node.lineno, name
        elif not (isinstance(node, ast.Try) and node.handlers):
            waiting += reversed([each for each in ast.iter_child_nodes(node) if isinstance(each, _HOLDERS)])


_HOLDERS: Final = (ast.stmt, ast.ExceptHandler, ast.match_case)


def _definitions(tree: ast.Module, path: str) -> Iterator[Dead]:
    """Yield functions, classes, methods and the module's variables, each as if nothing used it."""
    waiting: list[tuple[ast.AST, str, bool]] = [(tree, "module", False)]
    while waiting:
        node, within, inherits = waiting.pop()
        for child in ast.iter_child_nodes(node):
            match child:
                case ast.FunctionDef() | ast.AsyncFunctionDef():
                    kind = "method" if within == "class" else "function"
                    yield from _dead(
                        path, child, kind, child.name, sure=not (child.decorator_list or inherits)
                    )
                    waiting.append((child, "function", False))
                case ast.ClassDef():
                    yield from _dead(path, child, "class", child.name, sure=not child.decorator_list)
                    waiting.append((child, "class", bool(child.bases or child.keywords)))
                case ast.Assign(targets=[ast.Name(id=name)]) if within == "module":
                    yield from _dead(path, child, "variable", name, sure=True)
                case ast.AnnAssign(target=ast.Name(id=name)) if within == "module":
                    yield from _dead(path, child, "variable", name, sure=True)
                case ast.stmt() | ast.ExceptHandler() | ast.match_case():
                    waiting.append((child, within, inherits))


def _dead(path: str, node: ast.stmt, kind: str, name: str, *, sure: bool) -> Iterator[Dead]:
    if not (
        name.startswith(_CALLED_BY_OTHERS) or name == "_" or (name.startswith("__") and name.endswith("__"))
    ):
        yield Dead(path, node.lineno, kind, name, 60 if sure else 40)


def _words_elsewhere(looked_at: Iterable[str]) -> set[str]:
    """Return the words of the workspace's other files: a template or a setting may name a function."""
    done, found = set(looked_at), set[bytes]()
    for each in walk.files("."):
        if each.path in done or each.status.st_size > _MOST_OTHER_BYTES:
            continue
        try:
            data = python_source.content(each)
        except OSError:
            continue
        if b"\0" not in data[:8192]:
            found.update(_WORD_BYTES.findall(data))
    return {word.decode() for word in found}


TOOLS: Final = (CODE_DEAD_CODE,)
