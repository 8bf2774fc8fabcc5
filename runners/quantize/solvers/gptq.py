"""GPTQ: round one input channel after another and let the channels still to come make up for the error."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from runners.quantize.grid import Grid, QuantizedWeight
from runners.quantize.solvers.imatrix import search_grid
from runners.quantize.solvers.rtn import on_grid
from runners.quantize.solvers.solver import InputStatistics


@dataclass(frozen=True, slots=True)
class Gptq:
    """Error feedback over the importance-weighted grid. `damping` is a share of the Gram's mean diagonal."""

    name: str = "gptq"
    damping: float = 0.01

    def solve(
        self, weight: torch.Tensor, inputs: InputStatistics, grids: Sequence[Grid]
    ) -> list[QuantizedWeight]:
        """Walk the groups once for all grids together: they are one batch, and one matrix product a group."""
        factor = inputs.inverse_factor(self.damping)
        group = grids[0].group
        left = weight.float().repeat(len(grids), 1, 1)
        tops = torch.tensor([grid.top for grid in grids], device=weight.device).view(-1, 1)
        codes, scales, zeros = torch.empty_like(left), [], []
        for start in range(0, left.shape[-1], group):
            columns = slice(start, start + group)
            block = left[..., columns].clone()
            scale, zero = self._grids(block, inputs.importance[columns], grids)
            part, error = _feed_back(block, factor[columns, columns], scale, zero, tops)
            codes[..., columns] = part
            left[..., start + group :] -= error @ factor[columns, start + group :]
            scales.append(scale)
            zeros.append(zero)
        scale, zero = torch.stack(scales, -1), torch.stack(zeros, -1)
        return [on_grid(grid, codes[i], scale[i], zero[i]) for i, grid in enumerate(grids)]

    @staticmethod
    def _grids(
        block: torch.Tensor, importance: torch.Tensor, grids: Sequence[Grid]
    ) -> tuple[torch.Tensor, torch.Tensor]:
        found = [search_grid(part, importance, grid) for part, grid in zip(block, grids, strict=True)]
        return torch.stack([scale for scale, _ in found]), torch.stack([zero for _, zero in found])


def _feed_back(
    block: torch.Tensor, factor: torch.Tensor, scale: torch.Tensor, zero: torch.Tensor, tops: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Codes of one group's columns, and each column's error in units of its diagonal."""
    codes, errors = torch.empty_like(block), torch.empty_like(block)
    floor = torch.zeros_like(tops)
    for column in range(block.shape[-1]):
        value = block[..., column]
        code = torch.minimum((value / scale + zero).round().clamp(min=0), tops + floor)
        error = (value - (code - zero) * scale) / factor[column, column]
        block[..., column + 1 :] -= error.unsqueeze(-1) * factor[column, column + 1 :]
        codes[..., column], errors[..., column] = code, error
    return codes, errors
