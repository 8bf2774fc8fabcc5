"""What a model server may do, as data; how the gateway's charge for it is judged; and the words of the dialects."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from _byte_server import JSON, NDJSON, SSE, Piece, Script

CHAT, TEXT, EMBED = "/v1/chat/completions", "/v1/completions", "/v1/embeddings"
RESPONSES = "/v1/responses"
MESSAGES, COUNT = "/v1/messages", "/v1/messages/count_tokens"
OLLAMA_CHAT, OLLAMA_TEXT, OLLAMA_EMBED = "/api/chat", "/api/generate", "/api/embed"

PROMPT = 7
# As a byte-level tokenizer cuts what it has never seen: each byte a token. No text has more of them.
DENSE = "k#9~" * 40
WORDS = "word " * 40

_HELLO = [{"role": "user", "content": "hello"}]
_ASKS: dict[str, dict[str, Any]] = {
    CHAT: {"messages": _HELLO},
    TEXT: {"prompt": "hello"},
    EMBED: {"input": "hello"},
    RESPONSES: {"input": "hello"},
    MESSAGES: {"messages": _HELLO, "max_tokens": 900},
    COUNT: {"messages": _HELLO},
    OLLAMA_CHAT: {"messages": _HELLO},
    OLLAMA_TEXT: {"prompt": "hello"},
    OLLAMA_EMBED: {"input": "hello"},
}


@dataclass(frozen=True, slots=True)
class Behaviour:
    """One answer of one server to one request, and what its client does.

    `counted`: a final count is in the answer and the client was there to the end, so the charge is to be that count
    exactly. `leaves_after`: the client hangs up when so many bytes have come; 0: before any, after a moment.
    `unseen`: the count is wrong and nothing contradicts it. `over_cap`: the server makes more than it was allowed, so
    the charge may be above the reservation. `kind`: the server as the configuration names it.
    """

    server: str
    name: str
    source: str
    path: str
    script: Script
    ask: Mapping[str, Any] = field(default_factory=dict)
    counted: bool = False
    leaves_after: int | None = None
    unseen: bool = False
    over_cap: bool = False
    prompt: int = PROMPT
    kind: str = ""

    @property
    def body(self) -> dict[str, Any]:
        return {"model": "tiny", **_ASKS[self.path], **self.ask}


@dataclass(frozen=True, slots=True)
class Outcome:
    """What the server made for it, what the gateway reserved and charged, and how the turn ended."""

    behaviour: Behaviour
    made: int
    reserved: int
    charged: int
    ended: str
    status: int

    @property
    def verdict(self) -> str:
        """The judgement in a few words; those in capitals are faults."""
        if self.ended == "refused":
            return "NOT ASKED"
        if self.charged < self.made:
            return "cannot be seen" if self.behaviour.unseen else "TOO LITTLE"
        if self.charged == self.made:
            return "exact" if self.made else "nothing"
        if self.behaviour.counted:
            return "TOO MUCH"
        within = self.behaviour.over_cap or self.charged <= max(self.reserved, self.made)
        return "bounded" if within else "OVER THE BOUND"

    @property
    def good(self) -> bool:
        return not self.verdict.isupper()


# Pieces.


def said(*pieces: bytes, tokens: int = 0) -> tuple[Piece, ...]:
    """Pieces that all have the same number of tokens."""
    return tuple(Piece(piece, tokens) for piece in pieces)


def stream(*pieces: Piece | bytes, **how: Any) -> Script:
    """A stream of server-sent events; bytes alone have no tokens."""
    return Script(
        tuple(p if isinstance(p, Piece) else Piece(p) for p in pieces), **{"content_type": SSE, **how}
    )


def whole(answer: Any, tokens: int, **how: Any) -> Script:
    """An answer in one piece."""
    data = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
    return Script((Piece(data, tokens),), **{"content_type": JSON, "framing": "length", **how})


# OpenAI's words.


def sse(*objects: Any) -> bytes:
    """Objects as server-sent events."""
    return b"".join(b"data: " + json.dumps(each).encode() + b"\n\n" for each in objects)


DONE = b"data: [DONE]\n\n"


def delta(index: int = 0, **what: Any) -> dict[str, Any]:
    """One chunk of a chat."""
    return {
        "id": "c",
        "object": "chat.completion.chunk",
        "choices": [{"index": index, "delta": what, "finish_reason": None}],
    }


def finish(reason: str = "stop", index: int = 0, **more: Any) -> dict[str, Any]:
    """The chunk that says why it ended."""
    return {
        "id": "c",
        "object": "chat.completion.chunk",
        "choices": [{"index": index, "delta": {}, "finish_reason": reason}],
        **more,
    }


def counts(output: int, prompt: int = PROMPT, **more: Any) -> dict[str, Any]:
    """OpenAI's usage."""
    return {"prompt_tokens": prompt, "completion_tokens": output, "total_tokens": prompt + output, **more}


def usage(output: int, prompt: int = PROMPT, **more: Any) -> dict[str, Any]:
    """The chunk that has nothing but the usage."""
    return {
        "id": "c",
        "object": "chat.completion.chunk",
        "choices": [],
        "usage": counts(output, prompt, **more),
    }


def words(count: int, **more: Any) -> tuple[Piece, ...]:
    """Chunks of one word and one token each."""
    return said(*[sse({**delta(content="word "), **more})] * count, tokens=1)


def message(text: str = "hi", reason: str = "stop", index: int = 0, **more: Any) -> dict[str, Any]:
    """A choice of a whole chat."""
    return {
        "index": index,
        "message": {"role": "assistant", "content": text, **more},
        "finish_reason": reason,
    }


def chat(usage_of: Any, *choices: dict[str, Any]) -> dict[str, Any]:
    """A whole chat, with this usage; None: without any."""
    answer: dict[str, Any] = {"id": "c", "object": "chat.completion", "choices": list(choices) or [message()]}
    return answer if usage_of is None else {**answer, "usage": usage_of}


# Ollama's words.


def line(**fields: Any) -> bytes:
    """One line of a stream."""
    return json.dumps({"model": "tiny", "created_at": "2026-01-01T00:00:00Z", **fields}).encode() + b"\n"


def lines(*pieces: Piece | bytes, **how: Any) -> Script:
    """A stream of lines."""
    return stream(*pieces, **{"content_type": NDJSON, **how})


# Anthropic's and the responses' words.


def event(name: str, **fields: Any) -> bytes:
    """A server-sent event with a name, said again within it."""
    return b"event: %b\ndata: %b\n\n" % (name.encode(), json.dumps({"type": name, **fields}).encode())
