"""The plan for llama.cpp's own quantizer: a type for each tensor, and the importance matrix to quantize by.

The matrix is the GGUF that `llama-imatrix` writes and `llama-quantize --imatrix` reads: for each tensor the sums of its
inputs' squares by channel, and how many tokens made them. Rows may be in another order in llama.cpp's model; channels
are not.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Final

import gguf
import numpy as np
import torch

from runners.quantize.export.gguf_file import tensor_name
from runners.quantize.solvers.solver import ChannelPower

IMATRIX_FILE: Final = "imatrix.gguf"
TYPES_FILE: Final = "tensor-types.txt"
NEAREST: Final = {2: "q2_k", 3: "q3_k", 4: "q4_k", 5: "q5_k", 6: "q6_k", 7: "q8_0", 8: "q8_0", 16: "bf16"}
"""llama.cpp's own type at each number of bits."""

SUMS, COUNTS = ".in_sum2", ".counts"


def write_types(path: Path, bits: Mapping[str, int]) -> None:
    """Lines for `llama-quantize --tensor-type-file`."""
    names = {layer: tensor_name(f"{layer}.weight").removesuffix(".weight") for layer in bits}
    path.write_text("".join(f"{names[layer]}={NEAREST[b]}\n" for layer, b in bits.items()))


def write_imatrix(
    path: Path, powers: Mapping[str, ChannelPower], dataset: str, chunks: int, chunk_tokens: int
) -> None:
    """Write the input power of each layer, by its full name; `dataset` names the calibration text."""
    writer = gguf.GGUFWriter(path, "")
    writer.add_type(gguf.GGUFType.IMATRIX)
    writer.add_array(gguf.Keys.IMatrix.DATASETS, [dataset])
    writer.add_uint32(gguf.Keys.IMatrix.CHUNK_COUNT, chunks)
    writer.add_uint32(gguf.Keys.IMatrix.CHUNK_SIZE, chunk_tokens)
    for layer, power in powers.items():
        name = tensor_name(f"{layer}.weight")
        writer.add_tensor(f"{name}{SUMS}", power.sums.float().cpu().numpy()[None])
        writer.add_tensor(f"{name}{COUNTS}", np.array([[power.tokens]], dtype=np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def read_imatrix(path: Path) -> dict[str, torch.Tensor]:
    """Mean square of each input channel by llama.cpp's tensor names, as `llama-quantize` works it out."""
    tensors = {
        tensor.name: np.array(tensor.data, dtype=np.float32) for tensor in gguf.GGUFReader(path).tensors
    }
    return {
        name.removesuffix(SUMS): torch.from_numpy(sums[0] / tensors[name.removesuffix(SUMS) + COUNTS][0, 0])
        for name, sums in tensors.items()
        if name.endswith(SUMS)
    }
