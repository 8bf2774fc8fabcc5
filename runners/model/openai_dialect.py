"""The shapes of OpenAI's chat API."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from typing import Any

from runners.model.completion import Completion
from runners.model.engine import OWNER
from runners.model.request import ChatRequest

DONE = b"data: [DONE]\n\n"


def models(names: Iterable[str], created: int) -> dict[str, Any]:
    """Return the answer of `/v1/models`."""
    listed = [{"id": name, "object": "model", "created": created, "owned_by": OWNER} for name in names]
    return {"object": "list", "data": listed}


def error(message: str, kind: str, code: str | None, parameter: str | None = None) -> dict[str, Any]:
    """Return the body of every refusal."""
    return {"error": {"message": message, "type": kind, "param": parameter, "code": code}}


def usage(completion: Completion) -> dict[str, int]:
    """Return the counts that are charged."""
    return {
        "prompt_tokens": completion.prompt_tokens,
        "completion_tokens": completion.completion_tokens,
        "total_tokens": completion.prompt_tokens + completion.completion_tokens,
    }


def plain(request: ChatRequest, completion: Completion, turn: str, created: int) -> dict[str, Any]:
    """Return an answer in one piece."""
    return {
        "id": turn,
        "object": "chat.completion",
        "created": created,
        "model": request.model,
        "choices": [
            {
                "index": index,
                "message": {"role": "assistant", "content": choice.text, "refusal": None},
                "logprobs": None,
                "finish_reason": choice.finish_reason,
            }
            for index, choice in enumerate(completion.choices)
        ],
        "usage": usage(completion),
    }


def events(request: ChatRequest, completion: Completion, turn: str, created: int) -> Iterator[bytes]:
    """Yield an answer as server-sent events, one a token, then one with the reason it ended.

    With `include_usage` every chunk carries `usage: null` and a last one, without choices, the counts.
    """
    common = {"id": turn, "object": "chat.completion.chunk", "created": created, "model": request.model}
    if request.include_usage:
        common["usage"] = None

    def event(index: int, delta: dict[str, str], finish_reason: str | None = None) -> bytes:
        choice = {"index": index, "delta": delta, "logprobs": None, "finish_reason": finish_reason}
        return _event(common | {"choices": [choice]})

    for index, choice in enumerate(completion.choices):
        yield event(index, {"role": "assistant", "content": ""})
        for token in choice.tokens:
            yield event(index, {"content": token})
        yield event(index, {}, choice.finish_reason)
    if request.include_usage:
        yield _event(common | {"choices": [], "usage": usage(completion)})
    yield DONE


def _event(value: dict[str, Any]) -> bytes:
    return b"data: " + json.dumps(value, separators=(",", ":")).encode() + b"\n\n"
