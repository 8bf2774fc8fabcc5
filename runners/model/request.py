"""Check a request of either dialect, and name each fault with its place."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from runners.model.engine import Message

MOST_CHOICES: Final = 16
DEFAULT_MAX_TOKENS: Final = 1_024


class RequestError(Exception):
    """The request cannot be understood; the message names the place."""


@dataclass(frozen=True, slots=True)
class ChatRequest:
    """Holds one chat request of either dialect."""

    model: str
    messages: tuple[Message, ...]
    max_tokens: int = DEFAULT_MAX_TOKENS
    seed: int = 0
    stream: bool = False
    include_usage: bool = False
    choices: int = 1


def from_openai(body: object) -> ChatRequest:
    """Read a `/v1/chat/completions` body. Raises RequestError."""
    fields = _object(body, "body")
    options = _object(fields.get("stream_options") or {}, "stream_options")
    longest = fields.get("max_completion_tokens", fields.get("max_tokens"))
    return ChatRequest(
        model=_string(fields, "model"),
        messages=_messages(fields),
        max_tokens=DEFAULT_MAX_TOKENS if longest is None else _integer(longest, "max_tokens", 1),
        seed=_integer(fields.get("seed") or 0, "seed"),
        stream=_boolean(fields, "stream", default=False),
        include_usage=_boolean(options, "include_usage", default=False, within="stream_options."),
        choices=_integer(fields.get("n") or 1, "n", 1, MOST_CHOICES),
    )


def from_ollama(body: object) -> ChatRequest:
    """Read an `/api/chat` body. Raises RequestError. A negative `num_predict` means no wish."""
    fields = _object(body, "body")
    options = _object(fields.get("options") or {}, "options")
    longest = _integer(options.get("num_predict") or -1, "options.num_predict")
    return ChatRequest(
        model=_string(fields, "model").removesuffix(":latest"),
        messages=_messages(fields),
        max_tokens=longest if longest > 0 else DEFAULT_MAX_TOKENS,
        seed=_integer(options.get("seed") or 0, "options.seed"),
        stream=_boolean(fields, "stream", default=True),
    )


def _messages(fields: Mapping[str, Any]) -> tuple[Message, ...]:
    value = fields.get("messages")
    if not isinstance(value, list) or not value:
        raise RequestError("messages: must be a list with at least one message")
    return tuple(_message(item, f"messages[{index}]") for index, item in enumerate(value))


def _message(value: object, place: str) -> Message:
    fields = _object(value, place)
    return Message(_string(fields, "role", f"{place}."), _content(fields.get("content"), f"{place}.content"))


def _content(value: object, place: str) -> str:
    """Text, or OpenAI's list of text parts; these models read nothing else."""
    if value is None:
        return ""
    if isinstance(value, str):
        return value
    if not isinstance(value, list):
        raise RequestError(f"{place}: must be text or a list of parts")
    texts = []
    for index, item in enumerate(value):
        part = _object(item, f"{place}[{index}]")
        if part.get("type") != "text":
            raise RequestError(f"{place}[{index}].type: only text parts can be read")
        texts.append(_string(part, "text", f"{place}[{index}]."))
    return "".join(texts)


def _object(value: object, place: str) -> Mapping[str, Any]:
    if not isinstance(value, dict):
        raise RequestError(f"{place}: must be an object")
    return value


def _string(fields: Mapping[str, Any], name: str, within: str = "") -> str:
    value = fields.get(name)
    if not isinstance(value, str):
        raise RequestError(f"{within}{name}: must be a string")
    return value


def _boolean(fields: Mapping[str, Any], name: str, *, default: bool, within: str = "") -> bool:
    value = fields.get(name)
    if value is None:
        return default
    if not isinstance(value, bool):
        raise RequestError(f"{within}{name}: must be true or false")
    return value


def _integer(value: object, place: str, least: int | None = None, most: int | None = None) -> int:
    if not isinstance(value, int) or isinstance(value, bool):
        raise RequestError(f"{place}: must be an integer")
    if (least is not None and value < least) or (most is not None and value > most):
        raise RequestError(f"{place}: {value} is out of range ({least} to {most or 'any'})")
    return value
