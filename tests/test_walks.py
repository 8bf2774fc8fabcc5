"""The walks in docs/design.md: each names functions that exist, in at most ten files, in the order of the path."""

from __future__ import annotations

import ast
import itertools
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
DOCUMENT = ROOT / "docs/design.md"
WALK = re.compile(r"<!-- walk: (.+?) -->\n(.*?)<!-- end of walk -->", re.DOTALL)
HEAD = ["| station | file | function |", "|---|---|---|"]
MOST_FILES = 10
MOST_LINES = 60
Function = ast.FunctionDef | ast.AsyncFunctionDef


@dataclass(frozen=True, slots=True)
class Station:
    """One row. `is_path` marks the function that names the stations after it: its row is in bold."""

    name: str
    file: str
    function: str
    is_path: bool

    @property
    def called(self) -> str:
        """The word by which it is called; a part that is handed in is often kept under a private name."""
        return self.function.rpartition(".")[2].lstrip("_")


def walks(text: str) -> dict[str, list[Station]]:
    """Read every walk of a document. Raises ValueError for one that is not such a table."""
    found = {}
    for name, body in WALK.findall(text):
        head, rows = body.strip().splitlines()[:2], body.strip().splitlines()[2:]
        if head != HEAD or not rows:
            raise ValueError(f"{name}: no table of stations")
        found[name] = [station(row) for row in rows]
    return found


def station(row: str) -> Station:
    """Read `| station | `file` | `function` |`; the row of the path has its station in bold."""
    name, file, function = (cell.strip() for cell in row.strip().strip("|").split("|"))
    return Station(name.strip("* "), file.strip("`"), function.strip("`"), name.startswith("**"))


def functions(source: str) -> dict[str, Function]:
    """Return the functions of a file by name, a method as `Class.method`."""
    found: dict[str, Function] = {}
    for node in ast.parse(source).body:
        if isinstance(node, Function):
            found[node.name] = node
        elif isinstance(node, ast.ClassDef):
            found |= {f"{node.name}.{one.name}": one for one in node.body if isinstance(one, Function)}
    return found


def words(nodes: Iterable[ast.AST]) -> list[str]:
    """Return the last words of names and attributes, in their order, without their leading underscores."""
    used = [node for node in nodes if isinstance(node, ast.Name | ast.Attribute)]
    used.sort(key=lambda node: (node.end_lineno or 0, node.end_col_offset or 0))
    return [(node.id if isinstance(node, ast.Name) else node.attr).lstrip("_") for node in used]


def calls(tree: ast.AST) -> list[str]:
    """Return the functions that a piece of code calls, in its order."""
    return words(node.func for node in ast.walk(tree) if isinstance(node, ast.Call))


def faults(stations: list[Station], root: Path = ROOT) -> Iterator[str]:
    """Say what is wrong with a walk."""
    for one in stations:
        if not (root / one.file).is_file():
            yield f"{one.name}: no file {one.file}"
        elif one.function not in functions((root / one.file).read_text()):
            yield f"{one.name}: no function {one.function} in {one.file}"
    files = {one.file for one in stations}
    if len(files) > MOST_FILES:
        yield f"{len(files)} files are more than {MOST_FILES}"
    if not all((root / file).is_file() for file in files):
        return
    yield from faults_of_path(stations, root)


