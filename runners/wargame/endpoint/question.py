"""A question to a model, and how each dialect writes it down."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from runners.wargame.endpoint.endpoint import Endpoint
from runners.wargame.prompts import ChatMessage

Lane = Literal["attacker", "defender"]


@dataclass(frozen=True, slots=True)
class Question:
    """Holds one request to one model. The key lets epad answer a question that was already paid for."""

    model: str
    messages: Sequence[ChatMessage]
    max_tokens: int
    seed: int = 0
    idempotency_key: str = ""
    schema: dict[str, Any] | None = None
    lane: Lane = "defender"
    endpoint: str = ""

    @property
    def estimated_tokens(self) -> int:
        """A careful guess of the prompt's length: most tokenisers need four characters for a token, few three."""
        return sum(len(message["content"]) for message in self.messages) // 3


def path(endpoint: Endpoint) -> str:
    """Return the dialect's path for chat requests."""
    return "/api/chat" if endpoint.dialect == "ollama" else "/chat/completions"


def body(question: Question, endpoint: Endpoint) -> dict[str, Any]:
    """Return the request in the endpoint's dialect."""
    return _ollama(question, endpoint) if endpoint.dialect == "ollama" else _openai(question, endpoint)


def _openai(question: Question, endpoint: Endpoint) -> dict[str, Any]:
    value: dict[str, Any] = {
        "model": question.model,
        "messages": list(question.messages),
        "max_tokens": question.max_tokens,
        "temperature": 0,
        "seed": question.seed,
    }
    match endpoint.structured if question.schema is not None else "none":
        case "json_schema":
            shape = {"name": "verdict", "schema": question.schema, "strict": True}
            value["response_format"] = {"type": "json_schema", "json_schema": shape}
        case "structured_outputs":
            value["structured_outputs"] = {"json": question.schema}
        case "guided_json":
            value["guided_json"] = question.schema
        case "none":
            pass
    return value


def _ollama(question: Question, endpoint: Endpoint) -> dict[str, Any]:
    options = {"temperature": 0, "seed": question.seed, "num_predict": question.max_tokens}
    if endpoint.context_tokens:
        options["num_ctx"] = endpoint.context_tokens
    value: dict[str, Any] = {
        "model": question.model,
        "messages": list(question.messages),
        "stream": False,
        "think": False,  # a thinking model under a schema aborts and starts again for ever
        "keep_alive": -1,  # a model that is unloaded between two rounds takes its prefix cache along
        "options": options,
    }
    if question.schema is not None and endpoint.structured != "none":
        value["format"] = question.schema
    return value
