"""A GGUF with a type for each tensor, for llama.cpp and Ollama, through the kept `gguf` package.

Layers of 4, 5 and 8 bits are Q4_0, Q5_0 and Q8_0, whose codes are the solved and scored ones. Types below 4 bits exist
only in llama.cpp's own quantizer, for which `llama_quantize` writes the inputs.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import gguf
import numpy as np
import torch

from runners.quantize.checkpoint import Checkpoint
from runners.quantize.export import gguf_vocabulary
from runners.quantize.fault import ExportError
from runners.quantize.grid import QuantizedWeight
from runners.quantize.network import Network
from runners.quantize.stages.quantize import QuantizedBlocks

MODEL_FILE: Final = "model.gguf"
TYPES: Final = {
    4: gguf.GGMLQuantizationType.Q4_0,
    5: gguf.GGMLQuantizationType.Q5_0,
    8: gguf.GGMLQuantizationType.Q8_0,
}
ARCHITECTURES: Final = ("LlamaForCausalLM", "MistralForCausalLM")
PARTS: Final = {
    "self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k", "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output", "mlp.gate_proj": "ffn_gate", "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down", "input_layernorm": "attn_norm", "post_attention_layernorm": "ffn_norm",
}  # fmt: skip
OUTSIDE: Final = {
    "model.embed_tokens.weight": "token_embd.weight", "model.norm.weight": "output_norm.weight",
    "lm_head.weight": "output.weight",
}  # fmt: skip


def architecture(config: Mapping[str, Any]) -> str:
    """Return the architecture named by the model's configuration."""
    return str((config.get("architectures") or ["?"])[0])


def tensor_name(name: str) -> str:
    """Return llama.cpp's name for a tensor of the checkpoint."""
    if name in OUTSIDE:
        return OUTSIDE[name]
    number, _, part = name.removeprefix("model.layers.").partition(".")
    stem, _, kind = part.rpartition(".")
    if stem not in PARTS:
        raise ExportError(
            f"{name}: llama.cpp's Llama has no such tensor; export to compressed-tensors instead"
        )
    return f"blk.{number}.{PARTS[stem]}.{kind}"


def head_count(config: Mapping[str, Any], name: str) -> int:
    """Return how many heads a tensor's rows belong to, for those that llama.cpp wants in another order; else 0."""
    if ".q_proj." in f"{name}.":
        return int(config["num_attention_heads"])
    if ".k_proj." in f"{name}.":
        return int(config.get("num_key_value_heads") or config["num_attention_heads"])
    return 0


def interleaved(rows: torch.Tensor, heads: int) -> torch.Tensor:
    """llama.cpp rotates neighbouring rows of a head, transformers its halves: reorder the rows."""
    return rows.view(heads, 2, -1, *rows.shape[1:]).transpose(1, 2).reshape(rows.shape)


def halved(rows: torch.Tensor, heads: int) -> torch.Tensor:
    """Return the way back."""
    return rows.view(heads, -1, 2, *rows.shape[1:]).transpose(1, 2).reshape(rows.shape)


def block_bytes(codes: torch.Tensor, scale: torch.Tensor, bits: int) -> Any:
    """Codes (rows, columns) counted from 0 and float16 scales as the blocks that ggml stores."""
    rows = len(codes)
    groups = codes.reshape(-1, 32).numpy().astype(np.uint8)
    scales = scale.reshape(-1, 1).numpy().astype(np.float16).view(np.uint8)
    if bits == 8:
        packed = (groups.astype(np.int16) - 128).astype(np.int8).view(np.uint8)
        return np.concatenate([scales, packed], axis=-1).reshape(rows, -1)
    low, high = groups[:, :16], groups[:, 16:]
    nibbles = (low & 15) | ((high & 15) << 4)
    parts = [scales, nibbles]
    if bits == 5:
        parts.insert(1, np.packbits(groups >> 4, axis=-1, bitorder="little"))
    return np.concatenate(parts, axis=-1).reshape(rows, -1)


def faults(checkpoint: Checkpoint) -> Iterator[str]:
    """Yield the parts of the model that llama.cpp would misread; none if it can be written."""
    config = checkpoint.config
    if architecture(config) not in ARCHITECTURES:
        known = ", ".join(ARCHITECTURES)
        yield f"{architecture(config)}: only {known} are written as GGUF; use another --storage"
        return
    yield from (f"config.json: {fault}; use another --storage" for fault in _parameter_faults(config))
    yield from gguf_vocabulary.faults(checkpoint)


