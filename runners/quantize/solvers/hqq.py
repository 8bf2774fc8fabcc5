"""HQQ through its own package, as `BaseQuantizeConfig` has it by default: the source's solver, data-free."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from runners.quantize.grid import Grid, QuantizedWeight
from runners.quantize.solvers.rtn import on_grid
from runners.quantize.solvers.solver import InputStatistics


@dataclass(frozen=True, slots=True)
class Hqq:
    """Half-quadratic search of the zero point; the scale stays where round-to-nearest puts it."""

    name: str = "hqq"

    def solve(
        self,
        weight: torch.Tensor,
        inputs: InputStatistics,  # noqa: ARG002 - the protocol's; HQQ looks at no data
        grids: Sequence[Grid],
    ) -> list[QuantizedWeight]:
        """Solve each grid by itself."""
        return [self._one(weight, grid) for grid in grids]

    def _one(self, weight: torch.Tensor, grid: Grid) -> QuantizedWeight:
        from hqq.core.quantize import Quantizer  # noqa: PLC0415 - the quantize extra; it takes 3 s

        codes, meta = Quantizer.quantize(
            weight.float(),
            nbits=grid.bits,
            group_size=grid.group,
            # hqq's own configuration rounds the zero point at 4 bits, and only there.
            round_zero=grid.bits == 4,
            axis=1,
            bitpack=False,
            device=str(weight.device),
        )
        rows = len(weight)
        scale, zero = meta["scale"].view(rows, -1), meta["zero"].view(rows, -1)
        return on_grid(grid, codes.view(rows, -1, grid.group), scale, zero)
