"""A turn takes the walk of the request path in docs/design.md, in its order; `tests/test_walks.py` holds the rest."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from types import FrameType

from gateway_world import world

ROOT = Path(__file__).parents[2]
BEGIN, END = "<!-- walk: request path -->\n", "<!-- end of walk -->"
Place = tuple[str, str]


def stations() -> list[Place]:
    """The file and the function of each row."""
    table = (ROOT / "docs/design.md").read_text().split(BEGIN)[1].split(END)[0]
    rows = [[cell.strip(" `") for cell in line.strip("|").split("|")] for line in table.splitlines()[2:]]
    return [(file, function) for _, file, function in rows]


def strayed(walk: Sequence[Place], passed: Sequence[Place]) -> list[Place]:
    """The stations that a turn passed in another order, or not at all; `passed` has each function once."""
    taken = [place for place in passed if place in walk]
    return [place for number, place in enumerate(walk) if taken[number : number + 1] != [place]]


async def test_a_turn_takes_the_walk(tmp_path: Path) -> None:
    """A stream goes through a gateway: it passes every station for the first time in the order of the table."""
    passed: dict[Place, None] = {}

    def note(frame: FrameType, event: str, _: object) -> None:
        file = frame.f_code.co_filename
        if event == "call" and file.startswith(f"{ROOT}/epad/"):
            passed.setdefault((str(Path(file).relative_to(ROOT)), frame.f_code.co_qualname))

    async with world(tmp_path) as w:
        before = sys.getprofile()
        sys.setprofile(note)
        try:
            status, _, _ = await w.chat(stream=True)
            await w.closings(1)
        finally:
            sys.setprofile(before)
    assert status == 200
    assert len(stations()) > 10
    assert strayed(stations(), list(passed)) == []


def test_a_planted_detour_is_found() -> None:
    """Two stations in the other order, and one that no turn passes."""
    a, b, c = ("a.py", "a"), ("b.py", "b"), ("c.py", "c")
    assert strayed([a, b], [a, c, b]) == []
    assert strayed([a, b], [b, a]) == [a, b]
    assert strayed([a, c, b], [a, b]) == [c, b]
