"""AWQ as a treatment of chosen layers.

Channels with strong inputs are scaled up before quantizing, and the layer before them is scaled down by as much, so
that the model computes the same. Scales are powers of two: dividing a norm or a row by one is exact in bfloat16, and
the fold itself costs nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

import torch

from runners.quantize.grid import Grid
from runners.quantize.solvers.imatrix import Imatrix
from runners.quantize.solvers.solver import InputStatistics

NORMS: Final = {
    "input_layernorm.weight": ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"),
    "post_attention_layernorm.weight": ("mlp.gate_proj", "mlp.up_proj"),
}
ROWS: Final = {"mlp.up_proj": ("mlp.down_proj",), "self_attn.v_proj": ("self_attn.o_proj",)}
EXPONENTS: Final = tuple(step / 10 for step in range(11))
"""Shares of the inputs' spread that are evened out; 0 leaves the layer as it is."""


@dataclass(slots=True)
class Fold:
    """Factors of input columns, divisors of output rows and of norms, by full name; all powers of two."""

    columns: dict[str, torch.Tensor] = field(default_factory=dict)
    rows: dict[str, torch.Tensor] = field(default_factory=dict)
    norms: dict[str, torch.Tensor] = field(default_factory=dict)

    def weight(self, layer: str, weight: torch.Tensor) -> torch.Tensor:
        """Return the layer's weight in the folded model."""
        if layer in self.columns:
            weight = weight * self.columns[layer]
        return weight / self.rows[layer].unsqueeze(-1) if layer in self.rows else weight

    def inputs(self, layer: str, inputs: InputStatistics) -> InputStatistics:
        """Return the inputs of the layer in the folded model."""
        if layer not in self.columns:
            return inputs
        folded = InputStatistics(len(inputs.gram), inputs.gram.device)
        scale = self.columns[layer]
        folded.gram, folded.tokens = inputs.gram / scale / scale.unsqueeze(-1), inputs.tokens
        return folded


def power_of_two(scale: torch.Tensor) -> torch.Tensor:
    """Return the nearest power of two, within the range of bfloat16 norms."""
    return torch.exp2(torch.log2(scale).round().clamp(-8, 8))


def find_scale(
    weights: Sequence[torch.Tensor], grids: Sequence[Grid], inputs: InputStatistics
) -> torch.Tensor:
    """Return the factors that leave least error at the outputs of layers that share these inputs."""
    spread = inputs.importance.clamp(min=1e-12).sqrt()
    spread = spread / spread.log().mean().exp()
    best, least = torch.ones_like(spread), float("inf")
    for exponent in EXPONENTS:
        scale = power_of_two(spread**exponent)
        error = sum(_error(w, g, inputs, scale) for w, g in zip(weights, grids, strict=True))
        if error < least:
            best, least = scale, error
    return best


def _error(weight: torch.Tensor, grid: Grid, inputs: InputStatistics, scale: torch.Tensor) -> float:
    fold = Fold(columns={"": scale})
    solved = Imatrix().solve(weight.float() * scale, fold.inputs("", inputs), [grid])[0]
    change = solved.dequantized() / scale - weight.float()
    return float(((change @ inputs.gram) * change).sum(dtype=torch.float64))


def find_fold(
    prefix: str,
    treated: Iterable[str],
    weights: Mapping[str, torch.Tensor],
    inputs: Mapping[str, InputStatistics],
    grids: Mapping[str, Grid],
    norms: Mapping[str, torch.Tensor],
) -> Fold:
    """The fold of one block for those of its layers that are to be treated; partners with the same input come along."""
    fold, wanted = Fold(), set(treated)
    for norm, parts in NORMS.items():
        layers = [f"{prefix}.{part}" for part in parts if f"{prefix}.{part}" in grids]
        name = f"{prefix}.{norm}"
        if wanted.intersection(layers) and name in norms:
            scale = find_scale([weights[x] for x in layers], [grids[x] for x in layers], inputs[layers[0]])
            every = [f"{prefix}.{part}" for part in parts if f"{prefix}.{part}" in weights]
            fold.columns |= dict.fromkeys(every, scale)
            fold.norms[name] = scale
    for source, parts in ROWS.items():
        layer = f"{prefix}.{parts[0]}"
        feeder = f"{prefix}.{source}"
        # With fewer value heads than query heads a row of v feeds several columns of o: left alone.
        if layer in wanted and layer in grids and len(weights[feeder]) == weights[layer].shape[1]:
            scale = find_scale([weights[layer]], [grids[layer]], inputs[layer])
            fold.columns[layer], fold.rows[feeder] = scale, scale
    return fold
