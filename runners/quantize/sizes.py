"""Count exact bytes, itemised: the model on the disk and on the card, and a ceiling's rest for its layers."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import prod

from runners.quantize.checkpoint import Checkpoint, TensorShape
from runners.quantize.fault import BudgetError, CheckpointError
from runners.quantize.settings import Memory, Settings
from runners.quantize.storage import Storage

DTYPE_BYTES = {"BF16": 2, "F16": 2, "F32": 4, "F64": 8, "I64": 8, "I32": 4, "I8": 1, "U8": 1, "BOOL": 1}
FLOATS = frozenset({"BF16", "F16", "F32", "F64"})
CACHE_VALUE_BYTES = 2


@dataclass(frozen=True, slots=True)
class Items:
    """Itemises the bytes; `head` is 0 if it is the embedding."""

    layers: int
    embedding: int
    head: int
    rest: int
    key_value_cache: int = 0
    lora: int = 0
    reserve: int = 0

    @property
    def weights(self) -> int:
        """Return bytes of the exported tensors."""
        return self.layers + self.embedding + self.head + self.rest

    @property
    def total(self) -> int:
        """Return bytes on the card."""
        return self.weights + self.key_value_cache + self.lora + self.reserve

    def as_json(self) -> dict[str, int]:
        values = {name: int(getattr(self, name)) for name in self.__slots__}
        return {**values, "weights": self.weights, "total": self.total}


def layer_bytes(checkpoint: Checkpoint, storage: Storage, layer: str, bits: int, group: int) -> int:
    """Return the bytes of one stored linear weight; its bias is counted with the rest."""
    rows, columns = checkpoint.tensors[f"{layer}.weight"].shape
    return storage.bytes_of(rows, columns, bits, group)


def tensor_bytes(tensor: TensorShape) -> int:
    """Return the bytes of one tensor of the checkpoint. Raises CheckpointError at a foreign dtype, such as float8."""
    if tensor.dtype not in DTYPE_BYTES:
        raise CheckpointError(
            f"{tensor.name}: dtype {tensor.dtype} is not one of {', '.join(DTYPE_BYTES)}; "
            "start from the model's original weights, in bfloat16"
        )
    return prod(tensor.shape) * DTYPE_BYTES[tensor.dtype]


def parameters(checkpoint: Checkpoint, layers: Iterable[str]) -> int:
    """Weights in these layers."""
    return sum(prod(checkpoint.tensors[f"{layer}.weight"].shape) for layer in layers)


def itemise(checkpoint: Checkpoint, layers: Sequence[str], layers_bytes: int, memory: Memory) -> Items:
    """Itemise the bytes beside the quantized layers, in the checkpoint's own dtype."""
    quantized = {f"{layer}.weight" for layer in layers}
    parts = {"embedding": 0, "head": 0, "rest": 0}
    for name, tensor in checkpoint.tensors.items():
        if name in quantized:
            continue
        part = {"model.embed_tokens.weight": "embedding", "lm_head.weight": "head"}.get(name, "rest")
        parts[part] += tensor_bytes(tensor)
    with_card = memory.ceiling_bytes > 0
    return Items(
        layers=layers_bytes,
        embedding=parts["embedding"],
        head=parts["head"],
        rest=parts["rest"],
        key_value_cache=cache_bytes(checkpoint.config, memory) if with_card else 0,
        lora=lora_bytes(checkpoint, layers, memory.lora_rank) if with_card else 0,
        reserve=memory.reserve_bytes if with_card else 0,
    )


def cache_bytes(config: Mapping[str, int], memory: Memory) -> int:
    """Keys and values of every block at the full context, in 16 bits."""
    heads = config["num_attention_heads"]
    width = config.get("head_dim") or config["hidden_size"] // heads
    key_value_heads = config.get("num_key_value_heads") or heads
    per_token = 2 * config["num_hidden_layers"] * key_value_heads * width * CACHE_VALUE_BYTES
    return per_token * memory.context * memory.batch


def lora_bytes(checkpoint: Checkpoint, layers: Sequence[str], rank: int) -> int:
    """Two 16-bit factors a layer."""
    return sum(2 * rank * sum(checkpoint.tensors[f"{layer}.weight"].shape) for layer in layers)


def limit_bytes(checkpoint: Checkpoint, layers: Sequence[str], settings: Settings) -> int:
    """Return the limit for the layers: from bits a weight, from a ceiling's rest, or without either no limit."""
    if settings.bits_per_weight:
        return int(settings.bits_per_weight * parameters(checkpoint, layers) / 8)
    if not settings.memory.ceiling_bytes:
        return 2 * parameters(checkpoint, layers)
    others = itemise(checkpoint, layers, 0, settings.memory)
    left = settings.memory.ceiling_bytes - others.total
    if left <= 0:
        raise BudgetError(
            f"--ceiling: {settings.memory.ceiling_bytes:,} bytes are less than the {others.total:,} that embedding, "
            f"head, cache for {settings.memory.context:,} tokens and reserve take; shorten --context or raise it"
        )
    return left


def plainly(others: Items, ceiling_bytes: int, weights_count: int) -> str:
    """Say in one sentence how much a ceiling leaves for the layers, once all the `others` have theirs."""
    if not ceiling_bytes:
        return "none was given"
    left = ceiling_bytes - others.total
    return (
        f"{ceiling_bytes:,} bytes less {others.total:,} for all else "
        f"leave {left:,}: {8 * left / weights_count:.2f} bits a weight"
    )
