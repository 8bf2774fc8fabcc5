"""Export in the format of the run's storage, and check the files the way their loaders read them."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

import torch

from runners.quantize.export import compressed, gguf_file, hqq_container, llama_quantize
from runners.quantize.fault import ExportError
from runners.quantize.grid import QuantizedWeight
from runners.quantize.manifest import digests_of
from runners.quantize.run import Run
from runners.quantize.stages.quantize import QuantizedBlocks
from runners.quantize.storage import UNQUANTIZED

EXPORTS: Final = "export"
LLAMA_PLAN: Final = "llama.cpp"

Pairs = Iterator[tuple[str, torch.Tensor]]


def export_and_check(run: Run, blocks: QuantizedBlocks) -> dict[str, Any]:
    """Write the export anew if its files are not the recorded ones, read it back, and return the findings."""
    name, group = run.settings.storage, run.settings.group
    folder = run.workspace.folder / EXPORTS / name
    recorded = run.workspace.journal.get("export")
    if recorded is None or not folder.is_dir() or digests_of(folder) != recorded["sha256"]:
        draft = folder.with_name(f".{name}")
        shutil.rmtree(draft, ignore_errors=True)
        draft.mkdir(parents=True)
        _write(run, blocks, draft)
        shutil.rmtree(folder, ignore_errors=True)
        draft.rename(folder)
    readers: dict[str, Callable[[], Pairs]] = {
        "hqq": lambda: hqq_container.read_back(folder),
        "gguf": lambda: gguf_file.read_back(folder, run.checkpoint),
    }
    reader = readers.get(name, lambda: compressed.read_back(folder, run.settings.format, blocks.bits, group))
    found = {"modules": check_equal(run, blocks, reader()), "sha256": digests_of(folder)}
    run.workspace.journal.put("export", found)
    return {name: found}


def _write(run: Run, blocks: QuantizedBlocks, folder: Path) -> None:
    writers = {"hqq": hqq_container.export, "gguf": gguf_file.export}
    if run.settings.storage in writers:
        writers[run.settings.storage](run.network, blocks, folder)
    else:
        compressed.export(run.network, blocks, run.settings.format, run.settings.group, folder)
    if gguf_file.architecture(run.checkpoint.config) in gguf_file.ARCHITECTURES:
        _write_llama_plan(run, blocks, folder / LLAMA_PLAN)


def _write_llama_plan(run: Run, blocks: QuantizedBlocks, folder: Path) -> None:
    """Write the same allocation for the types that only llama.cpp's own quantizer makes."""
    folder.mkdir()
    llama_quantize.write_types(folder / llama_quantize.TYPES_FILE, blocks.bits)
    powers = {name: power for i in range(run.block_count) for name, power in blocks.input_power(i).items()}
    if powers:
        dataset = f"sha256 {run.identity['calibration']}"
        chunks, tokens = run.settings.calibration_windows, run.settings.window
        llama_quantize.write_imatrix(folder / llama_quantize.IMATRIX_FILE, powers, dataset, chunks, tokens)


def check_equal(run: Run, blocks: QuantizedBlocks, found: Pairs) -> int:
    """Require every quantized module read back to equal, bit for bit, the evaluated weight; return their number."""
    wanted: dict[str, torch.Tensor] = {}
    waiting = {layer for layer, bits in blocks.bits.items() if bits != UNQUANTIZED}
    count = 0
    for layer, weight in found:
        if layer not in wanted:
            wanted = _dequantized(blocks, _block_of(run, layer))
        if not torch.equal(weight.float(), wanted[layer]):
            raise ExportError(
                f"{layer}: the exported weight is not the one that was evaluated; the export is INVALID"
            )
        waiting.discard(layer)
        count += 1
    if waiting:
        raise ExportError(f"{min(waiting)}: it is not in the export as a quantized module")
    return count


def _dequantized(blocks: QuantizedBlocks, index: int) -> dict[str, torch.Tensor]:
    layers = blocks.layers(index)
    return {name: layer.dequantized() for name, layer in layers.items() if isinstance(layer, QuantizedWeight)}


def _block_of(run: Run, layer: str) -> int:
    return next(i for i in range(run.block_count) if layer in run.network.linears(i))
