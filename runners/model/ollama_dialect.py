"""The shapes of Ollama's chat API."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator
from datetime import datetime
from typing import Any

from runners.model.completion import Completion
from runners.model.engine import OWNER
from runners.model.request import ChatRequest


def tags(names: Iterable[str], at: datetime) -> dict[str, Any]:
    """Return the answer of `/api/tags`. The models have no weights, hence no size."""
    details = {
        "parent_model": "",
        "format": "none",
        "family": OWNER,
        "families": [OWNER],
        "parameter_size": "0",
        "quantization_level": "none",
    }
    return {
        "models": [
            {
                "name": name,
                "model": name,
                "modified_at": at.isoformat(),
                "size": 0,
                "digest": hashlib.sha256(name.encode()).hexdigest(),
                "details": details,
            }
            for name in names
        ]
    }


def plain(
    request: ChatRequest, completion: Completion, at: datetime, duration_nanoseconds: int
) -> dict[str, Any]:
    """Return an answer in one piece."""
    return _line(request, completion.choices[0].text, at) | _end(completion, duration_nanoseconds)


def lines(
    request: ChatRequest, completion: Completion, at: datetime, duration_nanoseconds: int
) -> Iterator[bytes]:
    """Yield an answer as NDJSON, one line a token, then one with the reason it ended and the counts."""
    for token in completion.choices[0].tokens:
        yield _encode(_line(request, token, at) | {"done": False})
    yield _encode(_line(request, "", at) | _end(completion, duration_nanoseconds))


def _line(request: ChatRequest, content: str, at: datetime) -> dict[str, Any]:
    message = {"role": "assistant", "content": content}
    return {"model": request.model, "created_at": at.isoformat(), "message": message}


def _end(completion: Completion, duration_nanoseconds: int) -> dict[str, Any]:
    return {
        "done": True,
        "done_reason": completion.choices[0].finish_reason,
        "total_duration": duration_nanoseconds,
        "load_duration": 0,
        "prompt_eval_count": completion.prompt_tokens,
        "prompt_eval_duration": 0,
        "eval_count": completion.completion_tokens,
        "eval_duration": duration_nanoseconds,
    }


def _encode(value: dict[str, Any]) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode() + b"\n"
