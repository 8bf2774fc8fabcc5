"""Estimate the most memory that each stage takes on the device, from shapes, before anything is loaded.

It states the need of a run, not a limit that it keeps: micro-batches that do not fit are halved all the same.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Final

from runners.quantize import sizes
from runners.quantize.checkpoint import Checkpoint
from runners.quantize.settings import Settings

SOLVER_COPIES: Final = 6
"""Weights in float32 that a solver holds of one layer and one number of bits: itself, what is left, codes, error."""

KEPT_BYTES: Final = 5
"""What profiling keeps of a weight at each number of bits: its code, and its change in float32."""

LOGIT_COPIES: Final = 3
"""One window's logits in float32: themselves, their softmax, their gradient or logarithm."""

STAGES: Final = ("hidden", "gradient", "profile", "forks", "quantize", "evaluate", "diagnose")


class Footprint:
    """Bytes on the device by stage, for one model under one settings."""

    def __init__(self, checkpoint: Checkpoint, layers: Sequence[str], settings: Settings) -> None:
        shapes = {layer: checkpoint.tensors[f"{layer}.weight"].shape for layer in layers}
        blocks = int(checkpoint.config["num_hidden_layers"])
        items = sizes.itemise(checkpoint, layers, 0, settings.memory)
        tokens = settings.micro_batch * settings.window
        self._resident = items.embedding + items.head
        self._block_weights = sum(map(prod, shapes.values())) // blocks
        self._activations = 2 * tokens * sum(map(sum, shapes.values())) // blocks
        self._logits = (
            4 * LOGIT_COPIES * settings.window * checkpoint.tensors["model.embed_tokens.weight"].shape[0]
        )
        self._grams = sum({columns: 4 * columns**2 for _, columns in shapes.values()}.values())
        self._solver = 4 * SOLVER_COPIES * max(map(prod, shapes.values()))
        self._bits = len(settings.bits)

    def of(self, stage: str) -> int:
        """Return bytes of a stage by its name in the journal; 0 for one that needs no device."""
        kind = stage.partition("-")[0]
        forward = self._resident + 2 * self._block_weights + self._activations
        extra = {
            "hidden": 0,
            "gradient": self._activations + self._logits,
            "profile": self._activations + self._grams + self._profiled,
            "forks": self._logits + self._grams + self._bits * self._solver,
            "quantize": self._grams + self._solver,
            "evaluate": self._logits,
            "diagnose": self._logits,
        }
        return forward + extra[kind] if kind in extra else 0

    @property
    def most(self) -> int:
        """Return the largest stage's."""
        return max(map(self.of, STAGES))

    @property
    def _profiled(self) -> int:
        return self._bits * (self._solver + KEPT_BYTES * self._block_weights)
