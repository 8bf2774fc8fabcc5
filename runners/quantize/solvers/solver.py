"""Define a solver's inputs and results, and the recorded fallback when it fails."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch

from runners.quantize.fault import NotFiniteError
from runners.quantize.grid import Grid, QuantizedWeight


@dataclass(frozen=True, slots=True)
class ChannelPower:
    """Sums of squares of each input channel, and of how many tokens."""

    sums: torch.Tensor
    tokens: int


@dataclass(frozen=True, slots=True)
class Curvature:
    """Describes how errors of input channels add up at the output: the Gram matrix, damped so that it can be inverted.

    `order` has the channels from the strongest to the weakest; `factor` is the upper Cholesky factor of the inverse in
    that order, which GPTQ's error feedback walks along.
    """

    matrix: torch.Tensor
    order: torch.Tensor
    factor: torch.Tensor


class InputStatistics:
    """Holds the calibration at one layer's input: the Gram matrix of the inputs and the number of tokens.

    Layers that read the same input (q, k and v; gate and up) share one, and so share its factorisation.
    """

    def __init__(self, columns: int, device: torch.device | str = "cpu") -> None:
        self.gram = torch.zeros(columns, columns, dtype=torch.float32, device=device)
        self.tokens = 0
        self._curvatures: dict[float, Curvature] = {}

    def add(self, inputs: torch.Tensor) -> None:
        """Take in the inputs of one micro-batch."""
        rows = inputs.reshape(-1, inputs.shape[-1]).float()
        self.gram += rows.T @ rows
        self.tokens += len(rows)
        self._curvatures.clear()

    @property
    def power(self) -> ChannelPower:
        """Return the part of it that llama.cpp keeps."""
        return ChannelPower(self.gram.diagonal().clone(), self.tokens)

    @property
    def importance(self) -> torch.Tensor:
        """Mean square of each input channel: llama.cpp's importance matrix."""
        return self.gram.diagonal() / max(self.tokens, 1)

    def curvature(self, damping: float) -> Curvature:
        """Return the damped Gram, worked out once for all layers that read this input."""
        if damping not in self._curvatures:
            self._curvatures[damping] = self._curvature(damping)
        return self._curvatures[damping]

    def _curvature(self, damping: float) -> Curvature:
        gram = self.gram.double() / max(self.tokens, 1)
        diagonal = gram.diagonal()
        order = diagonal.argsort(descending=True, stable=True)
        gram = gram + torch.diag(damping * diagonal.mean() + (diagonal == 0).double())
        lower = torch.linalg.cholesky(gram[order][:, order])
        factor = torch.linalg.cholesky(torch.cholesky_inverse(lower), upper=True)
        return Curvature(gram.float(), order, factor.float())


class Solver(Protocol):
    """Puts one weight on each of several grids that differ only in their bits."""

    @property
    def name(self) -> str: ...

    def solve(
        self, weight: torch.Tensor, inputs: InputStatistics, grids: Sequence[Grid]
    ) -> list[QuantizedWeight]: ...


@dataclass(frozen=True, slots=True)
class Solved:
    """Holds one weight on its grids, by the chosen solver or by the fallback, and why."""

    weights: list[QuantizedWeight]
    solver: str
    reason: str = ""


def solve_or_fall_back(
    layer: str,
    weight: torch.Tensor,
    inputs: InputStatistics,
    grids: Sequence[Grid],
    solvers: Sequence[Solver],
) -> Solved:
    """Try the solvers in turn; a weight that is itself not finite is refused, for no solver can mend it."""
    if not bool(torch.isfinite(weight).all()):
        row, column = (~torch.isfinite(weight)).nonzero()[0].tolist()
        raise NotFiniteError(f"{layer}: weight [{row}, {column}] is not finite; the checkpoint is damaged")
    reasons: list[str] = []
    for solver in solvers:
        if inputs.tokens == 0 and solver is not solvers[-1]:
            reasons.append(f"{solver.name}: no calibration token reached it")
            continue
        try:
            weights = solver.solve(weight, inputs, grids)
            for quantized in weights:
                quantized.check_finite(layer)
        except (NotFiniteError, torch.linalg.LinAlgError) as error:
            reasons.append(f"{solver.name}: {error}")
            continue
        return Solved(weights, solver.name, "; ".join(reasons))
    raise NotFiniteError(f"{layer}: no solver could do it: {'; '.join(reasons)}")
