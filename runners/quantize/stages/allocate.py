"""Allocate: from scores, bounds and bytes to bits for every layer. No tensor is touched."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from runners.quantize import sizes
from runners.quantize.allocation.exact import exact
from runners.quantize.allocation.greedy import greedy
from runners.quantize.allocation.problem import NANO, Allocation, Problem, build, fused_groups
from runners.quantize.cache import ScoreRow
from runners.quantize.fault import HsaqError
from runners.quantize.profiling import scores_by
from runners.quantize.run import Run
from runners.quantize.storage import UNQUANTIZED


def problem(
    run: Run, rows: Mapping[tuple[str, int], ScoreRow], kl: Mapping[tuple[str, int], float]
) -> Problem:
    """Return the run's allocation problem. Leaving a layer as it is costs its bytes and loses nothing."""
    settings, checkpoint = run.settings, run.checkpoint
    scores = scores_by(settings.signal, rows, kl)
    scores |= {(layer, UNQUANTIZED): 0.0 for layer in run.layers}
    missing = [(layer, b) for layer in run.layers for b in settings.bits if (layer, b) not in scores]
    if missing:
        raise HsaqError(f"{missing[0][0]}: no {settings.signal} score at {missing[0][1]} bits; profile first")
    return build(
        fused_groups(run.layers, fused=settings.fused),
        scores,
        lambda layer, bits: sizes.layer_bytes(checkpoint, settings.format, layer, bits, settings.group),
        settings.bits,
        settings.bounds,
        sizes.limit_bytes(checkpoint, run.layers, settings),
    )


def solve(run: Run, posed: Problem) -> Allocation:
    """By the allocator asked for."""
    return exact(posed) if run.settings.allocator == "exact" else greedy(posed)


def predicted(allocation: Allocation, rows: Mapping[tuple[str, int], ScoreRow]) -> dict[str, Any]:
    """Return the loss to expect.

    Fisher's sum is in nats whatever signal was allocated on; the others predict nothing.
    """
    nats = sum(rows[key].fisher for key in allocation.bits.items() if key in rows)
    return {"delta_nll": round(nats, 9), "objective": allocation.loss / NANO, "gap": allocation.gap}
