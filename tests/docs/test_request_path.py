"""The walk of the request path in docs/design.md: its files and functions exist, and a turn takes it in that order."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import FrameType
from typing import NamedTuple

import pytest
from gateway_world import world

ROOT = Path(__file__).parents[2]
BEGIN, END = "<!-- request path -->\n", "<!-- end of request path -->"
PATH = "epad/gateway/request_path.py", "RequestPath.receive"
MOST_FILES, MOST_LINES = 10, 60


class Station(NamedTuple):
    """A row of the table."""

    name: str
    file: str
    function: str


def stations() -> list[Station]:
    table = (ROOT / "docs/design.md").read_text().split(BEGIN)[1].split(END)[0]
    rows = [[cell.strip(" `") for cell in line.strip("|").split("|")] for line in table.splitlines()[2:]]
    return [Station(name, file, function) for name, file, function, _ in rows]


def function_of(station: Station) -> ast.FunctionDef | ast.AsyncFunctionDef | None:
    """The function that a row names; None if there is none."""
    path = ROOT / station.file
    node: ast.AST | None = ast.parse(path.read_text()) if path.is_file() else None
    for name in station.function.split("."):
        named = ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef
        inside = node.body if isinstance(node, ast.Module | ast.ClassDef) else []
        node = next((each for each in inside if isinstance(each, named) and each.name == name), None)
    return node if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) else None


def faults(walk: Sequence[Station], passed: Sequence[tuple[str, str]]) -> Iterator[str]:
    """What a table says wrongly; `passed` are the functions that a turn went through, each at its first time."""
    if len({station.file for station in walk}) > MOST_FILES:
        yield f"more than {MOST_FILES} files"
    for station in walk:
        if function_of(station) is None:
            yield f"{station.name}: {station.file} has no {station.function}"
        elif (station.file, station.function) not in passed:
            yield f"{station.name}: no turn goes through {station.function}"
    told = [(station.file, station.function) for station in walk]
    if [each for each in passed if each in told] != [each for each in told if each in passed]:
        yield "a turn goes another way"


async def a_turn(directory: Path) -> list[tuple[str, str]]:
    """Have a stream go through a gateway, and list the functions of the daemon, each at its first call."""
    passed: dict[tuple[str, str], None] = {}

    def note(frame: FrameType, event: str, _: object) -> None:
        if event == "call" and frame.f_code.co_filename.startswith(f"{ROOT}/epad/"):
            passed.setdefault(
                (str(Path(frame.f_code.co_filename).relative_to(ROOT)), frame.f_code.co_qualname)
            )

    async with world(directory) as w:
        sys.setprofile(note)
        try:
            status, _, _ = await w.chat(stream=True)
            await w.closings(1)
        finally:
            sys.setprofile(None)
    assert status == 200
    return list(passed)


async def test_a_turn_takes_the_walk(tmp_path: Path) -> None:
    """Every row is a function that is there, every function is passed, in this order, and they are ten files."""
    assert stations()
    assert list(faults(stations(), await a_turn(tmp_path))) == []


def test_the_path_is_one_function_that_fits_a_screen() -> None:
    """With its stations in it by name, in the order of the table."""
    receive = function_of(Station("the path", *PATH))
    assert receive is not None
    assert receive.end_lineno is not None
    assert receive.end_lineno - receive.lineno + 1 < MOST_LINES
    called = {
        node.func.attr: node.lineno
        for node in ast.walk(receive)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)
    }
    names = ["identify", "_check_open", "_let_body_come", "_read", "admit", "open", "carry", "finish"]
    assert sorted(names, key=lambda name: called[name]) == names


@pytest.mark.parametrize(
    ("planted", "fault"),
    [
        (Station("x", "epad/gateway/nowhere.py", "A.b"), "x: epad/gateway/nowhere.py has no A.b"),
        (Station("x", "epad/gateway/turns.py", "Turns.away"), "x: epad/gateway/turns.py has no Turns.away"),
        (Station("x", "epad/gateway/turns.py", "Turns.drain"), "x: no turn goes through Turns.drain"),
    ],
)
def test_a_planted_row_is_found(planted: Station, fault: str) -> None:
    """A file or a function that is not there, and one that is on no way."""
    assert fault in faults([planted], [])


def test_a_walk_in_another_order_or_through_many_files_is_found() -> None:
    """The order is that of a turn."""
    walk = stations()
    passed = [(station.file, station.function) for station in walk]
    assert list(faults(walk, passed)) == []
    assert list(faults(walk[::-1], passed)) == ["a turn goes another way"]
    more = Station("one more", "epad/gateway/charge.py", "charge_answer")
    assert f"more than {MOST_FILES} files" in faults([*walk, more], passed)
