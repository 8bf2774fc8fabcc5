"""Text as windows of token ids: seeded samples to calibrate on, the whole text without overlap to evaluate on."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import torch

from runners.quantize.checkpoint import Checkpoint
from runners.quantize.fault import CheckpointError, SettingsError


def load_tokenizer(checkpoint: Checkpoint) -> Any:
    """Return the model's own tokenizer, which must not make ids that its embedding has no row for."""
    from transformers import AutoTokenizer  # noqa: PLC0415 - the quantize extra

    try:
        tokenizer = AutoTokenizer.from_pretrained(checkpoint.folder)
    except (OSError, ValueError) as error:
        raise CheckpointError(
            f"{checkpoint.folder}: no usable tokenizer ({error}); put tokenizer.json there"
        ) from error
    rows = checkpoint.tensors["model.embed_tokens.weight"].shape[0]
    if len(tokenizer) > rows:
        raise CheckpointError(
            f"{checkpoint.folder}: the tokenizer has {len(tokenizer)} tokens and the embedding {rows} rows; "
            "it belongs to another model"
        )
    return tokenizer


def token_ids(tokenizer: Any, path: Path) -> torch.Tensor:
    """Return the text's ids, one long row."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(f"{path}: not a readable UTF-8 text ({error})") from error
    ids = tokenizer(text, add_special_tokens=False, return_attention_mask=False, verbose=False)["input_ids"]
    return torch.tensor(ids, dtype=torch.long)


def whole_text(ids: torch.Tensor, window: int, limit: int = 0) -> torch.Tensor:
    """Cut the text into windows without overlap from its beginning; an incomplete last one is left out."""
    count = len(ids) // window
    if count < 1:
        raise SettingsError(f"the text has {len(ids)} tokens and a window {window}; give a longer text")
    windows = ids[: count * window].view(count, window)
    return windows[:limit] if limit else windows


def sample(ids: torch.Tensor, window: int, count: int, seed: int) -> torch.Tensor:
    """Windows drawn without replacement; the first of more are the same as of fewer."""
    windows = whole_text(ids, window)
    if count > len(windows):
        raise SettingsError(
            f"--calibration-windows {count}: the text has only {len(windows)} windows of {window}"
        )
    order = torch.randperm(len(windows), generator=torch.Generator().manual_seed(seed))
    return windows[order[:count]].contiguous()


def digest(ids: torch.Tensor) -> str:
    """SHA-256 of the ids and their shape."""
    return hashlib.sha256(f"{tuple(ids.shape)}".encode() + ids.to(torch.int64).numpy().tobytes()).hexdigest()
