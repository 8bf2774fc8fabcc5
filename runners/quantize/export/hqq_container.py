"""HQQ's own container, packed by its own package: the source's path.

Who loads it today: hqq's `HQQLinear`, one module at a time. transformers 5 raises NotImplementedError, vLLM has dropped
the method, and `HqqConfig` cannot say bits by layer. It is written for comparison and for hqq's own training loops.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import torch
from safetensors.torch import load_file, save_file

from runners.quantize.grid import QuantizedWeight
from runners.quantize.network import Network
from runners.quantize.stages.quantize import QuantizedBlocks

META_FILE: Final = "hqq.json"


def export(network: Network, blocks: QuantizedBlocks, folder: Path) -> None:
    """Write one file a block with `W_q`, `scale` and `zero` as hqq holds them, and the modules' meta beside."""
    from hqq.core.quantize import Quantizer  # noqa: PLC0415 - the quantize extra; it takes 3 s

    meta = {}
    for index in range(network.block_count):
        tensors: dict[str, torch.Tensor] = {}
        for name, layer in blocks.layers(index).items():
            if not isinstance(layer, QuantizedWeight):
                tensors[f"{name}.weight"] = layer
                continue
            packing = Quantizer.bit_to_packing[layer.grid.bits]
            codes = layer.codes.view(-1, layer.grid.group)
            tensors[f"{name}.W_q"] = Quantizer.pack[packing](codes).contiguous()
            tensors[f"{name}.scale"] = layer.scale.view(-1, 1).contiguous()
            tensors[f"{name}.zero"] = layer.zero.view(-1, 1).contiguous()
            meta[name] = {
                "nbits": layer.grid.bits, "group_size": layer.grid.group, "shape": list(layer.codes.shape),
                "axis": 1, "packing": packing, "file": _file(index),
            }  # fmt: skip
        others = [n for n in network.block_tensors(index) if n.removesuffix(".weight") not in blocks.bits]
        tensors |= network.checkpoint.read(others) | dict(blocks.other_overrides(index))
        save_file(tensors, folder / _file(index))
    rest = [name for name in network.checkpoint.tensors if not name.startswith("model.layers.")]
    save_file(network.checkpoint.read(rest), folder / "rest.safetensors")
    (folder / META_FILE).write_text(json.dumps(meta, indent=1, sort_keys=True) + "\n")


def _file(index: int) -> str:
    return f"block-{index:04d}.safetensors"


def read_back(folder: Path) -> Iterator[tuple[str, torch.Tensor]]:
    """Yield each module's weight as hqq's own dequantizer reads it from the files, in bfloat16."""
    from hqq.core.quantize import Quantizer  # noqa: PLC0415

    meta = json.loads((folder / META_FILE).read_bytes())
    files: dict[str, dict[str, torch.Tensor]] = {}
    for name, values in meta.items():
        if values["file"] not in files:
            files = {values["file"]: load_file(folder / values["file"])}
        tensors = files[values["file"]]
        whole = {
            **values, "scale": tensors[f"{name}.scale"], "zero": tensors[f"{name}.zero"],
            "compute_dtype": torch.bfloat16, "view_as_float": False, "shape": torch.Size(values["shape"]),
        }  # fmt: skip
        yield name, Quantizer.dequantize(tensors[f"{name}.W_q"], whole)