def _parameter_faults(config: Mapping[str, Any]) -> Iterator[str]:
    for name in ("rope_parameters", "rope_scaling"):
        rope = config.get(name) or {}
        if (kind := rope.get("rope_type", rope.get("type", "default"))) != "default":
            yield f"{name} {kind}: not written as GGUF here, and without it long texts come out wrong"
        if rope.get("partial_rotary_factor", 1.0) != 1.0:
            yield f"{name}.partial_rotary_factor: llama.cpp's Llama rotates all of a head"
    if (activation := config.get("hidden_act", "silu")) != "silu":
        yield f"hidden_act {activation}: llama.cpp's Llama has silu only"
    if (window := config.get("sliding_window")) and window < config["max_position_embeddings"]:
        yield f"sliding_window {window}: llama.cpp's Llama looks at everything before a token"


def export(network: Network, blocks: QuantizedBlocks, folder: Path) -> None:
    """Write model.gguf."""
    config = network.checkpoint.config
    if found := list(faults(network.checkpoint)):
        raise ExportError("; ".join(found))
    writer = gguf.GGUFWriter(folder / MODEL_FILE, "llama")
    _write_parameters(writer, config)
    gguf_vocabulary.write(writer, network.checkpoint)
    for name in OUTSIDE:
        if name in network.checkpoint.tensors:
            _add_plain(writer, name, network.checkpoint.read([name])[name], config)
    for index in range(network.block_count):
        _add_block(writer, network, blocks, index)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def _add_block(writer: gguf.GGUFWriter, network: Network, blocks: QuantizedBlocks, index: int) -> None:
    layers = blocks.layers(index)
    config = network.checkpoint.config
    for name, layer in layers.items():
        if isinstance(layer, torch.Tensor):
            _add_plain(writer, f"{name}.weight", layer, config)
            continue
        data = _packed(layer, head_count(config, name))
        writer.add_tensor(tensor_name(f"{name}.weight"), data, raw_dtype=TYPES[layer.grid.bits])
    others = [n for n in network.block_tensors(index) if n.removesuffix(".weight") not in layers]
    tensors = network.checkpoint.read(others)
    for name, tensor in (tensors | dict(blocks.other_overrides(index))).items():
        _add_plain(writer, name, tensor, config)


def _packed(layer: QuantizedWeight, heads: int) -> Any:
    codes, scale = layer.codes, layer.scale
    if heads:
        codes, scale = interleaved(codes, heads), interleaved(scale, heads)
    return block_bytes(codes, scale, layer.grid.bits)


def _add_plain(writer: gguf.GGUFWriter, name: str, tensor: torch.Tensor, config: Mapping[str, Any]) -> None:
    """Matrices in bfloat16 as they were, vectors in float32 as llama.cpp wants its norms."""
    heads = head_count(config, name)
    values = interleaved(tensor, heads) if heads else tensor
    if values.ndim < 2:
        writer.add_tensor(tensor_name(name), values.float().numpy())
        return
    raw = values.to(torch.bfloat16).contiguous().view(torch.uint8).numpy()
    writer.add_tensor(tensor_name(name), raw, raw_dtype=gguf.GGMLQuantizationType.BF16)


def _write_parameters(writer: gguf.GGUFWriter, config: Mapping[str, Any]) -> None:
    heads = int(config["num_attention_heads"])
    width = int(config.get("head_dim") or config["hidden_size"] // heads)
    rope = config.get("rope_parameters") or {}
    writer.add_context_length(config["max_position_embeddings"])
    writer.add_embedding_length(config["hidden_size"])
    writer.add_block_count(config["num_hidden_layers"])
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_head_count(heads)
    writer.add_head_count_kv(config.get("num_key_value_heads") or heads)
    writer.add_key_length(width)
    writer.add_value_length(width)
    writer.add_rope_dimension_count(width)
    writer.add_rope_freq_base(float(rope.get("rope_theta") or config.get("rope_theta") or 10_000.0))
    writer.add_layer_norm_rms_eps(config["rms_norm_eps"])
    writer.add_vocab_size(config["vocab_size"])


def read_back(folder: Path, checkpoint: Checkpoint) -> Iterator[tuple[str, torch.Tensor]]:
    """Yield each quantized tensor as the `gguf` package's own dequantizer reads it from the file."""
    reader = gguf.GGUFReader(folder / MODEL_FILE)
    tensors = {tensor.name: tensor for tensor in reader.tensors}
    for name in checkpoint.tensors:
        if not name.startswith("model.layers.") or not name.endswith("_proj.weight"):
            continue
        tensor = tensors.get(tensor_name(name))
        if tensor is None:
            raise ExportError(f"{folder / MODEL_FILE}: {tensor_name(name)} is missing")
        if tensor.tensor_type not in TYPES.values():
            continue
        values = torch.from_numpy(gguf.quants.dequantize(tensor.data, tensor.tensor_type).copy())
        heads = head_count(checkpoint.config, name)
        yield name.removesuffix(".weight"), halved(values, heads) if heads else values
