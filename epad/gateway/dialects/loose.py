"""Read foreign JSON field by field: an odd part costs that detail, never the message."""

from __future__ import annotations

import json
import math
from typing import Any

import msgspec

from epad.gateway.dialects.body import read_answer

# The second parser takes ten times as long, and it holds the loop meanwhile.
_MAX_SECOND_READING = 1 << 20
JsonDict = dict[str, Any]


def read(text: bytes) -> Any:
    """Return the JSON value as plain objects; None if it is none.

    Text that the strict parser refuses (NaN and Infinity, half a surrogate pair, bytes that are not UTF-8) is read once
    more by the standard library's, if it is small.
    """
    value = read_answer(text, Any)
    if value is not None or len(text) > _MAX_SECOND_READING or text.strip() == b"null":
        return value
    try:
        again = json.loads(text.decode("utf-8", "replace"))
        whole = json.dumps(again, ensure_ascii=False).encode("utf-8", "surrogatepass")
        return json.loads(whole.decode("utf-8", "replace"))
    except (ValueError, RecursionError):
        return None


def as_dict(value: object) -> JsonDict:
    """Return the object, or an empty one if it is none."""
    return value if isinstance(value, dict) else {}


def as_list(value: object) -> list[Any]:
    """Return the list, or an empty one if it is none."""
    return value if isinstance(value, list) else []


def as_text(value: object) -> str:
    """Return the string, or an empty one if it is none."""
    return value if isinstance(value, str) else ""


def as_number(value: object) -> float:
    """Return the number, or 0 if it is none."""
    return value if isinstance(value, int | float) and math.isfinite(value) else 0


def size_of(value: object) -> int:
    """Return how many bytes a value has as JSON: more than the tokens it can be made of."""
    if isinstance(value, str):
        return len(value.encode("utf-8", "surrogatepass"))
    try:
        return len(msgspec.json.encode(value))
    except (msgspec.MsgspecError, ValueError, TypeError, RecursionError):
        return len(repr(value).encode("utf-8", "surrogatepass"))


def error_text(value: object) -> str:
    """Return the text of an error, in one short line; empty if it is none."""
    if not value:
        return ""
    said = as_dict(value).get("message") or value
    text = said if isinstance(said, str) else json.dumps(said, default=str)
    return " ".join(text.split())[:200]


def failure_of(answer: JsonDict) -> str:
    """Return the text of an object that is an error in any of the usual shapes; empty if it is none.

    OpenAI, Ollama: `error`; Anthropic: `type`; vLLM: `object`; responses: `status`.
    """
    error = answer.get("error")
    if error:
        return error_text(error)
    if answer.get("type") == "error" or answer.get("object") == "error":
        return error_text(answer.get("message")) or "error"
    if answer.get("status") in ("failed", "error"):
        return error_text(answer.get("message")) or "failed"
    return ""


def what_it_says(value: object) -> str:
    """Return the text of an object that is no answer: FastAPI's `detail`, others' `message` and `msg`, or its start."""
    answer = as_dict(value)
    for name in ("error", "detail", "message", "msg", "errors"):
        if answer.get(name):
            return error_text(answer[name])
    return error_text(value) or "nothing"
