"""Plots as inline SVG: no script, no network, readable in light and in dark."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from html import escape
from typing import Final

from runners.wargame.report.labels import LINE, Box, place

WIDTH: Final = 420
HEIGHT: Final = 280
LEFT: Final = 48
RIGHT: Final = 24
TOP: Final = 18
BOTTOM: Final = 42

Points = Sequence[tuple[float, float]]


@dataclass(frozen=True, slots=True)
class Axis:
    """Describes a range, its ticks and its measure."""

    label: str
    low: float
    high: float
    ticks: Sequence[float]
    shown: Callable[[float], str] = "{:g}".format

    def share(self, value: float) -> float:
        """Return the place of a value, from 0 to 1."""
        span = self.high - self.low
        return min(1.0, max(0.0, (value - self.low) / span)) if span else 0.5


def percent(value: float) -> str:
    """Return a share as people read it."""
    return f"{100 * value:g}%"


UNIT: Final = (0.0, 0.25, 0.5, 0.75, 1.0)


def unit_axis(label: str) -> Axis:
    """Scale from 0 to 100 %."""
    return Axis(label, 0.0, 1.0, UNIT, percent)


def nice_axis(label: str, values: Iterable[float]) -> Axis:
    """Scale from 0 in steps of 1, 2 or 5 times a power of ten to just above every value."""
    top = max([*values, 0.0]) or 1.0
    power = 10.0 ** math.floor(math.log10(top / 5))
    step = next(power * factor for factor in (1, 2, 5, 10) if power * factor * 5 >= top)
    ticks = [step * number for number in range(math.ceil(top / step) + 1)]
    return Axis(label, 0.0, ticks[-1], ticks)


class Plot:
    """Draws one plot; coordinates are in the axes' units."""

    def __init__(self, title: str, x: Axis, y: Axis) -> None:
        self._title = title
        self._x = x
        self._y = y
        self._parts: list[str] = []

    def line(self, points: Points, kind: str = "a") -> Plot:
        """Return a line through points."""
        joined = " ".join(f"{self._px(x):.1f},{self._py(y):.1f}" for x, y in points)
        self._parts.append(f'<polyline class="line {kind}" points="{joined}"/>')
        return self

    def band(self, lows: Points, highs: Points, kind: str = "a") -> Plot:
        """Return the area between two lines: an interval."""
        around = [*lows, *reversed(highs)]
        joined = " ".join(f"{self._px(x):.1f},{self._py(y):.1f}" for x, y in around)
        self._parts.append(f'<polygon class="band {kind}" points="{joined}"/>')
        return self

    def dots(self, points: Sequence[tuple[float, float, str]], kind: str = "a") -> Plot:
        """Draw dots with their labels for the pointer."""
        for x, y, said in points:
            self._parts.append(
                f'<circle class="dot {kind}" cx="{self._px(x):.1f}" cy="{self._py(y):.1f}" r="4">'
                f"<title>{escape(said)}</title></circle>"
            )
        return self

    def names(self, points: Sequence[tuple[float, float, str]]) -> Plot:
        """Return a name beside each of some dots."""
        dots = [(self._px(x), self._py(y), said) for x, y, said in points]
        frame = Box(LEFT, TOP - LINE / 2, WIDTH - RIGHT, HEIGHT - BOTTOM)
        for (x, y, _), label in zip(dots, place(dots, frame), strict=True):
            at, middle = (
                label.box.right if label.is_left else label.box.left,
                (label.box.top + label.box.bottom) / 2,
            )
            if label.moved:
                self._parts.append(
                    f'<line class="lead" x1="{x:.1f}" y1="{y:.1f}" x2="{at:.1f}" y2="{middle:.1f}"/>'
                )
            side = " end" if label.is_left else ""
            self._parts.append(
                f'<text class="said{side}" x="{at:.1f}" y="{middle + 4:.1f}">{escape(label.name)}</text>'
            )
        return self

    def mark(self, x: float, said: str) -> Plot:
        """Return a vertical line that means something, with its name on top."""
        at = self._px(x)
        self._parts.append(
            f'<line class="mark" x1="{at:.1f}" x2="{at:.1f}" y1="{TOP}" y2="{HEIGHT - BOTTOM}"/>'
            f'<text class="said" x="{at - 4:.1f}" y="{TOP - 5}">{escape(said)}</text>'
        )
        return self

    def svg(self, legend: Sequence[tuple[str, str]] = ()) -> str:
        """Return the whole plot with its axes, under its title and legend."""
        keys = "".join(f'<span class="key {kind}">{escape(text)}</span>' for kind, text in legend)
        return (
            f'<figure><figcaption>{escape(self._title)}<div class="keys">{keys}</div></figcaption>'
            f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(self._title)}">'
            f"{self._axes()}{''.join(self._parts)}</svg></figure>"
        )

    def _axes(self) -> str:
        parts = []
        for tick in self._y.ticks:
            y = self._py(tick)
            parts.append(f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>')
            parts.append(
                f'<text class="tick end" x="{LEFT - 6}" y="{y + 4:.1f}">{self._y.shown(tick)}</text>'
            )
        for tick in self._x.ticks:
            x = self._px(tick)
            parts.append(
                f'<text class="tick mid" x="{x:.1f}" y="{HEIGHT - BOTTOM + 16}">{self._x.shown(tick)}</text>'
            )
        middle, centre = (TOP + HEIGHT - BOTTOM) / 2, (LEFT + WIDTH - RIGHT) / 2
        x_name, y_name = escape(self._x.label), escape(self._y.label)
        parts.append(f'<text class="label mid" x="{centre}" y="{HEIGHT - 6}">{x_name}</text>')
        turned = f'transform="rotate(-90 12 {middle})"'
        parts.append(f'<text class="label mid" x="12" y="{middle}" {turned}>{y_name}</text>')
        return "".join(parts)

    def _px(self, value: float) -> float:
        return LEFT + self._x.share(value) * (WIDTH - LEFT - RIGHT)

    def _py(self, value: float) -> float:
        return HEIGHT - BOTTOM - self._y.share(value) * (HEIGHT - BOTTOM - TOP)
