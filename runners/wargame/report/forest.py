"""Draw rates with their intervals under each other, a part in each line."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape
from typing import Final

from runners.wargame.report.plots import UNIT, percent
from runners.wargame.report.rates import Rates
from runners.wargame.report.statistics import Proportion

WIDTH: Final = 860
NAMES: Final = 270
RIGHT: Final = 24
ROW: Final = 24
BOTTOM: Final = 26
NAME_CHARACTERS: Final = 40
MOST_PARTS: Final = 24
"""Parts shown; an imported set may have hundreds of families, and the table has them all."""


def forest(title: str, whole: Mapping[str, Rates], parts: Mapping[str, Rates]) -> str:
    """Return the whole runs first, then their parts, the largest if there are too many."""
    shown = sorted(parts, key=lambda name: -_rounds(parts[name]))[:MOST_PARTS]
    more = f"; the {MOST_PARTS} with the most rounds of {len(parts)}" if len(parts) > MOST_PARTS else ""
    rows = [*whole.items(), *((name, parts[name]) for name in sorted(shown))]
    height = ROW * len(rows) + BOTTOM
    body = "".join(_row(number, name, one, len(whole)) for number, (name, one) in enumerate(rows))
    keys = '<span class="key dot a">catch</span><span class="key dot b">false alarm</span>'
    return (
        f'<figure class="all"><figcaption>{escape(title + more)}<div class="keys">{keys}</div></figcaption>'
        f'<div class="wide"><svg class="forest" viewBox="0 0 {WIDTH} {height}" role="img" '
        f'aria-label="{escape(title)}">{_axis(height)}{body}</svg></div></figure>'
    )


def _rounds(rates: Rates) -> int:
    return rates.catch.trials + rates.false_alarm.trials


def _row(number: int, name: str, rates: Rates, heads: int) -> str:
    middle = ROW * number + ROW / 2
    short = name if len(name) <= NAME_CHARACTERS else f"{name[: NAME_CHARACTERS - 1]}\N{HORIZONTAL ELLIPSIS}"
    kind = " head" if number == 0 else ""
    parted = f'<line class="grid" x1="0" x2="{WIDTH - RIGHT}" y1="{ROW * number}" y2="{ROW * number}"/>'
    return (
        (parted if number == heads else "")
        + f'<text class="end{kind}" x="{NAMES - 12}" y="{middle + 4}">{escape(short)}</text>'
        + _interval("a", f"{name}: catch", rates.catch, middle - 4)
        + _interval("b", f"{name}: false alarm", rates.false_alarm, middle + 4)
    )


def _interval(kind: str, said: str, share: Proportion, y: float) -> str:
    if share.rate is None or share.interval is None:
        return ""
    low, high = map(_x, share.interval)
    return (
        f'<line class="line {kind}" x1="{low:.1f}" x2="{high:.1f}" y1="{y}" y2="{y}"/>'
        f'<circle class="dot {kind}" cx="{_x(share.rate):.1f}" cy="{y}" r="3.5">'
        f"<title>{escape(f'{said} {share}')}</title></circle>"
    )


def _axis(height: int) -> str:
    base = height - BOTTOM
    return "".join(
        f'<line class="grid" x1="{_x(tick):.1f}" x2="{_x(tick):.1f}" y1="0" y2="{base}"/>'
        f'<text class="mid" x="{_x(tick):.1f}" y="{base + 18}">{percent(tick)}</text>'
        for tick in UNIT
    )


def _x(share: float) -> float:
    return NAMES + share * (WIDTH - NAMES - RIGHT)
