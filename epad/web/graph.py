"""The subsystems as a graph of who depends on whom: laid out in levels, providers on the left."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from epad.answers.status import Subsystem
from epad.web.html import Html, join, tag

BOX_WIDTH, BOX_HEIGHT = 168, 44
GAP_X, GAP_Y, MARGIN = 56, 16, 4
NAME_CHARACTERS = 19


@dataclass(frozen=True, slots=True)
class Place:
    """Places a node: its column and its row, from 0."""

    column: int
    row: int

    @property
    def x(self) -> int:
        return MARGIN + self.column * (BOX_WIDTH + GAP_X)

    @property
    def y(self) -> int:
        return MARGIN + self.row * (BOX_HEIGHT + GAP_Y)


def layout(depends_on: Mapping[str, Sequence[str]]) -> dict[str, Place]:
    """A place for each node: one column right of the rightmost that it depends on, rows in the order given.

    Dependencies on nodes that are not there are left out. Configuration refuses circles.
    """
    columns: dict[str, int] = {}

    def column(name: str) -> int:
        if name not in columns:
            columns[name] = 1 + max(
                (column(other) for other in depends_on[name] if other in depends_on), default=-1
            )
        return columns[name]

    rows: dict[int, int] = {}
    places = {}
    for name in depends_on:
        at = column(name)
        places[name] = Place(at, rows.get(at, 0))
        rows[at] = rows.get(at, 0) + 1
    return places


def dependency_graph(subsystems: Sequence[Subsystem], victims: Collection[str] = ()) -> Html:
    """The graph as SVG, with the same told in words for who cannot see it; nothing if no one depends on anyone.

    Victims of another's failure have a dashed border.
    """
    depends_on = {s["name"]: s["depends_on"] for s in subsystems}
    if not any(depends_on.values()):
        return Html("")
    places = layout(depends_on)
    width = max(place.x for place in places.values()) + BOX_WIDTH + MARGIN
    height = max(place.y for place in places.values()) + BOX_HEIGHT + MARGIN
    arrows = [
        _arrow(places[other], places[name])
        for name, others in depends_on.items()
        for other in others
        if other in places
    ]
    boxes = [_box(s, places[s["name"]], victim=s["name"] in victims) for s in subsystems]
    svg = tag(
        "svg",
        tag("title", "who depends on whom"),
        tag("desc", _in_words(depends_on)),
        arrows,
        boxes,
        viewBox=f"0 0 {width} {height}",
        width=width,
        height=height,
        role="group",
    )
    picture = tag("div", svg, class_="graph", tabindex=0, role="group", aria_label="dependencies")
    return join(picture, _list(depends_on))


def _list(depends_on: Mapping[str, Sequence[str]]) -> Html:
    """Say the same as a list, which the style shows in place of a picture that is wider than a phone."""
    lines = (f"{name} depends on {', '.join(others)}" for name, others in depends_on.items() if others)
    return tag("ul", (tag("li", line) for line in lines), class_="dependencies")


def _box(subsystem: Subsystem, place: Place, *, victim: bool) -> Html:
    name, state = subsystem["name"], "hung" if subsystem["hung"] else subsystem["state"]
    shown = name if len(name) <= NAME_CHARACTERS else name[: NAME_CHARACTERS - 1] + "…"
    return tag(
        "a",
        tag("title", name) if shown != name else None,
        tag("rect", x=place.x, y=place.y, width=BOX_WIDTH, height=BOX_HEIGHT, rx=4),
        tag("text", shown, x=place.x + 12, y=place.y + 19, class_="name"),
        tag("text", f"{state}, victim" if victim else state, x=place.x + 12, y=place.y + 35, class_="state"),
        href=f"/subsystems/{name}",
        class_=f"node state-{state}{' victim' if victim else ''}",
    )


def _arrow(source: Place, target: Place) -> Html:
    x1, y1 = source.x + BOX_WIDTH, source.y + BOX_HEIGHT // 2
    x2, y2 = target.x, target.y + BOX_HEIGHT // 2
    middle = (x1 + x2) // 2
    return tag("path", d=f"M{x1},{y1} C{middle},{y1} {middle},{y2} {x2},{y2}", class_="arrow")


def _in_words(depends_on: Mapping[str, Sequence[str]]) -> str:
    return "; ".join(
        f"{name} depends on {', '.join(others)}" for name, others in depends_on.items() if others
    )
