"""Reading OpenAI's streams of chunks, and taking out the usage that only epad asked for."""

from __future__ import annotations

import re

import msgspec
from msgspec import Raw

from epad.gateway.dialects import body as json_body
from epad.gateway.dialects import ending, loose
from epad.gateway.dialects.counts import openai_counts
from epad.gateway.dialects.dialect import Dialect
from epad.gateway.dialects.events import SSE_BOUNDARY, EventStream, names_error, sse_payloads
from epad.gateway.dialects.openai_choices import Choices, Hearing, PlainChunk, index_of, said_beside
from epad.gateway.errors import RequestError
from epad.gateway.refusal import Refusal

_DONE = b"[DONE]"
_DELTA = b'"delta"'
# What is said in so many chunks is read at once, in a third of the time that one by one takes; an answer that
# loops is noticed so many later.
_HEARD_CHUNKS = 16
_HEARD_BYTES = 64 << 10
# OpenAI has it in every chunk of a stream whose usage was asked for. Within a string its quotes are escaped.
_NO_USAGE = re.compile(rb',\s*"usage"\s*:\s*null')
# The end of a choice; elsewhere it is null, or an empty string.
_FINISH = re.compile(rb'"finish_reason"\s*:\s*"[^"]')
_EVENTFUL = (b'"usage"', b'"error"')
_NOT_PLAIN = (*_EVENTFUL, _DONE, b"\r")
# What a chunk is made of: the rest of the chunk of usage is meant for the client.
_ENVELOPE = frozenset({"id", "object", "created", "model", "choices", "usage"})


