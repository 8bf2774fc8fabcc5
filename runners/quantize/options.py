"""The command line's options and the settings they make. Standard library only, so that `--help` is quick."""

from __future__ import annotations

import argparse
import os
import re
from dataclasses import replace
from pathlib import Path
from typing import Final

from runners.quantize.settings import ALLOCATORS, SIGNALS, SOLVERS, Bound, Memory, Settings
from runners.quantize.storage import STORAGES

UNITS: Final = {
    "": 1,
    "B": 1,
    "KB": 10**3,
    "MB": 10**6,
    "GB": 10**9,
    "KIB": 1 << 10,
    "MIB": 1 << 20,
    "GIB": 1 << 30,
}


def cache_folder() -> Path:
    """Return the folder of scores and demo models kept between runs."""
    base = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(base) / "hsaq"


def size(text: str) -> int:
    """Return bytes from `12GiB`, `800MB` or a plain number."""
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([KMG]?I?B)?\s*", text.upper())
    if match is None:
        raise argparse.ArgumentTypeError(f"{text!r}: expected bytes such as 12GiB, 800MB or 1048576")
    return int(float(match[1]) * UNITS[match[2] or ""])


def bit_list(text: str) -> tuple[int, ...]:
    """`2,3,4,8` in rising order."""
    try:
        return tuple(sorted({int(part) for part in text.split(",")}))
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r}: expected numbers such as 2,3,4,8") from None


def add_settings(parser: argparse.ArgumentParser, default: Settings) -> None:
    """Options of everything that makes a quantized model."""
    add = parser.add_argument
    budget = parser.add_mutually_exclusive_group()
    budget.add_argument(
        "--bpw", type=float, default=0.0, metavar="BITS", help="bits a weight of the layers, scales included"
    )
    budget.add_argument(
        "--ceiling", type=size, default=0, metavar="BYTES", help="memory of the card, such as 12GiB"
    )
    add("--context", type=int, default=default.memory.context, help="tokens kept in the cache (%(default)s)")
    add("--batch", type=int, default=default.memory.batch, help="sequences kept in the cache (%(default)s)")
    add("--lora-rank", type=int, default=default.memory.lora_rank, help="room for adapters (%(default)s)")
    add(
        "--reserve",
        type=size,
        default=default.memory.reserve_bytes,
        help="for the runtime (%(default)s bytes)",
    )
    add(
        "--storage",
        choices=sorted(STORAGES),
        default=default.storage,
        help="format of the export (%(default)s)",
    )
    add("--solver", choices=SOLVERS, default=default.solver, help="(%(default)s)")
    add(
        "--signal",
        choices=SIGNALS,
        default=default.signal,
        help="the figure that the allocator minimises (%(default)s)",
    )
    add("--allocator", choices=ALLOCATORS, default=default.allocator, help="(%(default)s)")
    add("--bits", type=bit_list, default=None, metavar="LIST", help="choices for each layer, such as 2,3,4,8")
    add("--group", type=int, default=None, help="weights that share a scale (64; gguf: 32)")
    add("--bound", action="append", default=[], metavar="RULE", help="such as 'o_proj>=4'; may be repeated")
    add("--free", action="store_true", help="let fused layers (q/k/v, gate/up) differ; vLLM cannot load that")
    add("--calibration-windows", type=int, default=default.calibration_windows, help="(%(default)s)")
    add(
        "--window",
        type=int,
        default=default.window,
        help="tokens a window, at most the model's (%(default)s)",
    )
    add(
        "--evaluation-windows",
        type=int,
        default=default.evaluation_windows,
        help="0 is the whole text (%(default)s)",
    )
    add(
        "--micro-batch",
        type=int,
        default=default.micro_batch,
        help="halved when memory runs out (%(default)s)",
    )
    add("--seed", type=int, default=default.seed, help="(%(default)s)")
    add("--device", default=default.device, help="auto, cpu, cuda (%(default)s)")
    add(
        "--threads",
        type=int,
        default=default.threads,
        help="on a CPU; another number changes last digits (%(default)s)",
    )


def settings_of(options: argparse.Namespace, default: Settings) -> Settings:
    """Build the settings from options; bits and group default to those of the format."""
    storage = STORAGES[options.storage]
    usual = tuple(b for b in default.bits if b in storage.bits)
    return replace(
        default,
        storage=options.storage,
        solver=options.solver,
        group=options.group or storage.group,
        bits=options.bits or usual,
        signal=options.signal,
        allocator=options.allocator,
        bits_per_weight=options.bpw,
        memory=Memory(options.ceiling, options.context, options.batch, options.lora_rank, options.reserve),
        bounds=tuple(Bound.parse(text) for text in options.bound),
        fused=not options.free,
        calibration_windows=options.calibration_windows,
        window=options.window,
        evaluation_windows=options.evaluation_windows,
        micro_batch=options.micro_batch,
        seed=options.seed,
        device=options.device,
        threads=options.threads,
    )


def add_places(parser: argparse.ArgumentParser) -> None:
    """Add the options for a run's folder and cache."""
    parser.add_argument("--work", type=Path, default=Path("hsaq-work"), help="the run's folder (%(default)s)")
    parser.add_argument("--cache", type=Path, default=None, help=f"scores and demo models ({cache_folder()})")
    parser.add_argument("--ray", type=int, default=0, metavar="N", help="spread blocks over N Ray workers")
    parser.add_argument("--ray-address", default=None, help="of a Ray cluster; default: one on this machine")
