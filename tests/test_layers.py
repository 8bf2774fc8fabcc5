"""The layers inside epad/: an import goes down, or sideways to a room named before; and nothing runs in a circle.

Imports inside functions count, those for types alone too, and the modules that are started as children by their name.
"""

from __future__ import annotations

import ast
import graphlib
import itertools
from collections.abc import Iterator, Mapping

import pytest
from rooms import LAYERS, RANK, ROOT, between_files, between_rooms, imports, parsed

# Folders of tests/ that are no room of epad/: the other packages, and what drives the installed program.
OTHER_TESTS = {
    *("probes", "statemachine", "runners"),
    *("ci", "container", "docs", "monitoring", "systemd"),
    *("e2e", "faults", "real", "support"),
}


def wrong_way(file: str, tree: ast.Module) -> Iterator[str]:
    """Say which imports of a file go up."""
    own = file.split("/")[1]
    for line, module in imports(tree):
        room = module.split(".")[1]
        if {room, own} <= RANK.keys() and RANK[room] > RANK[own]:
            yield f"{file}:{line}: {own} imports {room}"


def circle(graph: Mapping[str, set[str]]) -> list[str]:
    """One circle of a graph; empty if it has none."""
    try:
        graphlib.TopologicalSorter(graph).prepare()
    except graphlib.CycleError as error:
        return list(error.args[1])
    return []


def test_nothing_lies_about() -> None:
    """Every module has a room, and every room a place among the layers."""
    assert [path.name for path in (ROOT / "epad").glob("*.py")] == ["__init__.py"]
    rooms = {file.split("/")[1] for file in parsed() if file.count("/") > 1}
    assert rooms == RANK.keys()


def test_tests_mirror_the_rooms() -> None:
    """Whoever knows where the code is knows where its tests are."""
    folders = {path.name for path in (ROOT / "tests").iterdir() if any(path.glob("**/*.py"))}
    assert folders - OTHER_TESTS <= RANK.keys()


def test_imports_only_go_down() -> None:
    """No exceptions."""
    rooms = {file: tree for file, tree in parsed().items() if file.count("/") > 1}
    assert [fault for file, tree in rooms.items() for fault in wrong_way(file, tree)] == []


def test_nothing_runs_in_a_circle() -> None:
    """Neither files nor rooms."""
    files = between_files(parsed())
    assert circle(files) == []
    assert circle(between_rooms(files)) == []
    assert sum(map(len, files.values())) > 1_000


PLANTED = [(below[-1], above[0]) for below, above in itertools.pairwise(LAYERS)]
SIDEWAYS = [(one, other) for layer in LAYERS for one, other in itertools.pairwise(layer)]


@pytest.mark.parametrize(("low", "high"), [*PLANTED, *SIDEWAYS])
@pytest.mark.parametrize(
    "code",
    [
        "from epad.{room}.x import y",
        "def late():\n    from epad.{room} import x",
        "if TYPE_CHECKING:\n    import epad.{room}.x",
        "ask_child('epad.{room}.x')",
        "ask_child(f'epad.{room}.{{name}}')",
    ],
)
def test_a_planted_import_upwards_is_found(low: str, high: str, code: str) -> None:
    """On every floor, in every form; and the same import the other way round is none."""
    (fault,) = wrong_way(f"epad/{low}/x.py", ast.parse(code.format(room=high)))
    assert fault.endswith(f": {low} imports {high}")
    assert list(wrong_way(f"epad/{high}/x.py", ast.parse(code.format(room=low)))) == []


def test_a_planted_circle_is_found() -> None:
    """Of two files of one room, by whichever form of import."""
    codes = {
        "epad/web/a.py": "from epad.web import b",
        "epad/web/b.py": "from epad.web.c import name",
        "epad/web/c.py": "def late():\n    import epad.web.a",
    }
    graph = between_files({file: ast.parse(code) for file, code in codes.items()})
    assert set(circle(graph)) == codes.keys()
    assert circle({file: others for file, others in graph.items() if file != "epad/web/c.py"}) == []
