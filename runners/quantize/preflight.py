"""Find every fault that can be known before any work is done, over all layers at once, and plan in figures."""

from __future__ import annotations

import shutil
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from runners.quantize import sizes
from runners.quantize.checkpoint import Checkpoint
from runners.quantize.fault import PreflightError
from runners.quantize.footprint import Footprint
from runners.quantize.settings import Settings
from runners.quantize.storage import UNQUANTIZED

MOST_NAMED = 8


@dataclass(frozen=True, slots=True)
class Plan:
    """Holds the steps, costs and results of a run in figures."""

    layers: int
    weights: int
    calibration_tokens: int
    largest_layer: str
    device_bytes: int
    disk_bytes: int
    disk_free_bytes: int
    layers_limit_bytes: int
    least_bytes: int
    most_bytes: int
    items: sizes.Items
    unquantized: tuple[str, ...]
    ceiling: str

    def lines(self) -> list[str]:
        """Return the plan for a reader."""
        bits = 8 * self.layers_limit_bytes / self.weights
        return [
            f"layers        {self.layers} linear layers, {self.weights:,} weights; the rest stays as it is",
            f"calibration   {self.calibration_tokens:,} tokens",
            f"limit         {self.layers_limit_bytes:,} bytes for the layers, {bits:.3f} bits a weight",
            f"ceiling       {self.ceiling}",
            f"possible      {self.least_bytes:,} to {self.most_bytes:,} bytes",
            f"embedding     {self.items.embedding:,} bytes; head {self.items.head:,}; others {self.items.rest:,}",
            f"cache         {self.items.key_value_cache:,} bytes",
            f"lora          {self.items.lora:,} bytes; reserve {self.items.reserve:,}",
            f"memory        about {self.device_bytes:,} bytes on the device",
            f"largest       {self.largest_layer}",
            f"disk          {self.disk_bytes:,} of {self.disk_free_bytes:,} bytes free",
            *(f"left alone    {name}: no plain linear layer" for name in self.unquantized),
        ]


def preflight(checkpoint: Checkpoint, layers: list[str], settings: Settings, folder: Path) -> Plan:
    """Check all layers; refuse with every fault named, or return the plan."""
    faults = [
        *_split_experts(checkpoint, layers),
        *_no_floats(checkpoint, layers),
        *_misfits(checkpoint, layers, settings.group),
        *_lone_bounds(layers, settings),
        *_unwritable(checkpoint, settings),
    ]
    if faults:
        more = f" (and {len(faults) - MOST_NAMED} more)" if len(faults) > MOST_NAMED else ""
        raise PreflightError("; ".join(faults[:MOST_NAMED]) + more)
    plan = _plan(checkpoint, layers, settings, folder)
    if plan.disk_bytes > plan.disk_free_bytes:
        raise PreflightError(
            f"{folder}: {plan.disk_bytes:,} bytes are needed and {plan.disk_free_bytes:,} are free; "
            "choose another --work or fewer --calibration-windows"
        )
    return plan


def _split_experts(checkpoint: Checkpoint, layers: Iterable[str]) -> list[str]:
    """Name the layers that transformers 5 stacks and Mixtral holds expert by expert; such a block cannot be loaded."""
    known = {f"{layer}.weight" for layer in layers}
    split = [
        n for n, t in checkpoint.tensors.items() if ".experts." in n and len(t.shape) == 2 and n not in known
    ]
    fault = (
        "{}: this model's experts are matrices of their own here and one stacked parameter in transformers; "
        "such mixtures of experts cannot be quantized, choose a dense model"
    )
    return [fault.format(name) for name in split[:1]]


def _no_floats(checkpoint: Checkpoint, layers: Iterable[str]) -> list[str]:
    """Float8 and integers hold a weight only together with scales that nothing here would apply."""
    return [
        f"{layer}.weight: dtype {dtype} is quantized already; start from the model's original weights"
        for layer in layers
        if (dtype := checkpoint.tensors[f"{layer}.weight"].dtype) not in sizes.FLOATS
    ]


def _misfits(checkpoint: Checkpoint, layers: Iterable[str], group: int) -> list[str]:
    """Hqq looks only at the number of weights, and lets groups straddle rows."""
    return [
        f"{layer}: {columns} inputs are not a multiple of --group {group}"
        for layer in layers
        if (columns := checkpoint.tensors[f"{layer}.weight"].shape[1]) % group
    ]


def _lone_bounds(layers: list[str], settings: Settings) -> list[str]:
    return [
        f"--bound {bound}: no layer is called so"
        for bound in settings.bounds
        if not any(bound.covers(layer) for layer in layers)
    ]


def _unwritable(checkpoint: Checkpoint, settings: Settings) -> list[str]:
    """Name the parts that the format cannot hold, so that a server would read another model."""
    if settings.storage != "gguf":
        return []
    from runners.quantize.export import gguf_file  # noqa: PLC0415 - numpy and gguf, for this storage only

    return list(gguf_file.faults(checkpoint))


def _plan(checkpoint: Checkpoint, layers: list[str], settings: Settings, folder: Path) -> Plan:
    def count(layer: str) -> int:
        return sizes.parameters(checkpoint, [layer])

    largest = max(layers, key=count)
    weights = sizes.parameters(checkpoint, layers)
    extremes = [
        sum(sizes.layer_bytes(checkpoint, settings.format, x, bits, settings.group) for x in layers)
        for bits in (settings.bits[0], settings.bits[-1])
    ]
    blocks = int(checkpoint.config["num_hidden_layers"])
    tokens = settings.calibration_windows * settings.window
    state_bytes = 4 * tokens * int(checkpoint.config["hidden_size"])
    # Fused parts of MoE experts are parameters of their own, which no solver here sees.
    others = [n for n, t in checkpoint.tensors.items() if len(t.shape) > 2]
    limit = sizes.limit_bytes(checkpoint, layers, settings)
    items = sizes.itemise(checkpoint, layers, 0, settings.memory)
    return Plan(
        layers=len(layers),
        weights=weights,
        calibration_tokens=tokens,
        largest_layer=largest,
        device_bytes=Footprint(checkpoint, layers, settings).most,
        disk_bytes=(2 * blocks + 1) * state_bytes + 2 * weights + 4 * weights,
        disk_free_bytes=shutil.disk_usage(_existing(folder)).free,
        layers_limit_bytes=min(limit, extremes[1]) if settings.bits != (UNQUANTIZED,) else limit,
        least_bytes=extremes[0],
        most_bytes=extremes[1],
        items=items,
        unquantized=tuple(others[:MOST_NAMED]),
        ceiling=sizes.plainly(items, settings.memory.ceiling_bytes, weights),
    )


def _existing(folder: Path) -> Path:
    return next(path for path in (folder.absolute(), *folder.absolute().parents) if path.exists())