def faults_of_path(stations: list[Station], root: Path) -> Iterator[str]:
    """Say where the function in bold does not read as the path: too long, or its stations in another order.

    A station after it is called by it, or from a file of the walk. Those that it calls itself come in its order.
    """
    paths = [place for place, one in enumerate(stations) if one.is_path]
    if len(paths) != 1:
        yield from [f"{len(paths)} rows are in bold, and one function is the path"] if paths else []
        return
    path, after = stations[paths[0]], stations[paths[0] + 1 :]
    body = functions((root / path.file).read_text()).get(path.function)
    if body is None:
        return
    if (lines := (body.end_lineno or 0) - body.lineno + 1) >= MOST_LINES:
        yield f"{path.function} has {lines} lines, and {MOST_LINES} are too many"
    named = calls(body)
    places = [(named.index(one.called), one) for one in after if one.called in named]
    for (before, one), (place, other) in itertools.pairwise(places):
        if place < before:
            yield f"{other.name}: called before {one.name}"
    near = {word for one in stations for word in words(ast.walk(ast.parse((root / one.file).read_text())))}
    yield from (f"{one.name}: not called on the walk" for one in after if one.called not in near)
    if len(places) < 2:
        yield f"{path.function} names {len(places)} of its stations"


FOUND = walks(DOCUMENT.read_text())


@pytest.mark.parametrize("name", FOUND)
def test_a_walk_names_what_is_there(name: str) -> None:
    """Each file and function, and the order in which the path calls them."""
    assert list(faults(FOUND[name])) == []


def test_the_control_path_is_walked() -> None:
    """A document without walks proves nothing, and one without a path in bold little."""
    assert [one.function for one in FOUND["control path"] if one.is_path] == ["Controller.run_cycle"]


PLANTED = """
<!-- walk: toy -->
| station | file | function |
|---|---|---|
| Find | `a.py` | `Probe.look` |
| **The path** | `a.py` | `cycle` |
| Assess | `b.py` | `Assessor.observe` |
| Act | `b.py` | `act` |
<!-- end of walk -->
"""
A = """
class Probe:
    def look(self): ...
async def cycle(self):
    await self.decider.observe(1)
    return act()
"""
B = """
class Assessor:
    def observe(self): ...
async def act(): ...
"""


@pytest.mark.parametrize(
    ("walk", "a", "fault"),
    [
        (PLANTED, A, ""),
        (PLANTED.replace("`b.py` | `act`", "`c.py` | `act`"), A, "Act: no file c.py"),
        (PLANTED.replace("Assessor.observe", "observe"), A, "Assess: no function observe in b.py"),
        (PLANTED.replace("Find", "**Find**"), A, "2 rows are in bold, and one function is the path"),
        (PLANTED, A.replace("act()", "0"), "Act: not called on the walk"),
        (PLANTED, A.replace("    await", "    act()\n    await"), "Act: called before Assess"),
        (PLANTED, A + "    \n" * 60 + "    0\n", "cycle has 64 lines, and 60 are too many"),
    ],
)
def test_a_planted_fault_is_found(tmp_path: Path, walk: str, a: str, fault: str) -> None:
    """One that is gone, misspelt, not called, out of order or too long; and the whole one has none."""
    (tmp_path / "a.py").write_text(a)
    (tmp_path / "b.py").write_text(B)
    assert (fault or None) == next(faults(walks(walk)["toy"], tmp_path), None)


def test_too_many_files_are_found(tmp_path: Path) -> None:
    """A newcomer follows a path in ten minutes, through at most ten files."""
    (tmp_path / "a.py").write_text(A)
    rows = "".join(f"| Hop | `{number}.py` | `act` |\n" for number in range(MOST_FILES))
    for number in range(MOST_FILES):
        (tmp_path / f"{number}.py").write_text("async def act(): ...\n")
    walk = PLANTED.replace("| Act | `b.py` | `act` |\n", rows).replace(
        "| Assess | `b.py` | `Assessor.observe` |\n", ""
    )
    assert "11 files are more than 10" in list(faults(walks(walk)["toy"], tmp_path))


@pytest.mark.parametrize(
    "walk", ["<!-- walk: x -->\n<!-- end of walk -->", PLANTED.replace("station |", "place |")]
)
def test_a_walk_that_is_no_table_is_refused(walk: str) -> None:
    """An empty one would hold nothing."""
    with pytest.raises(ValueError, match="no table of stations"):
        walks(walk)
