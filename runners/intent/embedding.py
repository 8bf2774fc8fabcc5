"""Embed texts with WordLlama's 256 numbers a token, read off the two files of its wheel. Opens no socket, ever.

The package itself is never imported: version 0.4.0 looks for its tokenizer in a folder that its wheel does not have,
and then downloads one; and it imports pydantic and requests.
"""

from __future__ import annotations

import hashlib
import json
import struct
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Final, Protocol

import numpy as np

from runners.intent.arrays import Matrix
from runners.intent.needs import missing

NAME: Final = "wordllama-256"
_PACKAGE: Final = "wordllama"
_WEIGHTS: Final = Path("weights") / "l2_supercat_256.safetensors"
_TOKENIZER: Final = Path("tokenizers") / "l2_supercat_tokenizer_config.json"
_TENSOR: Final = "embedding.weight"
_LENGTH: Final = struct.Struct("<Q")


class EmbeddingError(Exception):
    """Texts cannot be embedded; the message names what is missing, and the fix."""


class Embedder(Protocol):
    """Turns texts into rows of unit length."""

    @property
    def name(self) -> str:
        """Return the model's name."""
        ...

    @property
    def digest(self) -> str:
        """Return what tells these weights from others: a classifier fitted to others is of no use with them."""
        ...

    def embed(self, texts: Sequence[str]) -> Matrix:
        """Return one row a text. Raises EmbeddingError."""
        ...


class WordLlama:
    """Averages the static embeddings of a text's tokens."""

    name = NAME

    def __init__(self, weights: bytes, tokenizer: bytes) -> None:
        from tokenizers import Tokenizer  # noqa: PLC0415 - an extra

        self._table = _table(weights)
        self._tokenizer = Tokenizer.from_str(tokenizer.decode())
        self._tokenizer.no_padding()
        self._tokenizer.no_truncation()
        self.digest = hashlib.sha256(weights + tokenizer).hexdigest()

    @classmethod
    def installed(cls) -> WordLlama:
        """Read the files of the installed wheel. Raises EmbeddingError."""
        folder = _folder()
        try:
            return cls((folder / _WEIGHTS).read_bytes(), (folder / _TOKENIZER).read_bytes())
        except (OSError, ValueError) as error:
            raise EmbeddingError(f"{folder}: {error}: install `epad[intent]` anew") from error

    def embed(self, texts: Sequence[str]) -> Matrix:
        """Return one row of 256 a text; of a text without a token, zeros."""
        rows = np.zeros((len(texts), self._table.shape[1]))
        for place, coded in enumerate(self._coded(texts)):
            if coded:
                rows[place] = self._table[coded].mean(axis=0, dtype=np.float32)
        return rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-9)

    def _coded(self, texts: Sequence[str]) -> list[list[int]]:
        return [one.ids for one in self._tokenizer.encode_batch(list(texts), add_special_tokens=False)]


def _table(weights: bytes) -> Matrix:
    """Return the embedding of each token out of a file of safetensors: a length, a header in JSON, the numbers.

    Raises EmbeddingError.
    """
    try:
        (size,) = _LENGTH.unpack_from(weights)
        told = json.loads(weights[_LENGTH.size : _LENGTH.size + size])[_TENSOR]
        begin, end = (_LENGTH.size + size + offset for offset in told["data_offsets"])
        if told["dtype"] != "F16":
            raise EmbeddingError(f"the weights are {told['dtype']}, not F16: install `epad[intent]` anew")
        return np.frombuffer(weights[begin:end], dtype="<f2").reshape(told["shape"])
    except (struct.error, ValueError, KeyError, TypeError) as error:
        raise EmbeddingError(f"the weights cannot be read: {error}: install `epad[intent]` anew") from error


def _folder() -> Path:
    if why := missing():
        raise EmbeddingError(why)
    spec = find_spec(_PACKAGE)  # finds the folder, and runs nothing of it
    places = list(spec.submodule_search_locations or ()) if spec else []
    if not places:
        raise EmbeddingError(f"{_PACKAGE} has no folder: install `epad[intent]` anew")
    return Path(places[0])
