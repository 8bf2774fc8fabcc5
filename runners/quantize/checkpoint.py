"""A model's folder as it lies on the disk: configuration, safetensors shards, tokenizer; read a tensor at a time."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from runners.quantize.fault import CheckpointError

if TYPE_CHECKING:
    import torch

TOKENIZER_FILES: Final = (
    "tokenizer.json", "tokenizer.model", "vocab.json", "merges.txt", "tokenizer_config.json",
)  # fmt: skip
PIECE_BYTES: Final = 1 << 20


@dataclass(frozen=True, slots=True)
class TensorShape:
    """Holds the facts about one tensor in a shard's header."""

    name: str
    shape: tuple[int, ...]
    dtype: str
    file: str


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """The folder, its parsed configuration, and where each tensor lies. Nothing is loaded."""

    folder: Path
    config: Mapping[str, Any]
    tensors: Mapping[str, TensorShape]

    @classmethod
    def open(cls, folder: Path) -> Checkpoint:
        """Read configuration and headers; every fault names the file and the fix."""
        found = cls.open_exported(folder)
        if "quantization_config" in found.config:
            raise CheckpointError(
                f"{folder}: the model is quantized already; start from its original weights"
            )
        return found

    @classmethod
    def open_exported(cls, folder: Path) -> Checkpoint:
        """Return the same for a model that may be quantized, such as one of our own exports."""
        config_file = folder / "config.json"
        if not config_file.is_file():
            raise CheckpointError(
                f"{config_file}: there is no such file; give the folder of a transformers model"
            )
        try:
            config = json.loads(config_file.read_bytes())
        except ValueError as error:
            raise CheckpointError(f"{config_file}: not JSON ({error})") from error
        shards = weight_files(folder)
        if not shards:
            raise CheckpointError(f"{folder}: no *.safetensors here; convert the model to safetensors first")
        return cls(folder, config, {t.name: t for shard in shards for t in _header(shard)})

    @property
    def tied(self) -> bool:
        """Tell if the head is the embedding."""
        return "lm_head.weight" not in self.tensors

    def read(self, names: Iterable[str]) -> dict[str, torch.Tensor]:
        """Load these tensors, each shard opened once."""
        from safetensors import safe_open  # noqa: PLC0415 - the quantize extra

        loaded: dict[str, torch.Tensor] = {}
        with ExitStack() as stack:
            shards: dict[str, Any] = {}
            for name in names:
                file = self._shape(name).file
                if file not in shards:
                    shards[file] = stack.enter_context(safe_open(self.folder / file, framework="pt"))
                loaded[name] = shards[file].get_tensor(name)
        return loaded

    def _shape(self, name: str) -> TensorShape:
        if name not in self.tensors:
            raise CheckpointError(
                f"{self.folder}: no tensor is called {name}; a shard is missing or of another model"
            )
        return self.tensors[name]

    def model_digest(self) -> str:
        """Return SHA-256 over configuration and shards: the identity of the weights, under any folder name."""
        files = [self.folder / "config.json", *weight_files(self.folder)]
        return _digest_of(files)

    def tokenizer_digest(self) -> str:
        """SHA-256 over the tokenizer's files."""
        return _digest_of([path for name in TOKENIZER_FILES if (path := self.folder / name).is_file()])


def weight_files(folder: Path) -> list[Path]:
    """List the files of the model: those that its index names, or the one that needs none, as transformers has it.

    Mistral's folders hold the weights a second time, under other names (`consolidated.safetensors`), and a folder may
    have an adapter's (llama.cpp #8807): these are left alone. Without an index and a `model.safetensors`, as in our own
    exports, every file counts. Raises CheckpointError for an index that cannot be read, or names a missing file.
    """
    if (whole := folder / "model.safetensors").is_file():
        return [whole]
    index = folder / "model.safetensors.index.json"
    if not index.is_file():
        return sorted(folder.glob("*.safetensors"))
    try:
        named = sorted(set(json.loads(index.read_bytes())["weight_map"].values()))
        files = [folder / name for name in named]
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise CheckpointError(f"{index}: no index of shards ({error!r}); fetch it again") from error
    for name, file in zip(named, files, strict=True):
        if Path(name).name != name:
            raise CheckpointError(f"{index}: {name} is not in this folder; fetch the index again")
        if not file.is_file():
            raise CheckpointError(f"{file}: missing, though {index.name} names it; fetch it")
    return files


def _header(shard: Path) -> list[TensorShape]:
    """Return the JSON header of one shard: eight bytes of length, then names, dtypes and shapes."""
    try:
        with shard.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            header = json.loads(file.read(length))
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{shard}: not a safetensors file ({error}); fetch it again") from error
    data_bytes = max(
        (entry["data_offsets"][1] for name, entry in header.items() if name != "__metadata__"), default=0
    )
    if shard.stat().st_size != 8 + length + data_bytes:
        raise CheckpointError(f"{shard}: cut short at {shard.stat().st_size} bytes; fetch it again")
    return [
        TensorShape(name, tuple(entry["shape"]), entry["dtype"], shard.name)
        for name, entry in sorted(header.items())
        if name != "__metadata__"
    ]


def file_digest(path: Path) -> str:
    """SHA-256 of a file's bytes."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while piece := file.read(PIECE_BYTES):
            digest.update(piece)
    return digest.hexdigest()


def _digest_of(files: Iterable[Path]) -> str:
    total = hashlib.sha256()
    for path in files:
        total.update(f"{path.name} {file_digest(path)}\n".encode())
    return total.hexdigest()
