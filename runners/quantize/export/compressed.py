"""compressed-tensors, pack-quantized: 2 to 8 bits by module, which vLLM and transformers load. The servable default."""

from __future__ import annotations

import json
import shutil
from collections import defaultdict
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import torch
from safetensors.torch import save_file

from runners.quantize.checkpoint import TOKENIZER_FILES, Checkpoint
from runners.quantize.fault import ExportError
from runners.quantize.grid import QuantizedWeight
from runners.quantize.network import Network
from runners.quantize.stages.quantize import QuantizedBlocks
from runners.quantize.storage import UNQUANTIZED, Storage, Zero

SIDE_FILES: Final = (
    *TOKENIZER_FILES,
    "special_tokens_map.json",
    "generation_config.json",
    "chat_template.jinja",
)
REST_FILE: Final = "model-rest.safetensors"


def export(network: Network, blocks: QuantizedBlocks, storage: Storage, group: int, folder: Path) -> None:
    """Write the folder a block at a time: never two copies of the model in memory."""
    folder.mkdir(parents=True, exist_ok=True)
    index: dict[str, str] = {}
    for number in range(network.block_count):
        file = f"model-block-{number:04d}.safetensors"
        _write(folder, file, _block_tensors(network, blocks, storage, number), index)
    _write(folder, REST_FILE, _rest(network), index)
    total = sum((folder / file).stat().st_size for file in set(index.values()))
    (folder / "model.safetensors.index.json").write_text(
        json.dumps({"metadata": {"total_size": total}, "weight_map": index}, indent=1, sort_keys=True) + "\n"
    )
    config = dict(network.checkpoint.config)
    config["quantization_config"] = quantization_config(blocks.bits, storage, group)
    (folder / "config.json").write_text(json.dumps(config, indent=1, sort_keys=True) + "\n")
    for name in SIDE_FILES:
        if (source := network.checkpoint.folder / name).is_file():
            shutil.copyfile(source, folder / name)


def _write(folder: Path, file: str, tensors: Mapping[str, torch.Tensor], index: dict[str, str]) -> None:
    save_file(
        {name: tensor.contiguous() for name, tensor in tensors.items()}, folder / file, {"format": "pt"}
    )
    index.update(dict.fromkeys(tensors, file))


def _block_tensors(
    network: Network, blocks: QuantizedBlocks, storage: Storage, number: int
) -> dict[str, torch.Tensor]:
    """Packed layers, and whatever else the block holds as the checkpoint has it."""
    layers = blocks.layers(number)
    replaced = {f"{name}.weight" for name in layers}
    tensors = network.checkpoint.read(name for name in network.block_tensors(number) if name not in replaced)
    tensors |= blocks.other_overrides(number)
    for name, layer in layers.items():
        tensors |= (
            packed(name, layer, storage) if isinstance(layer, QuantizedWeight) else {f"{name}.weight": layer}
        )
    return tensors


def _rest(network: Network) -> dict[str, torch.Tensor]:
    """Embedding, norm and head; a tied head is not written twice."""
    return network.checkpoint.read(n for n in network.checkpoint.tensors if not n.startswith("model.layers."))


def packed(name: str, weight: QuantizedWeight, storage: Storage) -> dict[str, torch.Tensor]:
    """Return the tensors of one module. compressed-tensors counts codes from the middle of the range."""
    from compressed_tensors.compressors.pack_quantized.helpers import pack_to_int32  # noqa: PLC0415 - needed here only

    bits, middle = weight.grid.bits, 1 << (weight.grid.bits - 1)
    codes = (weight.codes.to(torch.int16) - middle).to(torch.int8)
    tensors = {
        f"{name}.weight_packed": pack_to_int32(codes, bits),
        f"{name}.weight_scale": weight.scale,
        f"{name}.weight_shape": torch.tensor(codes.shape),
    }
    if not is_symmetric(storage):
        zeros = (weight.zero.to(torch.int16) - middle).to(torch.int8)
        tensors[f"{name}.weight_zero_point"] = pack_to_int32(zeros, bits, packed_dim=0).contiguous()
    return tensors


def is_symmetric(storage: Storage) -> bool:
    """Tell if codes are counted from the middle and no zero points are stored."""
    return storage.zero is Zero.MIDDLE


def quantization_config(bits: Mapping[str, int], storage: Storage, group: int) -> dict[str, Any]:
    """Return one configuration group for each number of bits, its modules named one by one."""
    by_bits: dict[int, list[str]] = defaultdict(list)
    for layer, number in bits.items():
        by_bits[number].append(layer)
    ignored = [*by_bits.pop(UNQUANTIZED, []), "lm_head"]
    groups = {
        f"group_{number}_bits": {
            "targets": layers,
            "weights": _weights(storage, number, group),
            "format": "pack-quantized",
        }
        for number, layers in sorted(by_bits.items())
    }
    return {
        "quant_method": "compressed-tensors",
        "format": "pack-quantized",
        "quantization_status": "compressed",
        "config_groups": groups,
        "ignore": ignored,
    }


def _weights(storage: Storage, bits: int, group: int) -> dict[str, Any]:
    symmetric = is_symmetric(storage)
    return {"num_bits": bits, "type": "int", "symmetric": symmetric, "strategy": "group", "group_size": group}


def read_back(
    folder: Path, storage: Storage, bits: Mapping[str, int], group: int
) -> Iterator[tuple[str, torch.Tensor]]:
    """Yield each quantized module's weight as compressed-tensors' own decompressor reads it from the files."""
    from compressed_tensors.compressors.pack_quantized import PackedQuantizationCompressor  # noqa: PLC0415
    from compressed_tensors.quantization import QuantizationArgs, QuantizationScheme  # noqa: PLC0415

    checkpoint = Checkpoint.open_exported(folder)
    for layer, number in bits.items():
        if number == UNQUANTIZED:
            continue
        names = ["weight_packed", "weight_scale", "weight_shape"]
        names += [] if is_symmetric(storage) else ["weight_zero_point"]
        missing = [name for name in names if f"{layer}.{name}" not in checkpoint.tensors]
        if missing:
            raise ExportError(f"{folder}: {layer} has no {missing[0]}; it was silently not quantized")
        read = checkpoint.read(f"{layer}.{name}" for name in names)
        state = {name: read[f"{layer}.{name}"] for name in names}
        scheme = QuantizationScheme(
            targets=[layer], weights=QuantizationArgs(**_weights(storage, number, group))
        )
        yield layer, PackedQuantizationCompressor.decompress(state, scheme)["weight"]
