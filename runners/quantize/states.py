"""Keep tensors of a run on the disk: written whole or not at all, read back only if the digest is right."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

from runners.durable import sync_and_rename
from runners.quantize.checkpoint import file_digest
from runners.quantize.fault import StaleError


def write_durably(
    path: Path, tensors: Mapping[str, torch.Tensor], metadata: Mapping[str, str] | None = None
) -> str:
    """Write beside, make durable, rename into place; return the SHA-256 of the file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    placed = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    save_file(placed, draft, metadata=dict(metadata or {}))
    digest = file_digest(draft)
    sync_and_rename(draft, path)
    return digest


def read_verified(path: Path, digest: str) -> dict[str, torch.Tensor]:
    """Load a file that must have this digest."""
    if not is_intact(path, digest):
        raise StaleError(f"{path}: missing or not what was committed; run again, it will be made anew")
    tensors: dict[str, torch.Tensor] = load_file(path)
    return tensors


def is_intact(path: Path, digest: str) -> bool:
    """Tell if the file is there and has the committed digest."""
    return path.is_file() and file_digest(path) == digest