class ChunkStream(EventStream):
    """Reads server-sent chunks; takes out the usage that only epad asked for.

    If the client did not ask for it, a chunk that ends a choice is held back until the next event: it then gets the
    fields that the server put beside the usage (`timings`, `system_fingerprint`).
    """

    def __init__(self, dialect: Dialect, content: bytes, *, keep_usage: bool, choices: int = 1) -> None:
        super().__init__(SSE_BOUNDARY)
        self._dialect = dialect
        self._content = content
        self._keep_usage = keep_usage
        self._choices = choices
        self._hearing = Hearing(self.reply)
        self._unheard: list[bytes] = []
        self._unheard_bytes = 0
        self._finished: set[int] = set()
        self._usage_alone_at: int | None = None
        self._held = b""
        self._last = b""

    def feed(self, data: bytes) -> bytes:
        self._last = data
        if self._held or self._events.pending:
            return super().feed(data)
        end = _plain_until(data)
        plain = data if end == len(data) else data[:end]
        if not end or not self._take_plain(plain):
            return super().feed(data)
        return data if plain is data else plain + super().feed(data[end:])

    def most_tokens(self) -> int:
        self._hear_all()
        return super().most_tokens()

    def finish(self) -> bytes:
        passed = super().finish() + self._release()
        self._hear_all()
        # A server that never says [DONE] has ended all the same if every choice has, or its usage came after them.
        self.complete = self.complete or self._all_finished() or self._usage_alone_at == self._said_bytes()
        return passed

    def cut(self, refusal: Refusal) -> bytes:
        error = self._dialect.error_body(refusal)
        return self._release() + b"data: " + error + b"\n\ndata: [DONE]\n\n"

    def stop(self, why: str, input_tokens: int, output_tokens: int) -> bytes:
        """The end of each choice that has none yet, the usage if it was asked for, and the end of the stream."""
        envelope, choices = ending.openai_chunk(self._last), range(self._choices)
        text: loose.JsonDict = {"text": ""} if self._content == b'"text"' else {"delta": {}}
        open_choices = [index for index in choices if index not in self._finished]
        chunk = {**envelope, "choices": [
            {"index": index, **text, "logprobs": None, "finish_reason": ending.OPENAI} for index in open_choices
        ]}  # fmt: skip
        chunks = [ending.told(chunk, why)]
        if self._keep_usage:
            usage = {"prompt_tokens": input_tokens, "completion_tokens": output_tokens}
            usage["total_tokens"] = input_tokens + output_tokens
            chunks.append({**envelope, "choices": [], "usage": usage})
        events = [b"data: " + msgspec.json.encode(chunk) + b"\n\n" for chunk in chunks]
        return self._release() + b"".join(events) + b"data: [DONE]\n\n"

    def _has_ended(self) -> bool:
        return self.complete or (self._all_finished() and len(self._finished) >= self._choices)

    def _all_finished(self) -> bool:
        return bool(self._finished) and self._finished.issuperset(self._hearing.others)

    def _choice_bytes(self) -> tuple[int, ...]:
        self._hear_all()
        return self._hearing.choice_bytes()

    def _pass(self, event: bytes) -> bytes:
        payloads = sse_payloads(event)
        self.failed = self.failed or names_error(event)
        if not payloads:
            return event  # a comment may overtake what is held back
        if len(payloads) > 1:
            for payload in payloads:
                self._note(payload)
            return self._release() + event
        [payload] = payloads
        answer = self._note(payload)
        if answer is None or self._keep_usage:
            return self._release() + event
        if "usage" in answer and not answer.get("choices"):
            if answer["usage"] is not None:
                return self._merged(payload, answer)
        elif answer.get("usage") is None and "usage" in answer:
            event = _NO_USAGE.sub(b"", event)
        released = self._release()
        if answer.get("choices") and _FINISH.search(payload):
            self._held = event
            return released
        return released + event

    def _note(self, payload: bytes) -> loose.JsonDict | None:
        """Take note of a chunk; return it if there is more in it than text."""
        if payload == _DONE:
            self.complete = True
            self._hear_all()
            return None
        said = payload.find(self._content) >= 0  # quicker than `in`, see `history._kind_of`
        if said:
            self._take([payload], len(payload))
            if max(map(payload.find, _EVENTFUL)) < 0 and _FINISH.search(payload) is None:
                return None
        answer = loose.read(payload)
        if not isinstance(answer, dict):
            if not said:  # else its bytes are counted where it is heard
                self._weigh(payload)
            return None
        choices = loose.as_list(answer.get("choices"))
        failed = bool(loose.failure_of(answer))
        unusual = answer.get("choices") and not choices
        if not said and (choices or unusual or (said_beside(answer) and not failed)):
            self._take([payload], len(payload))
        self.failed = self.failed or failed
        self._finished.update(
            index_of(choice) for choice in choices if isinstance(choice, dict) and choice.get("finish_reason")
        )
        counts = openai_counts(answer.get("usage"))
        self._count(counts)
        if counts is not None and not choices and counts.says_something:
            self._usage_alone_at = self._said_bytes()
        self._strange = self._strange or not ("choices" in answer or "usage" in answer)
        return answer

    def _merged(self, payload: bytes, answer: loose.JsonDict) -> bytes:
        """Return the held-back chunk, with the fields beside the usage that only epad had asked for."""
        held, self._held = self._held, b""
        if not held or all(name in _ENVELOPE or value is None for name, value in answer.items()):
            return held
        try:
            beside = msgspec.json.decode(payload, type=dict[str, Raw])
            chunk = sse_payloads(held)[0]
            fields = json_body.read_object(chunk, frozenset())
            edits = {
                name: bytes(value)
                for name, value in beside.items()
                if name not in _ENVELOPE and bytes(value) != b"null" and not fields.has(name)
            }
            return held.replace(chunk, fields.splice(edits), 1) if edits else held
        except (RequestError, msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            return held

    def _release(self) -> bytes:
        held, self._held = self._held, b""
        return held

    def _take_plain(self, plain: bytes) -> bool:
        """Take in whole events if each is one line of data in which something is said; say whether that is so."""
        lines = plain.count(b"\n")
        events = lines // 2
        if lines % 2 or not plain.startswith(b"data:") or plain.count(b"\n\ndata:") != events - 1:
            return False
        if events > 1 and self._content == _DELTA:
            joined = b"[%b]" % plain[5:-2].replace(b"\n\ndata:", b",")
            chunks = json_body.read_answer(joined, list[PlainChunk])
            if chunks is not None and len(chunks) == events:
                self._hear_all()
                self.chunks += events
                self.reply.say_all([chunk.choices[0].delta.content for chunk in chunks])
                return True
        said = [event[5:] for event in plain.split(b"\n\n") if event.find(self._content) >= 0]
        if len(said) != events:
            return False
        self._take(said, len(plain))
        return True

    def _take(self, payloads: list[bytes], size: int) -> None:
        """Count chunks; their text is read later, together with others."""
        self.chunks += len(payloads)
        self._unheard += payloads
        self._unheard_bytes += size
        if len(self._unheard) >= _HEARD_CHUNKS or self._unheard_bytes >= _HEARD_BYTES:
            self._hear_all()

    def _hear_all(self) -> None:
        unheard, self._unheard, self._unheard_bytes = self._unheard, [], 0
        if not unheard:
            return
        joined = b"[%b]" % b",".join(unheard)
        plain = json_body.read_answer(joined, list[PlainChunk])
        if plain is not None:
            self.reply.say_all([chunk.choices[0].delta.content for chunk in plain])
            return
        together = json_body.read_answer(joined, list[Choices])
        if together is None or not all(answer.choices for answer in together):  # one is not what was expected
            for payload in unheard:
                self._hear(payload)
            return
        for answer in together:
            self._hearing.hear(answer)

    def _hear(self, payload: bytes) -> None:
        typed = json_body.read_answer(payload, Choices)
        if typed is not None and typed.choices:
            self._hearing.hear(typed)
            return
        answer = loose.read(payload)
        if isinstance(answer, dict):
            self._hearing.hear_loosely(answer)
        else:
            self._weigh(payload.strip())


def _plain_until(data: bytes) -> int:
    """Return the end of the last whole event before the first with more in it than text."""
    end = len(data)
    for mark in _NOT_PLAIN:
        found = data.find(mark, 0, end)
        end = end if found < 0 else found
    finish = _FINISH.search(data, 0, end)
    if finish is not None:
        end = finish.start()
    boundary = data.rfind(b"\n\n", 0, end)
    return boundary + 2 if boundary >= 0 else 0
