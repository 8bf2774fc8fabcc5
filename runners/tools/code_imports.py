"""The tool of the category `code` that tells which modules import which, and where they go round in a circle."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from typing import Final

import msgspec

from runners.tools import files, output
from runners.tools.python_source import Skipped, Source, sources
from runners.tools.signature import Args, PathArg, Result, meta

_MOST_CYCLES: Final = 50


class GraphArgs(Args, frozen=True):
    """Names a directory of Python files."""

    path: PathArg = "."


class Edge(msgspec.Struct, frozen=True, rename={"source": "from", "target": "to"}):
    """Describes one import; `later` tells that it is not done while the module is loaded, or for types only."""

    source: str
    target: str
    line: int
    later: bool


class GraphResult(Result, frozen=True):
    """Holds modules, the imports between them, one circle of each knot of imports, and the packages from elsewhere."""

    modules: list[str]
    imports: list[Edge]
    cycles: list[list[str]]
    external: list[str]
    truncated: bool
    skipped: list[str]


CODE_DEPENDENCY_GRAPH: Final = meta(
    "code_dependency_graph",
    GraphArgs,
    GraphResult,
    risk="R1",
    timeout=60,
    description="Tell which Python modules import which, and the import cycles among them.",
    examples=({"path": "src"}, {}),
)


@CODE_DEPENDENCY_GRAPH.tool
async def code_dependency_graph(args: GraphArgs) -> GraphResult:
    """Find the modules by their names and places, then the imports among them."""
    skipped = Skipped()
    read = list(sources(args.path, skipped))
    modules = _Modules(source.path for source in read)
    edges, external = dict[tuple[str, str, bool], Edge](), set[str]()
    for source in read:
        own = modules.by_path[source.path]
        for name, line, later in _imports(source, own):
            target = modules.find(name)
            if target is None:
                external |= {name.partition(".")[0]} - {""}
            elif target != own:
                edges.setdefault((own, target, later), Edge(own, target, line, later))
    graph: dict[str, set[str]] = {name: set() for name in modules.names}
    for edge in edges.values():
        if not edge.later:
            graph[edge.source].add(edge.target)
    share = output.room() // 4
    names, cut_names = output.cut_items(sorted(modules.names), 5000, share)
    kept, cut = output.cut_items(sorted(edges.values(), key=_order), 5000, share)
    circles, cut_circles = output.cut_items(cycles(graph), _MOST_CYCLES, share)
    outside, cut_outside = output.cut_items(sorted(external - {"__future__"}), 1000, share // 2)
    return GraphResult(
        modules=names,
        imports=kept,
        cycles=circles,
        external=outside,
        truncated=cut or cut_names or cut_circles or cut_outside,
        skipped=skipped.told,
    )


def _order(edge: Edge) -> tuple[str, str, bool]:
    return edge.source, edge.target, edge.later


class _Modules:
    """Names modules by their packages: names begin at the first directory upwards that is no package."""

    def __init__(self, paths: Iterator[str]) -> None:
        self._paths = set(paths)
        self.by_path = {path: self._name(path) for path in sorted(self._paths)}
        self.names = set(self.by_path.values())
        # A directory without __init__.py is a package too, where something imports it by its whole place.
        self._places = {_dotted(path): name for path, name in self.by_path.items()}

    def find(self, name: str) -> str | None:
        """Return the module that a dotted name means, or the one it is an attribute of; None for one from elsewhere."""
        while name:
            for known in (name, self._places.get(name, "")):
                if known in self.names:
                    return known
            name = name.rpartition(".")[0]
        return None

    def _name(self, path: str) -> str:
        folder = path.rpartition("/")[0]
        while folder and f"{folder}/__init__.py" in self._paths:
            folder = folder.rpartition("/")[0]
        return _dotted(files.shown(path.removeprefix(f"{folder}/") if folder else path))


def _dotted(path: str) -> str:
    name = path.removesuffix(".py").replace("/", ".")
    return name.removesuffix(".__init__") or name


def _imports(source: Source, own: str) -> Iterator[tuple[str, int, bool]]:
    """Yield the dotted names that a file imports, with line, and if that is not while it is loaded."""
    package = own if source.path.endswith("__init__.py") else own.rpartition(".")[0]
    waiting: list[tuple[ast.AST, bool]] = [(source.tree, False)]
    while waiting:
        node, later = waiting.pop()
        if isinstance(node, ast.Import):
            yield from ((alias.name, node.lineno, later) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = _absolute(node, package)
            yield from (
                (base if alias.name == "*" else f"{base}.{alias.name}".lstrip("."), node.lineno, later)
                for alias in node.names
            )
        else:
            below = later or isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) or _for_types(node)
            waiting += ((child, below) for child in ast.iter_child_nodes(node) if isinstance(child, _HOLDERS))


_HOLDERS: Final = (ast.stmt, ast.ExceptHandler, ast.match_case)


def _absolute(node: ast.ImportFrom, package: str) -> str:
    if not node.level:
        return node.module or ""
    parts = package.split(".") if package else []
    base = parts[: len(parts) - (node.level - 1)] if node.level <= len(parts) + 1 else []
    return ".".join([*base, *([node.module] if node.module else [])])


def _for_types(node: ast.AST) -> bool:
    match node:
        case ast.If(test=ast.Name(id="TYPE_CHECKING") | ast.Attribute(attr="TYPE_CHECKING"), orelse=[]):
            return True
        case _:
            return False


def cycles(graph: Mapping[str, set[str]]) -> Iterator[list[str]]:
    """Yield a shortest circle of each strongly connected part, begun at its first name."""
    for part in parts(graph):
        if len(part) > 1:
            yield _circle(graph, part)


def _circle(graph: Mapping[str, set[str]], part: set[str]) -> list[str]:
    start = min(part)
    paths = [[start]]
    seen = {start}
    for path in paths:  # grows as it is walked: the first way back is a shortest one
        for name in sorted((graph[path[-1]] - {path[-1]}) & part):
            if name == start:
                return path
            if name not in seen:
                seen.add(name)
                paths.append([*path, name])
    return [start]


def parts(graph: Mapping[str, set[str]]) -> Iterator[set[str]]:
    """Yield the strongly connected parts of a graph (Kosaraju's two walks, without recursion)."""
    order: list[str] = []
    seen: set[str] = set()
    for start in sorted(graph):
        waiting = [] if start in seen else [(start, iter(sorted(graph[start])))]
        seen.add(start)
        while waiting:
            name, following = waiting[-1]
            fresh = next((each for each in following if each not in seen), None)
            if fresh is None:
                order.append(name)
                waiting.pop()
            else:
                seen.add(fresh)
                waiting.append((fresh, iter(sorted(graph[fresh]))))
    turned: dict[str, set[str]] = {name: set() for name in graph}
    for name, targets in graph.items():
        for target in targets:
            turned[target].add(name)
    done: set[str] = set()
    for start in reversed(order):
        if start in done:
            continue
        part, stack = set[str](), [start]
        while stack:
            name = stack.pop()
            if name not in done:
                done.add(name)
                part.add(name)
                stack += turned[name] - done
        yield part


TOOLS: Final = (CODE_DEPENDENCY_GRAPH,)
