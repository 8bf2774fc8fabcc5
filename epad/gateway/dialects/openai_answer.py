"""Read the metered parts of OpenAI's answers: chat, completions and vectors."""

from __future__ import annotations

import msgspec
from msgspec import Raw, Struct

from epad.gateway.dialects import loose
from epad.gateway.dialects.body import read_answer
from epad.gateway.dialects.counts import openai_counts
from epad.gateway.dialects.dialect import Ask, Catalogue
from epad.gateway.dialects.openai_choices import NULL, Choices, Hearing
from epad.gateway.dialects.openai_chunks import ChunkStream
from epad.gateway.dialects.reply import Reply
from epad.gateway.dialects.seen import Seen, Whole, no_answer, no_object, seen_whole, trusted
from epad.gateway.dialects.usage import TokenUsage
from epad.gateway.refusal import Refusal

_NOTHING = (NULL, Raw(b"[]"))


class _Answer(Choices):
    usage: Raw = NULL
    error: Raw = NULL


class _Vectors(Struct):
    data: Raw
    usage: Raw = NULL
    error: Raw = NULL


class OpenAI:
    """The errors and the list of models."""

    name = "openai"
    catalogue = Catalogue("/v1/models", "data", "id", {"object": "list"})

    def error_body(self, refusal: Refusal) -> bytes:
        return msgspec.json.encode({"error": error_fields(refusal)})


class ChatAnswers:
    """Reads the answer of a chat, and of a completion."""

    dialect: OpenAI
    content = b'"delta"'

    def read(self, body: bytes) -> Whole:
        return read_choices(body)

    def usage(self, body: bytes) -> TokenUsage | None:
        return usage_of(body)

    def reply(self, body: bytes) -> Reply:
        return self.read(body).reply

    def meter(self, ask: Ask) -> ChunkStream:
        return ChunkStream(self.dialect, self.content, keep_usage=ask.wants_usage, choices=ask.choices)


class CompletionAnswers(ChatAnswers):
    """Reads a completion's answer."""

    content = b'"text"'


class EmbeddingAnswers:
    """Reads an answer of vectors, which has no output."""

    dialect: OpenAI

    def read(self, body: bytes) -> Whole:
        typed = read_answer(body, _Vectors)
        if typed is not None and typed.error == NULL and typed.data not in _NOTHING:
            return Whole(_seen_vectors(loose.read(bytes(typed.usage))), Reply())
        answer = loose.read(body)
        if not isinstance(answer, dict):
            return no_object(body, answer)
        vectors = bool(answer.get("data") or answer.get("embeddings"))
        if loose.failure_of(answer) or not vectors:
            return no_answer(answer, openai_counts(answer.get("usage")), nothing_came=not vectors)
        return Whole(_seen_vectors(answer.get("usage")), Reply())

    def usage(self, body: bytes) -> TokenUsage | None:
        return trusted(self.read(body).seen)

    def reply(self, body: bytes) -> Reply:
        del body  # it says nothing
        return Reply()

    def meter(self, ask: Ask) -> ChunkStream:
        return ChunkStream(self.dialect, b'"embedding"', keep_usage=ask.wants_usage, choices=1)


def read_choices(body: bytes) -> Whole:
    """Read a whole answer of (chat) completions."""
    reply = Reply()
    hearing = Hearing(reply)
    typed = read_answer(body, _Answer)
    if typed is not None and typed.choices and typed.error == NULL:
        hearing.hear(typed)
        counts = openai_counts(loose.read(bytes(typed.usage)))
        return Whole(seen_whole(counts, hearing.choice_bytes()), reply)
    answer = loose.read(body)
    if isinstance(answer, list) and any(loose.as_dict(each).get("choices") for each in answer):
        for each in answer:  # a list of answers to a list of prompts, whose counts nobody has put together
            hearing.hear_loosely(loose.as_dict(each))
        return Whole(Seen(choice_bytes=hearing.choice_bytes()), reply)
    if not isinstance(answer, dict):
        return no_object(body, answer)
    hearing.hear_loosely(answer)
    counts = openai_counts(answer.get("usage"))
    said = any(hearing.choice_bytes())
    failure = loose.failure_of(answer) or "".join(
        loose.error_text(loose.as_dict(choice).get("error"))
        for choice in loose.as_list(answer.get("choices"))
    )
    if failure or not isinstance(answer.get("choices"), list):
        return no_answer(
            answer, counts, nothing_came=not said, reply=reply, choice_bytes=hearing.choice_bytes()
        )
    return Whole(seen_whole(counts, hearing.choice_bytes()), reply)


def _seen_vectors(usage: object) -> Seen:
    """Return the cost of vectors: no output, unless the server counts one."""
    counts = openai_counts(usage)
    if counts is not None and counts.output is None:
        counts = msgspec.structs.replace(counts, output=0)
    if counts is not None and not counts.input and not counts.total:
        counts = msgspec.structs.replace(
            counts, input=None, total=None
        )  # a prompt of no tokens has no vector
    return seen_whole(counts, ())


def usage_of(body: bytes) -> TokenUsage | None:
    """Return the usage in a whole answer."""
    answer = loose.read(body)
    counts = openai_counts(loose.as_dict(answer).get("usage"))
    return None if counts is None or counts.absurd else counts.usage()


def error_fields(refusal: Refusal) -> dict[str, object]:
    """Return a refusal as OpenAI's error object; the budget's figures beside it, where one refused."""
    error: dict[str, object] = {
        "message": refusal.message,
        "type": refusal.type,
        "param": None,
        "code": refusal.code,
    }
    return {**error, "budget": dict(refusal.details)} if refusal.details else error
