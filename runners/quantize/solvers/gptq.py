"""GPTQ: round one input channel after another and let the channels still to come make up for the error.

Groups keep their places, so every loader takes the result; the walk goes by the channels' power, the strongest first.
The remaining error is then reduced by descent.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from runners.quantize.grid import Grid, QuantizedWeight
from runners.quantize.solvers.descent import Candidate, descend
from runners.quantize.solvers.imatrix import search_grid
from runners.quantize.solvers.rtn import on_grid
from runners.quantize.solvers.solver import Curvature, InputStatistics


@dataclass(frozen=True, slots=True)
class Gptq:
    """Error feedback over the importance-weighted grid. `damping` is a share of the Gram's mean diagonal."""

    name: str = "gptq"
    damping: float = 0.03

    def solve(
        self, weight: torch.Tensor, inputs: InputStatistics, grids: Sequence[Grid]
    ) -> list[QuantizedWeight]:
        """Walk the channels once for all grids together: they are one batch, and one matrix product a group."""
        weight, curvature = weight.float(), inputs.curvature(self.damping)
        found = _start(weight, inputs.importance, grids)
        _walk(weight, found, curvature)
        descend(weight, found, curvature.matrix)
        return [on_grid(grid, found.codes[i], found.scale[i], found.zero[i]) for i, grid in enumerate(grids)]


def _start(weight: torch.Tensor, importance: torch.Tensor, grids: Sequence[Grid]) -> Candidate:
    """Return every group's grid, searched with the weights as they are; no codes yet."""
    group = grids[0].group
    groups, shares = weight.view(len(weight), -1, group), importance.view(1, -1, group)
    searched = [search_grid(groups, shares, grid) for grid in grids]
    scale, zero = (torch.stack(parts) for parts in zip(*searched, strict=True))
    tops = torch.tensor([grid.top for grid in grids], device=weight.device).view(-1, 1)
    return Candidate(
        weight.new_empty(len(grids), *weight.shape), scale, zero, tops, group, grids[0].scale_dtype
    )


def _walk(weight: torch.Tensor, found: Candidate, curvature: Curvature) -> None:
    """Fill in the codes."""
    order, factor = curvature.order, curvature.factor
    left = weight[:, order].repeat(len(found.codes), 1, 1)
    scale, zero = (found.by_column(part)[..., order] for part in (found.scale, found.zero))
    codes = torch.empty_like(left)
    for start in range(0, left.shape[-1], found.group):
        columns = slice(start, start + found.group)
        part, error = _feed_back(
            left[..., columns].clone(),
            factor[columns, columns],
            scale[..., columns],
            zero[..., columns],
            found.tops,
        )
        codes[..., columns] = part
        left[..., columns.stop :] -= error @ factor[columns, columns.stop :]
    found.codes[..., order] = codes


def _feed_back(
    block: torch.Tensor, factor: torch.Tensor, scale: torch.Tensor, zero: torch.Tensor, tops: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Codes of some columns, and each column's error in units of its diagonal."""
    codes, errors = torch.empty_like(block), torch.empty_like(block)
    for column in range(block.shape[-1]):
        value, step, middle = block[..., column], scale[..., column], zero[..., column]
        code = torch.minimum((value / step + middle).round().clamp(min=0), tops)
        error = (value - (code - middle) * step) / factor[column, column]
        block[..., column + 1 :] -= error.unsqueeze(-1) * factor[column, column + 1 :]
        codes[..., column], errors[..., column] = code, error
    return codes, errors
