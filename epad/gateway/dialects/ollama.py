"""Ollama's dialect: chat, generate and embed."""

from __future__ import annotations

from msgspec import Raw, Struct

from epad.gateway.dialects import body as json_body
from epad.gateway.dialects.body import ABSENT, JsonObject
from epad.gateway.dialects.caps import CAP_NAMES, cap_edits, read_caps, wish_of
from epad.gateway.dialects.dialect import Ask, Habits, OutputLimits
from epad.gateway.dialects.history import NO_HISTORY, History, read_history
from epad.gateway.dialects.ollama_answer import LineAnswers, LineStream, Ollama, VectorAnswers
from epad.gateway.dialects.shape import refuse_entries

__all__ = ["Chat", "Embed", "Embeddings", "Generate", "LineStream", "Ollama"]

_CAP = "num_predict"
_CONTEXT = "num_ctx"
_CHAT_FIELDS = frozenset({"model", "messages", "tools", "stream", "options", *CAP_NAMES})
_GENERATE_FIELDS = frozenset({
    "model", "prompt", "suffix", "system", "template", "context", "images", "stream", "options",
    *CAP_NAMES,
})  # fmt: skip
_EMBED_FIELDS = frozenset({"model", "input", "options", "stream"})
_EMBEDDINGS_FIELDS = frozenset({"model", "prompt", "options", "stream"})
_OPTIONS = frozenset({_CONTEXT, *CAP_NAMES})


class _Shown(Struct, forbid_unknown_fields=True):
    images: list[Raw] | None = None
    role: Raw = ABSENT
    content: Raw = ABSENT
    thinking: Raw = ABSENT
    tool_calls: Raw = ABSENT
    tool_name: Raw = ABSENT


class _Generating(LineAnswers):
    """Shares the parts of chat and generate: the cap among the options, and the counts in the last line."""

    def __init__(self, dialect: Ollama, limits: OutputLimits) -> None:
        self.dialect = dialect
        self._limits = limits

    def _ask(self, fields: JsonObject, bounded: bool, digest: bytes, history: History = NO_HISTORY) -> Ask:
        options = fields.child("options", _OPTIONS)
        return Ask(
            model=json_body.read_model(fields),
            stream=fields.read("stream", bool) is not False,  # Ollama streams unless told not to
            prompt_bound=json_body.prompt_bound(fields, self._limits.template_tokens) if bounded else None,
            wish=wish_of(read_caps(options)) if options is not None else None,
            choices=1,
            wants_usage=True,
            fields=fields,
            prompt_digest=digest,
            context_wish=_context_wish(options),
            history=history,
        )

    def write(self, ask: Ask, cap: int, habits: Habits) -> bytes:
        del habits  # the cap is always among the options, and usage in the last line
        edits = cap_edits(read_caps(ask.fields), cap, ())
        options = ask.fields.child("options", _OPTIONS)
        if options is None:
            edits["options"] = b'{"%s":%d}' % (_CAP.encode(), cap)
        elif within := cap_edits(read_caps(options), cap, (_CAP,)):
            edits["options"] = options.splice(within)
        return ask.fields.splice(edits) if edits else ask.fields.text


class Chat(_Generating):
    """POST /api/chat."""

    path = "/api/chat"

    def parse(self, body: bytes) -> Ask:
        fields = json_body.read_object(body, _CHAT_FIELDS)
        messages = fields.entries("messages", list[_Shown]) or []
        bounded = not any(message.images for message in messages)
        digest = json_body.prompt_digest(fields, "model", "messages", "tools")
        return self._ask(fields, bounded, digest, read_history(fields))


class Generate(_Generating):
    """POST /api/generate. A template of the client's own may repeat the prompt, so that its bytes bound nothing."""

    path = "/api/generate"

    def parse(self, body: bytes) -> Ask:
        fields = json_body.read_object(body, _GENERATE_FIELDS)
        bounded = not fields.read("images", list[Raw]) and not fields.read("template", str)
        digest = json_body.prompt_digest(fields, "model", "system", "prompt", "suffix", "context")
        return self._ask(fields, bounded, digest)


class _Vectors(VectorAnswers):
    """Shares the parts of both routes of vectors: no output, and bodies that are never changed."""

    def __init__(self, dialect: Ollama, limits: OutputLimits) -> None:
        self.dialect = dialect
        self._limits = limits

    def _ask(self, fields: JsonObject, name: str, inputs: int) -> Ask:
        return Ask(
            model=json_body.read_model(fields),
            stream=False,
            prompt_bound=json_body.prompt_bound(fields, self._limits.template_tokens),
            wish=0,
            choices=1,
            wants_usage=True,
            fields=fields,
            prompt_digest=json_body.prompt_digest(fields, "model", name),
            prompts=max(1, inputs),
            context_wish=_context_wish(fields.child("options", _OPTIONS)),
            generates=False,
        )

    def write(self, ask: Ask, cap: int, habits: Habits) -> bytes:
        del cap, habits  # it has no output
        return ask.fields.text


class Embed(_Vectors):
    """POST /api/embed: a vector for each input."""

    path = "/api/embed"

    def parse(self, body: bytes) -> Ask:
        fields = json_body.read_object(body, _EMBED_FIELDS)
        inputs = (fields.read("input", list[Raw]) or []) if fields.begins("input") == b"[" else []
        refuse_entries(len(inputs), "input")
        return self._ask(fields, "input", len(inputs))


class Embeddings(_Vectors):
    """Serves POST /api/embeddings, the route before `embed`: one prompt, one vector, and no count of its cost."""

    path = "/api/embeddings"

    def parse(self, body: bytes) -> Ask:
        return self._ask(json_body.read_object(body, _EMBEDDINGS_FIELDS), "prompt", 1)


def _context_wish(options: JsonObject | None) -> int:
    return max(0, options.read(_CONTEXT, int) or 0) if options is not None else 0
