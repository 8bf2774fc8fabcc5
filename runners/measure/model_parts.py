"""The models in a command: files of weights, folders of them, names at Hugging Face, and what Ollama serves."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from runners.measure.parts import Parts, text_of

WEIGHTS: Final = frozenset({".bin", ".ggml", ".gguf", ".h5", ".onnx", ".pt", ".pth", ".safetensors"})
_BESIDE: Final = frozenset({*WEIGHTS, ".jinja", ".json", ".model", ".py", ".txt"})
_MOST_REFERENCE: Final = 1_024
_HUB_NAME: Final = re.compile(r"[A-Za-z0-9][\w.-]{0,95}/[A-Za-z0-9][\w.-]{0,95}")


def model_parts(parts: Parts, words: Sequence[str], folder: Path, environment: Mapping[str, str]) -> None:
    """Add the files of each model that a command names."""
    home = Path(environment.get("HOME") or "/nonexistent")
    for word in words:
        name = word.partition("=")[2] if word.startswith("-") else word
        if not name or "\0" in name or len(name) > 4_095:
            continue
        place = folder / name
        if place.is_dir() and _has_weights(place):
            _folder(parts, place)
        elif _HUB_NAME.fullmatch(name):
            hub = Path(environment.get("HF_HOME") or home / ".cache/huggingface") / "hub"
            _hub(parts, hub / f"models--{name.replace('/', '--')}")
    if words and Path(words[0]).name == "ollama":
        manifests = Path(environment.get("OLLAMA_MODELS") or home / ".ollama/models") / "manifests"
        parts.tree(manifests, "model")


def _has_weights(folder: Path) -> bool:
    return any(path.suffix in WEIGHTS for path in folder.iterdir())


def _folder(parts: Parts, folder: Path) -> None:
    for path in sorted(folder.iterdir()):
        if path.suffix in _BESIDE:
            parts.add(path, "model")


def _hub(parts: Parts, place: Path) -> None:
    """Take a model of Hugging Face's cache: which snapshot its reference names, and the files of that."""
    for reference in sorted(place.glob("refs/*")):
        parts.add(reference, "model")
        snapshot = place / "snapshots" / text_of(reference, _MOST_REFERENCE).decode(errors="replace").strip()
        if snapshot.is_dir():
            parts.tree(snapshot, "model")
