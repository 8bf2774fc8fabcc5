"""Place names beside the dots of a plot, so that none lies upon another; all in pixels."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

CHARACTER: Final = 6.8
"""A letter's width at most, at 11 pixels: DejaVu Sans is the widest font that browsers take for system-ui."""
LINE: Final = 13.0
RADIUS: Final = 4.0
GAP: Final = 8.0
CLEARANCE: Final = 10.0
"""More than the gap: a label that begins nearer to another dot than to its own would be read as that one's."""
STEPS: Final = 12


@dataclass(frozen=True, slots=True)
class Box:
    """A rectangle; y grows downwards."""

    left: float
    top: float
    right: float
    bottom: float

    def overlaps(self, other: Box) -> bool:
        apart = self.right <= other.left or other.right <= self.left
        return not (apart or self.bottom <= other.top or other.bottom <= self.top)

    def holds(self, other: Box) -> bool:
        across = self.left <= other.left and other.right <= self.right
        return across and self.top <= other.top and other.bottom <= self.bottom


@dataclass(frozen=True, slots=True)
class Label:
    """A name with its box; `moved` says that it stands so far off that a line should lead to it."""

    name: str
    box: Box
    is_left: bool
    moved: bool


def place(dots: Sequence[tuple[float, float, str]], frame: Box) -> list[Label]:
    """A label for each dot in turn: beside it where there is room, else higher or lower, on either side."""
    around = [Box(x - CLEARANCE, y - RADIUS, x + CLEARANCE, y + RADIUS) for x, y, _ in dots]
    placed: list[Label] = []
    for number, (x, y, name) in enumerate(dots):
        taken = [*around[:number], *around[number + 1 :], *(label.box for label in placed)]
        choices = list(_choices(x, y, name))
        free = (one for one in choices if frame.holds(one.box) and not any(map(one.box.overlaps, taken)))
        placed.append(next(free, choices[0]))
    return placed


def _choices(x: float, y: float, name: str) -> Iterator[Label]:
    width = CHARACTER * len(name)
    for step in range(STEPS):
        for up in (-1, 1) if step else (1,):
            middle = y + up * step * LINE
            for is_left in (False, True):
                start = x - GAP - width if is_left else x + GAP
                box = Box(start, middle - LINE / 2, start + width, middle + LINE / 2)
                yield Label(name, box, is_left, moved=step > 0)
