"""Interpret the figures: inverted layers, confident or uncertain disagreements, and the layers to treat next."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Final

from runners.quantize.cache import ScoreRow
from runners.quantize.statistics import Interval, share_interval

INVERSION_FACTOR: Final = 1.25
"""How much a score must rise with bits to be called inverted; below that it is the last digits of small drifts."""

CONFIDENT: Final = 0.5
"""The reference's greatest chance at or above which its choice counts as confident."""

DOMINATES: Final = 2 / 3
"""The share of disagreements of one kind that makes a verdict."""


@dataclass(frozen=True, slots=True)
class Inversion:
    """A layer whose output drifts more at more bits, and whether the loss it is predicted to cost rises too."""

    layer: str
    fewer_bits: int
    more_bits: int
    drift_ratio: float
    loss_ratio: float

    @property
    def misleading(self) -> bool:
        """Drift rises and the loss falls: an allocator that follows drift starves the layer."""
        return self.loss_ratio < 1

    def as_json(self) -> dict[str, Any]:
        return {
            "layer": self.layer, "bits": [self.fewer_bits, self.more_bits],
            "drift_ratio": float(f"{self.drift_ratio:.6g}"), "loss_ratio": float(f"{self.loss_ratio:.6g}"),
            "misleading": self.misleading,
        }  # fmt: skip


def find_inversions(rows: Mapping[tuple[str, int], ScoreRow]) -> list[Inversion]:
    """Compare neighbouring numbers of bits of each layer."""
    found = []
    for layer in dict.fromkeys(layer for layer, _ in rows):
        bits = sorted(b for name, b in rows if name == layer)
        for fewer, more in pairwise(bits):
            before, after = rows[layer, fewer], rows[layer, more]
            if after.drift > INVERSION_FACTOR * before.drift > 0:
                loss = after.fisher / before.fisher if before.fisher else float("inf")
                found.append(Inversion(layer, fewer, more, after.drift / before.drift, loss))
    return found


@dataclass(frozen=True, slots=True)
class Divergence:
    """Prompts on which the first choice changed, by how sure the reference had been."""

    prompts: int
    confident: int
    uncertain: int
    mean_kl: Interval
    flipped: Interval

    @property
    def verdict(self) -> str:
        """Return the conclusion; too few flips allow none."""
        flips = self.confident + self.uncertain
        share = share_interval(self.confident, flips) if flips else None
        if share is None or flips < 10:
            return f"too few flips to tell (n={flips})"
        if share.low > DOMINATES / 2 and share.value >= DOMINATES:
            return "quantization bias: mostly choices that the model was sure of"
        if share.value <= 1 - DOMINATES:
            return "quantization noise: mostly choices that the model was unsure of"
        return "mixed: sure and unsure choices changed alike"

    def as_json(self) -> dict[str, Any]:
        return {
            "prompts": self.prompts, "confident": self.confident, "uncertain": self.uncertain,
            "mean_kl": self.mean_kl.as_json(), "flipped": self.flipped.as_json(), "verdict": self.verdict,
        }  # fmt: skip


def worst_layers(bits: Mapping[str, int], rows: Mapping[tuple[str, int], ScoreRow], count: int) -> list[str]:
    """Return the layers that cost most nats as they were allocated: the ones to treat next."""
    scored: Sequence[str] = [layer for layer in bits if (layer, bits[layer]) in rows]
    return sorted(scored, key=lambda layer: (-rows[layer, bits[layer]].fisher, layer))[:count]
