"""The report's plots, as SVG text."""

from __future__ import annotations

import functools
import io
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, ParamSpec

from matplotlib import style
from matplotlib.axes import Axes
from matplotlib.figure import Figure

Arguments = ParamSpec("Arguments")

STYLE: Final = ("default", {"svg.hashsalt": "hsaq", "svg.fonttype": "none"})


def drawn(plot: Callable[Arguments, Figure]) -> Callable[Arguments, str]:
    """The plot as SVG in matplotlib's own style, whatever the user's matplotlibrc says; no date, no random ids."""

    @functools.wraps(plot)
    def draw(*arguments: Arguments.args, **named: Arguments.kwargs) -> str:
        text = io.StringIO()
        with style.context(STYLE):
            plot(*arguments, **named).savefig(
                text, format="svg", metadata={"Date": None}, bbox_inches="tight"
            )
        svg = text.getvalue()
        return svg[svg.index("<svg") :]

    return draw


def _axes(width: float, height: float) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(width, height))
    return figure, figure.add_subplot()


def _legend(axes: Axes, corner: str) -> None:
    """In a corner that is named: matplotlib's search for the best one warns when it took a busy machine a second."""
    axes.legend(loc=corner)


@drawn
def bits_map(layers: Mapping[str, Mapping[str, Any]]) -> Figure:
    """Blocks across, modules down, the bits of each as colour and number."""
    blocks = sorted({int(name.split(".")[2]) for name in layers})
    modules = list(dict.fromkeys(name.split(".", 3)[3] for name in layers))
    figure, axes = _axes(1.5 + 0.35 * len(blocks), 0.8 + 0.32 * len(modules))
    table = [
        [layers[f"model.layers.{block}.{module}"]["bits"] for block in blocks]
        if all(f"model.layers.{block}.{module}" in layers for block in blocks)
        else [0 for _ in blocks]
        for module in modules
    ]
    axes.imshow(table, aspect="auto", cmap="viridis", vmin=2, vmax=8)
    for y, row in enumerate(table):
        for x, bits in enumerate(row):
            axes.text(
                x, y, str(bits), ha="center", va="center", color="white" if bits < 6 else "black", fontsize=8
            )
    axes.set_xticks(range(len(blocks)), [str(block) for block in blocks])
    axes.set_yticks(range(len(modules)), modules)
    axes.set_xlabel("block")
    return figure


@drawn
def signals(rows: Sequence[Mapping[str, Any]]) -> Figure:
    """Plot each layer at each number of bits: Fisher's score against drift, and against KL if that was measured."""
    figure, axes = _axes(6, 4)
    for name, mark in (("drift", "o"), ("kl", "x")):
        points = [(row[name], row["fisher"]) for row in rows if row.get(name) and row["fisher"]]
        if points:
            axes.scatter(
                [x for x, _ in points], [y for _, y in points], s=14, marker=mark, label=name, alpha=0.7
            )
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xlabel("drift (a share), KL (nats)")
    axes.set_ylabel("Fisher (nats)")
    _legend(axes, "upper left")
    return figure


@drawn
def pareto(points: Sequence[Sequence[float]], chosen: tuple[int, float]) -> Figure:
    """Least loss at each size, and the size that was chosen."""
    figure, axes = _axes(6, 3.5)
    axes.plot([x for x, _ in points], [y for _, y in points], marker=".")
    axes.plot([chosen[0]], [chosen[1]], marker="o", linestyle="", label="chosen")
    axes.set_yscale("symlog", linthresh=1e-6)
    axes.set_xlabel("bytes of the layers")
    axes.set_ylabel("sum of the signal")
    _legend(axes, "upper right")
    return figure


@drawn
def deltas(values: Sequence[float]) -> Figure:
    """Plot every window's change of loss, in order of size."""
    figure, axes = _axes(6, 3)
    axes.bar(range(len(values)), sorted(values), width=1.0)
    axes.axhline(0, color="black", linewidth=0.8)
    axes.set_xlabel(f"windows, n={len(values)}")
    axes.set_ylabel("nats a token")
    return figure
