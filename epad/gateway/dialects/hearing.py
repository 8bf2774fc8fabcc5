"""Read the text of a message of any shape: slow, for shapes that the typed structs do not expect.

Nothing that might be text goes unheard. A key that is not known is weighed: its bytes count, but nobody listens to
them, and they are no part of the reply's digest.
"""

from __future__ import annotations

from typing import Any

import msgspec

from epad.gateway.dialects.loose import JsonDict, as_dict, as_list, as_text, size_of
from epad.gateway.dialects.reply import Reply

# What says how a message is made up, and is no part of what the model made.
_STRUCTURE = frozenset({
    "role", "type", "index", "id", "call_id", "status", "object", "name", "model", "finish_reason", "stop_reason",
    "annotations", "citations", "cache_control", "logprobs", "format", "closed", "phase", "caller", "created_at",
    "container", "expires_at", "stop_sequence", "item_id", "output_index", "content_index", "sequence_number",
})  # fmt: skip
_SAID = frozenset({
    "content", "text", "refusal", "transcript", "output_text", "response", "audio", "message", "delta",
})  # fmt: skip
_THOUGHT = frozenset({
    "thinking", "reasoning_content", "reasoning", "reasoning_details", "thoughts", "summary",
})  # fmt: skip
_ARGUMENTS = frozenset({
    "arguments", "input", "parameters", "args", "action", "code", "query", "queries", "operation",
})  # fmt: skip
_INNER = ("function", "custom")
_CALLS = frozenset({"tool_calls", "function_call", "tool_call", "custom"})


def hear(said: Any, reply: Reply, *, thought: bool = False) -> None:
    """Take in a message, a piece of one, a part of it, or a list of parts."""
    if isinstance(said, str):
        if thought:
            reply.think(said)
        else:
            reply.say(said)
    elif isinstance(said, list):
        for part in said:
            hear(part, reply, thought=thought)
    elif isinstance(said, dict):
        _hear_part(said, reply, thought=thought)
    elif said is not None and not isinstance(said, bool):
        reply.weigh(size_of(said))


def _hear_part(part: JsonDict, reply: Reply, *, thought: bool) -> None:
    """Take in one object, key by key."""
    kind = as_text(part.get("type"))
    thought = thought or "thinking" in kind or "reasoning" in kind or "thought" in kind
    if _is_call(kind):
        hear_call(part, reply)
        return
    twice = _said_twice(part)
    for key, value in part.items():
        if value is not None and key not in twice:
            _hear_field(key, value, reply, thought=thought)


def _hear_field(key: str, value: Any, reply: Reply, *, thought: bool) -> None:
    if key in _CALLS:
        for call in value if isinstance(value, list) else [value]:
            hear_call(call, reply)
    elif key in _THOUGHT:
        hear(value, reply, thought=True)
    elif key in _SAID:
        hear(value, reply, thought=thought)
    elif key == "partial_json":
        reply.call(arguments=as_text(value))
    elif key not in _STRUCTURE:
        reply.weigh(size_of(value))


def hear_call(call: Any, reply: Reply) -> None:
    """Take in a call of a tool, or a piece of one, whichever way its arguments are written."""
    if not isinstance(call, dict):
        reply.weigh(size_of(call) if call is not None else 0)
        return
    inner = [call[key] for key in _INNER if call.get(key) is not None]
    name = as_text(call.get("name")) or "".join(each for each in inner if isinstance(each, str))
    for known in [as_dict(each) for each in inner if isinstance(each, dict)] or [call]:
        reply.call(as_text(known.get("name")) or name or None)
        for key, value in known.items():
            _hear_argument(key, value, reply)
    if any(isinstance(each, dict) for each in inner):
        for key, value in call.items():
            _hear_argument(key, value, reply)


def _hear_argument(key: str, value: Any, reply: Reply) -> None:
    if value is None or value == {} or key in _STRUCTURE or key in _INNER:
        return
    if key in _ARGUMENTS:
        reply.call(
            arguments=value if isinstance(value, str) else msgspec.json.encode(value, order="deterministic")
        )
    else:
        reply.weigh(size_of(value))


def _is_call(kind: str) -> bool:
    return kind == "tool_use" or kind.endswith(("_call", "_tool_use")) or kind == "function"


def _said_twice(part: JsonDict) -> frozenset[str]:
    """Return the keys that repeat another key of the same message: vLLM and OpenRouter give thoughts twice."""
    reasoning = part.get("reasoning")
    if not isinstance(reasoning, str) or not reasoning:
        return frozenset()
    twice = set()
    if part.get("reasoning_content") == reasoning:
        twice.add("reasoning_content")
    details = [as_dict(detail) for detail in as_list(part.get("reasoning_details"))]
    if details and "".join(as_text(d.get("text")) or as_text(d.get("summary")) for d in details) == reasoning:
        twice.add("reasoning_details")
    return frozenset(twice)
