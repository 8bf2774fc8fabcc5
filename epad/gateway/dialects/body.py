"""Reading JSON requests without touching what is not ours: values stay the bytes they came as."""

from __future__ import annotations

import hashlib
import json
from typing import TypeVar

import msgspec
from msgspec import Raw

from epad.gateway.errors import RequestError

T = TypeVar("T")
Fields = dict[str, Raw]

MAX_MODEL_LENGTH = 256
MAX_CHOICES = 128
# Beyond this the place of a syntax error is not looked for: the second parser is twenty times slower.
_MAX_DIAGNOSED_BYTES = 1 << 20
_NULL = b"null"

_decode_fields = msgspec.json.Decoder(Fields).decode


def read_fields(body: bytes) -> Fields:
    """The top-level fields of a JSON object, each as its own bytes. Raises RequestError naming the place."""
    try:
        return _decode_fields(body)
    except msgspec.ValidationError as error:
        raise RequestError(f"the body is not a JSON object: {error}") from error
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise RequestError(f"the body is not valid JSON: {_place(body, error)}") from error


def write_fields(fields: Fields) -> bytes:
    """The JSON object of these fields; those that were not replaced keep their bytes."""
    return msgspec.json.encode(fields)


def read(fields: Fields, name: str, kind: type[T]) -> T | None:
    """One field's value; None if it is absent or null. Raises RequestError naming the field."""
    raw = fields.get(name)
    if raw is None or bytes(raw) == _NULL:
        return None
    return decode(raw, name, kind)


def decode(raw: Raw, name: str, kind: type[T]) -> T:
    """Read a value as `kind`. Raises RequestError naming the field."""
    try:
        return msgspec.json.decode(raw, type=kind)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise RequestError(f"{name}: {error}") from error


def read_model(fields: Fields) -> str:
    """The model asked for. Raises RequestError."""
    model = read(fields, "model", str)
    if not model:
        raise RequestError("model: a model's name is needed")
    if len(model) > MAX_MODEL_LENGTH:
        raise RequestError(f"model: longer than {MAX_MODEL_LENGTH} characters")
    return model


def number(value: int) -> Raw:
    """A number as a field."""
    return Raw(str(value).encode())


def prompt_bound(body: bytes, fields: Fields, template_tokens: int) -> int:
    """The most tokens a prompt of text can have.

    A byte-level BPE never makes more tokens than bytes, and all of the prompt is in the body, escaped or not.
    What a chat template puts around each message (2 to 8 tokens) is fewer than the bytes of the JSON around
    it (26 or more); `template_tokens` covers its preamble, and once more the one for tools.
    """
    return len(body) + template_tokens * (2 if "tools" in fields else 1)


def prompt_digest(fields: Fields, *names: str) -> bytes:
    """Identify a prompt whatever its seed, sampling and user fields are."""
    digest = hashlib.sha256()
    for name in names:
        raw = fields.get(name)
        if raw is not None:
            digest.update(name.encode() + b"\0")
            digest.update(raw)
    return digest.digest()


def _place(body: bytes, error: Exception) -> str:
    if len(body) <= _MAX_DIAGNOSED_BYTES:
        try:
            json.loads(body)
        except (ValueError, RecursionError) as diagnosis:
            return str(diagnosis)
    return str(error)
