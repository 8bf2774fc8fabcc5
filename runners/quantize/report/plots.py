"""The report's plots, as SVG text."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure


def _svg(figure: Figure) -> str:
    """The drawing without date or random ids, so that equal reports are equal bytes."""
    import matplotlib as mpl  # noqa: PLC0415 - beside the setting that needs it

    text = io.StringIO()
    with mpl.rc_context({"svg.hashsalt": "hsaq", "svg.fonttype": "none"}):
        figure.savefig(text, format="svg", metadata={"Date": None}, bbox_inches="tight")
    drawn = text.getvalue()
    return drawn[drawn.index("<svg") :]


def _axes(width: float, height: float) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(width, height))
    return figure, figure.add_subplot()


def bits_map(layers: Mapping[str, Mapping[str, Any]]) -> str:
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
    return _svg(figure)


def signals(rows: Sequence[Mapping[str, Any]]) -> str:
    """Each layer at each number of bits: Fisher's score against drift, and against KL where that was measured."""
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
    axes.legend()
    return _svg(figure)


def pareto(points: Sequence[Sequence[float]], chosen: tuple[int, float]) -> str:
    """Least loss at each size, and the size that was chosen."""
    figure, axes = _axes(6, 3.5)
    axes.plot([x for x, _ in points], [y for _, y in points], marker=".")
    axes.plot([chosen[0]], [chosen[1]], marker="o", linestyle="", label="chosen")
    axes.set_yscale("symlog", linthresh=1e-6)
    axes.set_xlabel("bytes of the layers")
    axes.set_ylabel("sum of the signal")
    axes.legend()
    return _svg(figure)


def deltas(values: Sequence[float]) -> str:
    """Every window's change of loss, in order of size."""
    figure, axes = _axes(6, 3)
    axes.bar(range(len(values)), sorted(values), width=1.0)
    axes.axhline(0, color="black", linewidth=0.8)
    axes.set_xlabel(f"windows, n={len(values)}")
    axes.set_ylabel("nats a token")
    return _svg(figure)
