"""GPU memory: how much is in use now, by whom, and how that came about over the last hours."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from epad.answers.status import Gpu
from epad.formatting.gpus import gpu_lines
from epad.formatting.text import duration
from epad.web.html import Html, tag

WIDTH, HEIGHT = 720, 96
GIB = 1 << 30
# Two minutes without a reading are a hole, and are drawn as one.
_HOLE_SECONDS = 150.0

Point = Sequence[float]


def gpu_list(gpus: Sequence[Gpu]) -> Html:
    """Render each GPU in words, and under it the line of its memory."""
    return tag("ul", (tag("li", _words(gpu), _chart(gpu)) for gpu in gpus), class_="gpus")


def _words(gpu: Gpu) -> Html:
    return tag("p", "; ".join(line.strip() for line in gpu_lines([gpu])))


def _chart(gpu: Gpu) -> Html | None:
    """Render the share in use against time, now at the right edge. Its label has the same facts."""
    history, total = gpu["history"], gpu["total_bytes"]
    if len(history) < 2 or not total:
        return None
    span = max(age for age, _ in history)
    used = [value for _, value in history]
    about = (
        f"memory of GPU {gpu['gpu']} over the last {duration(span)}: "
        f"from {min(used) / GIB:.1f} to {max(used) / GIB:.1f} of {total / GIB:.1f} GiB"
    )
    lines = [
        tag("polyline", points=" ".join(points), class_="line") for points in _lines(history, span, total)
    ]
    return tag(
        "figure",
        tag(
            "svg",
            tag("rect", width=WIDTH, height=HEIGHT, class_="rail"),
            tag("line", x1=0, y1=HEIGHT / 2, x2=WIDTH, y2=HEIGHT / 2, class_="grid"),
            lines,
            viewBox=f"0 0 {WIDTH} {HEIGHT}",
            preserveAspectRatio="none",
            role="img",
            aria_label=about,
        ),
        tag(
            "figcaption",
            tag("span", f"{duration(span)} ago"),
            tag("span", f"top edge: {total / GIB:.1f} GiB"),
            tag("span", "now"),
        ),
        class_="vram",
    )


def _lines(history: Sequence[Point], span: float, total: int) -> Iterator[list[str]]:
    """Yield the points of each unbroken stretch, oldest first."""
    stretch: list[str] = []
    before = None
    for age, used in history:
        if before is not None and before - age > _HOLE_SECONDS:
            yield stretch
            stretch = []
        x, y = WIDTH * (1 - age / span), HEIGHT * (1 - min(1.0, used / total))
        stretch.append(f"{x:.1f},{y:.1f}")
        before = age
    yield stretch
