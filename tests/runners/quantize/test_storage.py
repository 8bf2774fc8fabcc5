"""Predicted bytes are the bytes of real tensors, for every format, number of bits and group."""

from __future__ import annotations

import pytest
import torch
from hqq.core.quantize import Quantizer
from hypothesis import given
from hypothesis import strategies as st

from runners.quantize.export.compressed import packed
from runners.quantize.export.gguf_file import block_bytes
from runners.quantize.fault import SettingsError
from runners.quantize.grid import Grid, QuantizedWeight
from runners.quantize.solvers.rtn import Rtn
from runners.quantize.solvers.solver import InputStatistics
from runners.quantize.storage import COMPRESSED_TENSORS, GGUF, HQQ, WITH_ZEROS, Storage


def quantized(storage: Storage, rows: int, columns: int, bits: int, group: int) -> QuantizedWeight:
    weight = torch.randn(rows, columns, generator=torch.Generator().manual_seed(rows * columns))
    grid = Grid(bits, group, storage.zero, torch.float16 if storage is GGUF else torch.bfloat16)
    return Rtn().solve(weight, InputStatistics(columns), [grid])[0]


shapes = st.tuples(st.integers(1, 40), st.integers(1, 5), st.sampled_from([16, 32, 64]))


@pytest.mark.parametrize("storage", [COMPRESSED_TENSORS, WITH_ZEROS], ids=lambda s: s.name)
@given(shape=shapes, bits=st.sampled_from([2, 3, 4, 5, 6, 7, 8]))
def test_compressed_tensors_bytes_are_those_of_its_tensors(
    storage: Storage, shape: tuple[int, int, int], bits: int
) -> None:
    """Dense words, scales, zero points and the shape, also where rows do not fill a word."""
    rows, groups, group = shape
    weight = quantized(storage, rows, groups * group, bits, group)
    real = sum(t.numel() * t.element_size() for t in packed("x", weight, storage).values())
    assert storage.bytes_of(rows, groups * group, bits, group) == real


@pytest.mark.parametrize("bits", HQQ.bits)
@pytest.mark.parametrize(("rows", "columns", "group"), [(7, 64, 64), (64, 128, 64), (3, 96, 32)])
def test_hqq_bytes_are_those_of_its_package(rows: int, columns: int, group: int, bits: int) -> None:
    """Three bits take 3.2 because ten fill an int32; a group count that ten does not divide takes more."""
    if rows % 8 and bits in {1, 2, 4}:
        rows = 8
    codes, meta = Quantizer.quantize(
        torch.randn(rows, columns), nbits=bits, group_size=group, axis=1, device="cpu", optimize=False
    )
    floats = 2 * (meta["scale"].numel() + meta["zero"].numel())
    assert HQQ.bytes_of(rows, columns, bits, group) == codes.numel() * codes.element_size() + floats


@pytest.mark.parametrize("bits", GGUF.bits)
def test_gguf_bytes_are_those_of_its_blocks(bits: int) -> None:
    """One float16 scale in front of 32 codes."""
    weight = quantized(GGUF, 6, 96, bits, 32)
    assert GGUF.bytes_of(6, 96, bits, 32) == block_bytes(weight.codes, weight.scale, bits).nbytes


def test_a_layer_that_stays_costs_its_own_bytes() -> None:
    """Sixteen bits means as it was, in every format."""
    assert {s.bytes_of(3, 64, 16, 64) for s in (COMPRESSED_TENSORS, HQQ, GGUF)} == {2 * 3 * 64}


def test_what_a_format_cannot_hold_is_refused() -> None:
    """Bits and groups, each with what is possible instead."""
    with pytest.raises(SettingsError, match="gguf holds 4, 5, 8"):
        GGUF.check((3, 4), 32)
    with pytest.raises(SettingsError, match="groups of 32"):
        GGUF.check((4,), 64)
