"""Compute exactly how many bytes each storage format takes: arithmetic, tested against real tensors."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from math import ceil
from typing import Final

from runners.quantize.fault import SettingsError

UNQUANTIZED: Final = 16
"""The bits of a layer that is left as it is."""


class Zero(StrEnum):
    """Names the kinds of a group's zero point."""

    INTEGER = "integer"
    FLOAT = "float"
    MIDDLE = "middle"
    """Fixed at half the range: the symmetric grids of GGUF."""


@dataclass(frozen=True, slots=True)
class Storage:
    """Describes one format: its bits and zero points, its usual group, the bytes of one weight matrix."""

    name: str
    bits: tuple[int, ...]
    zero: Zero
    group: int
    fixed_group: bool
    matrix_bytes: Callable[[int, int, int, int], int]

    def bytes_of(self, rows: int, columns: int, bits: int, group: int) -> int:
        """Return bytes of a `rows` x `columns` weight with its scales and zeros; 16 bits means as it was."""
        return 2 * rows * columns if bits == UNQUANTIZED else self.matrix_bytes(rows, columns, bits, group)

    def check(self, bits: tuple[int, ...], group: int) -> None:
        """Refuse bits or groups that the format cannot hold."""
        wrong = [b for b in bits if b not in self.bits and b != UNQUANTIZED]
        if wrong:
            raise SettingsError(
                f"--bits {wrong[0]}: {self.name} holds {', '.join(map(str, self.bits))} bits; choose among these"
            )
        if self.fixed_group and group != self.group:
            raise SettingsError(f"--group {group}: {self.name} has groups of {self.group} and no others")


def _packed_bytes(rows: int, columns: int, bits: int, group: int) -> int:
    """`weight_packed`, dense in words of 32 bits, `weight_scale` and `weight_shape`."""
    return 4 * rows * ceil(columns * bits / 32) + 2 * rows * (columns // group) + 2 * 8


def _packed_with_zeros_bytes(rows: int, columns: int, bits: int, group: int) -> int:
    """Return the same with `weight_zero_point`."""
    return _packed_bytes(rows, columns, bits, group) + 4 * ceil(rows * bits / 32) * (columns // group)


def _hqq_bytes(rows: int, columns: int, bits: int, group: int) -> int:
    """Hqq 0.2.8: ten 3-bit values to an int32, 5 and 6 bits in bytes, scale and zero of 16 bits a group."""
    weights, groups = rows * columns, rows * columns // group
    whole = {8: 8, 6: 8, 5: 8, 4: 4, 2: 2, 1: 1}
    packed = 4 * group * ceil(groups / 10) if bits == 3 else weights * whole[bits] // 8
    return packed + 2 * 2 * groups


def _gguf_bytes(rows: int, columns: int, bits: int, group: int) -> int:
    """Q4_0, Q5_0 and Q8_0: blocks of 32 weights behind one float16 scale."""
    return rows * (columns // group) * (2 + group * bits // 8)


# Symmetric by default: with the small groups and error feedback used here the zero points earn less than they cost
# (3.5 bits a weight on the demo's model: +2.1 % perplexity without, +2.8 % with), and transformers 5.23 with
# compressed-tensors 0.20 cannot load packed zero points: it makes room for unpacked ones.
COMPRESSED_TENSORS: Final = Storage(
    "compressed-tensors",
    (2, 3, 4, 5, 6, 7, 8),
    Zero.MIDDLE,
    64,
    fixed_group=False,
    matrix_bytes=_packed_bytes,
)
WITH_ZEROS: Final = Storage(
    "compressed-tensors-asymmetric", (2, 3, 4, 5, 6, 7, 8), Zero.INTEGER, 64, fixed_group=False,
    matrix_bytes=_packed_with_zeros_bytes,
)  # fmt: skip
HQQ: Final = Storage("hqq", (1, 2, 3, 4, 5, 6, 8), Zero.FLOAT, 64, fixed_group=False, matrix_bytes=_hqq_bytes)
GGUF: Final = Storage("gguf", (4, 5, 8), Zero.MIDDLE, 32, fixed_group=True, matrix_bytes=_gguf_bytes)

STORAGES: Final = {storage.name: storage for storage in (COMPRESSED_TENSORS, WITH_ZEROS, HQQ, GGUF)}
