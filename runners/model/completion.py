"""An answer as tokens, cut at the limit, with the counts that are charged."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from runners.model.engine import Engine, prompt_text
from runners.model.request import ChatRequest
from runners.model.tokens import count, split


@dataclass(frozen=True, slots=True)
class Choice:
    """Holds one answer: its tokens, and whether it ended by itself."""

    tokens: tuple[str, ...]
    finish_reason: Literal["stop", "length"]

    @property
    def text(self) -> str:
        return "".join(self.tokens)


@dataclass(frozen=True, slots=True)
class Completion:
    """Holds everything that one request produced."""

    choices: Sequence[Choice]
    prompt_tokens: int

    @property
    def completion_tokens(self) -> int:
        return sum(len(choice.tokens) for choice in self.choices)


def complete(engine: Engine, request: ChatRequest) -> Completion:
    """Ask the engine for each choice, and cut those that are too long."""
    return Completion(
        [_choice(engine, request, request.seed + number) for number in range(request.choices)],
        count(prompt_text(request.messages)),
    )


def _choice(engine: Engine, request: ChatRequest, seed: int) -> Choice:
    tokens = split(engine.reply(request.messages, seed))
    cut = len(tokens) > request.max_tokens
    return Choice(tuple(tokens[: request.max_tokens]), "length" if cut else "stop")
