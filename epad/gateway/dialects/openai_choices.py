"""Read a choice of OpenAI's answers: typed if it is in the usual form, else field by field."""

from __future__ import annotations

from typing import Literal

from msgspec import Raw, Struct

from epad.gateway.dialects import loose
from epad.gateway.dialects.hearing import hear
from epad.gateway.dialects.reply import Reply

NULL = Raw(b"null")
# Of a choice, what is neither text nor about it: the tokens once more, and how it ended.
_NOT_SAID = frozenset({
    "index", "finish_reason", "logprobs", "stop_reason", "token_ids", "prompt_token_ids", "prompt_logprobs",
    "matched_stop", "native_finish_reason", "content_filter_results", "content_filter_result", "seed", "error",
    "content_filter_offsets", "routed_experts", "weight_version",
})  # fmt: skip
# What says something where no choice does; a `message` that is a string is an error's.
_BESIDE = frozenset({
    "content", "delta", "generated_text", "message", "output", "output_text", "reasoning", "reasoning_content",
    "response", "text", "thinking", "token", "tool_calls", "function_call",
})  # fmt: skip
_MOST_CHOICES = 4_096


class _Function(Struct, forbid_unknown_fields=True):
    name: str | None = None
    arguments: str | None = None


class _Call(Struct, forbid_unknown_fields=True):
    function: _Function | None = None
    index: Raw = NULL
    id: Raw = NULL
    type: Raw = NULL


class Said(Struct, forbid_unknown_fields=True):
    """Holds a message, or a piece of one, in the usual form; vLLM and DeepSeek have two names for thoughts."""

    content: str | None = None
    role: Raw = NULL
    refusal: str | None = None
    reasoning_content: str | None = None
    reasoning: str | None = None
    tool_calls: list[_Call] | None = None
    # What is there and empty in most answers; with anything in it, the answer is read the slow way.
    function_call: None = None
    audio: None = None
    annotations: Raw = NULL


class Choice(Struct, forbid_unknown_fields=True):
    """Holds one of the answers to a prompt, or a piece of it."""

    index: int = 0
    delta: Said | None = None
    message: Said | None = None
    text: str | None = None
    finish_reason: str | None = None
    logprobs: Raw = NULL
    stop_reason: Raw = NULL
    token_ids: Raw = NULL
    prompt_token_ids: Raw = NULL
    prompt_logprobs: Raw = NULL
    matched_stop: Raw = NULL


class _PlainSaid(Struct, forbid_unknown_fields=True):
    content: str | None = None
    role: Raw = NULL
    refusal: Literal[""] | None = None
    reasoning_content: Literal[""] | None = None
    reasoning: Literal[""] | None = None
    tool_calls: None = None
    function_call: None = None
    audio: None = None
    annotations: Raw = NULL


class _PlainChoice(Struct, forbid_unknown_fields=True):
    delta: _PlainSaid
    index: Literal[0] = 0
    text: None = None
    message: None = None
    finish_reason: str | None = None
    logprobs: Raw = NULL
    stop_reason: Raw = NULL
    token_ids: Raw = NULL
    prompt_token_ids: Raw = NULL
    prompt_logprobs: Raw = NULL
    matched_stop: Raw = NULL


class PlainChunk(Struct):
    """Holds a chunk with nothing but content of the first choice, as nearly all are."""

    choices: tuple[_PlainChoice]


class Choices(Struct):
    """Collects the text of an answer, or of one chunk of it."""

    choices: list[Choice] | None = None


class Hearing:
    """Takes in the choices of an answer: the first is followed, of the others the bytes are counted."""

    def __init__(self, reply: Reply) -> None:
        self.reply = reply
        self.others: dict[int, Reply] = {}

    def choice_bytes(self) -> tuple[int, ...]:
        """Return how many bytes each choice has."""
        return (self.reply.size, *(other.size for other in self.others.values()))

    def hear(self, answer: Choices) -> None:
        """Take in an answer that the typed structs could read."""
        for choice in answer.choices or ():
            reply = self._other(choice.index) if choice.index else self.reply
            if choice.text:
                reply.say(choice.text)
            said = choice.delta or choice.message
            if said is not None:
                _hear_said(said, reply)
            if choice.index:
                reply.take()  # only the first is listened to

    def hear_loosely(self, answer: loose.JsonDict) -> None:
        """Take in an answer of any shape, field by field; text beside `choices` too."""
        choices = answer.get("choices")
        if choices is not None and not isinstance(choices, list):
            self.reply.weigh(loose.size_of(choices) if choices else 0)
        for name in said_beside(answer):
            hear(answer[name], self.reply)
        for choice in loose.as_list(choices):
            if not isinstance(choice, dict):
                self.reply.weigh(loose.size_of(choice))
                continue
            index = index_of(choice)
            reply = self._other(index) if index else self.reply
            for name, value in choice.items():
                if name not in _NOT_SAID and value is not None:
                    if name in {"delta", "message", "text"}:
                        hear(value, reply)
                    else:
                        reply.weigh(loose.size_of(value))
            if index:
                reply.take()

    def _other(self, index: int) -> Reply:
        if len(self.others) >= _MOST_CHOICES:
            index = next(iter(self.others))  # nobody was asked for so many
        return self.others.setdefault(index, Reply())


def said_beside(answer: loose.JsonDict) -> list[str]:
    """Return the fields beside `choices` that have text in them: some servers set no choice around it."""
    return [
        name
        for name, value in answer.items()
        if name in _BESIDE and value and not (name == "message" and isinstance(value, str))
    ]


def index_of(choice: loose.JsonDict) -> int:
    """Return which choice of an answer it is; the first, if it does not say."""
    index = choice.get("index")
    return index if isinstance(index, int) else 0


def _hear_said(said: Said, reply: Reply) -> None:
    # Of these a chunk has one at most: asking first is cheaper than saying nothing.
    if thought := said.reasoning_content or said.reasoning:
        reply.think(thought)
        if said.reasoning and said.reasoning != thought:
            reply.think(said.reasoning)
    if said.content:
        reply.say(said.content)
    if said.refusal:
        reply.say(said.refusal)
    for call in said.tool_calls or ():
        if call.function is not None:
            reply.call(call.function.name, call.function.arguments or "")
