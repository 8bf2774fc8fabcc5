"""The importance-weighted grid, llama.cpp's imatrix idea.

Each group's scale and zero are searched for the least error at the layer's output, input channels taken as
independent, then fitted to the codes by least squares.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import torch

from runners.quantize.grid import Grid, QuantizedWeight
from runners.quantize.solvers.rtn import codes_of, on_grid, range_grid, stored_scale
from runners.quantize.solvers.solver import InputStatistics
from runners.quantize.storage import Zero

SHRINKS: Final = tuple(1.0 - 0.04 * step for step in range(14))
"""Shares of the range that are tried; below half of it nothing was ever chosen."""


def weighted_error(
    groups: torch.Tensor, importance: torch.Tensor, scale: torch.Tensor, zero: torch.Tensor, top: int
) -> torch.Tensor:
    """Importance-weighted squared error of each group when rounded on this grid."""
    values = (codes_of(groups, scale, zero, top) - zero.unsqueeze(-1)) * scale.unsqueeze(-1)
    return ((values - groups).square() * importance).sum(-1)


def search_grid(
    groups: torch.Tensor, importance: torch.Tensor, grid: Grid
) -> tuple[torch.Tensor, torch.Tensor]:
    """The best scale and zero point for groups (..., group) with importance (..., group) or broadcastable."""
    scale, zero = range_grid(groups, grid)
    least = weighted_error(groups, importance, scale, zero, grid.top)
    for shrink in SHRINKS[1:]:
        candidate = range_grid(groups, grid, shrink)
        scale, zero, least = _keep_better(groups, importance, grid.top, (scale, zero, least), candidate)
    candidate = fitted(groups, importance, codes_of(groups, scale, zero, grid.top), zero, grid)
    scale, zero, _ = _keep_better(groups, importance, grid.top, (scale, zero, least), candidate)
    return scale, zero


def fitted(
    groups: torch.Tensor, importance: torch.Tensor, codes: torch.Tensor, zero: torch.Tensor, grid: Grid
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the least-squares scale (and float zero point) for codes that are given."""
    weight = importance.expand_as(groups)
    steps = codes - zero.unsqueeze(-1)
    scale = (weight * groups * steps).sum(-1) / (weight * steps * steps).sum(-1).clamp(min=1e-30)
    scale = stored_scale(scale, grid)
    if grid.zero is Zero.FLOAT:
        total = weight.sum(-1).clamp(min=1e-30)
        offset = (weight * (codes - groups / scale.unsqueeze(-1))).sum(-1) / total
        zero = offset.to(grid.scale_dtype).float()
    return scale, zero


def _keep_better(
    groups: torch.Tensor,
    importance: torch.Tensor,
    top: int,
    best: tuple[torch.Tensor, torch.Tensor, torch.Tensor],
    candidate: tuple[torch.Tensor, ...],
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    error = weighted_error(groups, importance, candidate[0], candidate[1], top)
    better = error < best[2]
    return (
        torch.where(better, candidate[0], best[0]),
        torch.where(better, candidate[1], best[1]),
        torch.where(better, error, best[2]),
    )


@dataclass(frozen=True, slots=True)
class Imatrix:
    """Weights each input channel by its mean square; no error feedback between channels."""

    name: str = "imatrix"

    def solve(
        self, weight: torch.Tensor, inputs: InputStatistics, grids: Sequence[Grid]
    ) -> list[QuantizedWeight]:
        """Search each group's grid, then round."""
        return [self._one(weight, inputs.importance, grid) for grid in grids]

    def _one(self, weight: torch.Tensor, importance: torch.Tensor, grid: Grid) -> QuantizedWeight:
        groups = weight.float().view(len(weight), -1, grid.group)
        scale, zero = search_grid(groups, importance.view(1, -1, grid.group), grid)
        return on_grid(grid, codes_of(groups, scale, zero, grid.top), scale, zero)
