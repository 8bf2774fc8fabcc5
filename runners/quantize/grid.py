"""A weight on its grid: codes, scales and zero points, and the one expression that makes weights of them again."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from runners.quantize.fault import NotFiniteError
from runners.quantize.storage import Zero


@dataclass(frozen=True, slots=True)
class Grid:
    """Describes the values of a quantized weight: a range of codes, groups along the input, a kind of zero point."""

    bits: int
    group: int
    zero: Zero
    scale_dtype: torch.dtype

    @property
    def top(self) -> int:
        """Return the largest code."""
        return int(2**self.bits - 1)


@dataclass(frozen=True, slots=True)
class QuantizedWeight:
    """Codes (rows x columns, uint8), and per row and group a scale and a zero point in the dtype that is stored."""

    grid: Grid
    codes: torch.Tensor
    scale: torch.Tensor
    zero: torch.Tensor

    def dequantized(self) -> torch.Tensor:
        """The weight in float32, computed just as its loaders do: in bfloat16 if that is stored, GGUF's in float32.

        With integer zero points `code - zero` is exact in bfloat16 (at most 255), so the product is rounded once.
        """
        rows, columns = self.codes.shape
        dtype = torch.bfloat16 if self.grid.scale_dtype is torch.bfloat16 else torch.float32
        groups = self.codes.view(rows, -1, self.grid.group).to(dtype)
        values = (groups - self.zero.to(dtype).unsqueeze(-1)) * self.scale.to(dtype).unsqueeze(-1)
        return values.view(rows, columns).float()

    def check_finite(self, layer: str) -> None:
        """Refuse a weight that would poison every token; the message names layer, bits and group."""
        for what, values in (("scale", self.scale), ("zero", self.zero.float())):
            wrong = (~torch.isfinite(values)).nonzero()
            if len(wrong):
                row, group = wrong[0].tolist()
                raise NotFiniteError(
                    f"{layer}: {what} of row {row}, group {group} at {self.grid.bits} bits is not finite"
                )
