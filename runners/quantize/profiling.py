"""Measure each layer's cost at each number of bits, with the solver and format of the export."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch

from runners.quantize.cache import ScoreRow, nine_digits
from runners.quantize.device import MicroBatch
from runners.quantize.grid import Grid
from runners.quantize.network import Network
from runners.quantize.passes import Score, input_statistics, score
from runners.quantize.solvers.gptq import Gptq
from runners.quantize.solvers.hqq import Hqq
from runners.quantize.solvers.imatrix import Imatrix
from runners.quantize.solvers.rtn import Rtn
from runners.quantize.solvers.solver import InputStatistics, Solved, Solver, solve_or_fall_back
from runners.quantize.storage import Storage

FEW_TOKENS = 64
"""An input that fewer tokens reached says little; such layers are noted."""


@dataclass(frozen=True, slots=True)
class Method:
    """The solver asked for with those that stand in for it, and the grids of one format.

    `bits` are those that a profile scores.
    """

    solver: str
    storage: Storage
    group: int
    bits: tuple[int, ...] = ()

    @property
    def chain(self) -> tuple[Solver, ...]:
        """The last one needs no calibration and cannot fail on finite weights."""
        first: dict[str, tuple[Solver, ...]] = {
            "gptq": (Gptq(), Gptq("gptq, damping 0.1", 0.1), Imatrix()),
            "hqq": (Hqq(),),
            "imatrix": (Imatrix(),),
            "rtn": (),
        }
        return (*first[self.solver], Rtn())

    def grid(self, bits: int) -> Grid:
        """Return the format's grid; GGUF keeps its scales in float16, the others in the weights' bfloat16."""
        scale_dtype = torch.float16 if self.storage.name == "gguf" else torch.bfloat16
        return Grid(bits, self.group, self.storage.zero, scale_dtype)

    def solve(self, layer: str, weight: torch.Tensor, inputs: InputStatistics, bits: Sequence[int]) -> Solved:
        """Put the weight on the grids of these bits."""
        return solve_or_fall_back(layer, weight, inputs, [self.grid(b) for b in bits], self.chain)


def profile_block(
    network: Network,
    index: int,
    hidden: torch.Tensor,
    gradient: torch.Tensor,
    method: Method,
    micro: MicroBatch,
) -> list[ScoreRow]:
    """Score one block's layers; depends on nothing but its arguments, so blocks may be done anywhere in any order."""
    statistics = input_statistics(network, index, hidden, micro)
    weights = network.weights(index)
    solved = {
        layer: method.solve(layer, weights[f"{layer}.weight"], statistics[layer], method.bits)
        for layer in network.linears(index)
    }
    changes = {
        (layer, b): quantized.dequantized() - weights[f"{layer}.weight"].float()
        for layer, result in solved.items()
        for b, quantized in zip(method.bits, result.weights, strict=True)
    }
    scores = score(network, index, hidden, gradient, changes, micro)
    return [
        _row(layer, b, scores[layer, b], changes[layer, b], statistics[layer], solved[layer])
        for layer, b in changes
    ]


def _row(
    layer: str, bits: int, measured: Score, change: torch.Tensor, inputs: InputStatistics, solved: Solved
) -> ScoreRow:
    imatrix = float((change.square() * inputs.importance).sum(dtype=torch.float64))
    return ScoreRow(
        layer=layer,
        bits=bits,
        drift=nine_digits(measured.drift),
        fisher=nine_digits(measured.fisher),
        imatrix=nine_digits(imatrix),
        tokens=inputs.tokens,
        solver=solved.solver,
        reason=solved.reason,
    )


def scores_by(
    signal: str, rows: Mapping[tuple[str, int], ScoreRow], kl: Mapping[tuple[str, int], float]
) -> dict[tuple[str, int], float]:
    """Return the figures that the allocator minimises."""
    if signal == "kl":
        return dict(kl)
    return {key: float(getattr(row, signal)) for key, row in rows.items()}
