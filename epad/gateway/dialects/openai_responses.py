"""OpenAI's responses."""

from __future__ import annotations

from msgspec import Raw, Struct

from epad.gateway.dialects import body as json_body
from epad.gateway.dialects.body import ABSENT, JsonObject
from epad.gateway.dialects.caps import CAP_NAMES, cap_edits, read_caps, wish_of
from epad.gateway.dialects.dialect import Ask, Habits, OutputLimits
from epad.gateway.dialects.history import NO_HISTORY, read_history
from epad.gateway.dialects.openai_answer import OpenAI
from epad.gateway.dialects.responses_answer import ResponseAnswers
from epad.gateway.errors import RequestError

_CAP = "max_output_tokens"
_OURS = frozenset({
    "model", "input", "instructions", "stream", "tools", "background", "previous_response_id", "conversation",
    "prompt", "context_management", *CAP_NAMES,
})  # fmt: skip
# These bring in what the server keeps: as much as its context holds.
_REMEMBERED_FIELDS = ("previous_response_id", "conversation", "prompt")
# Others run at the server, which then asks the model again and again, each time with the whole context.
_CLIENT_TOOLS = frozenset({"function", "custom", "local_shell", "apply_patch"})
_TEXT_ITEMS = frozenset({
    "message", "function_call", "function_call_output", "custom_tool_call", "custom_tool_call_output", "reasoning",
})  # fmt: skip
_TEXT_PARTS = frozenset({"input_text", "output_text", "refusal", "summary_text", "reasoning_text", "text"})


class _Tool(Struct, forbid_unknown_fields=True):
    type: str = ""
    name: Raw = ABSENT
    description: Raw = ABSENT
    parameters: Raw = ABSENT
    strict: Raw = ABSENT


class _InputPart(Struct, forbid_unknown_fields=True):
    type: str = ""
    text: Raw = ABSENT
    annotations: Raw = ABSENT


class _Item(Struct, forbid_unknown_fields=True):
    type: str = "message"
    content: Raw = ABSENT
    output: Raw = ABSENT
    id: Raw = ABSENT
    role: Raw = ABSENT
    status: Raw = ABSENT
    call_id: Raw = ABSENT
    name: Raw = ABSENT
    arguments: Raw = ABSENT
    summary: Raw = ABSENT


class Responses(ResponseAnswers):
    """POST /v1/responses."""

    path = "/v1/responses"

    def __init__(self, dialect: OpenAI, limits: OutputLimits) -> None:
        self.dialect = dialect
        self._limits = limits

    def parse(self, body: bytes) -> Ask:
        fields = json_body.read_object(body, _OURS)
        _refuse_what_cannot_be_metered(fields)
        remembers = any(fields.has(name) for name in _REMEMBERED_FIELDS)
        bounded = not remembers and _is_text(fields)
        return Ask(
            model=json_body.read_model(fields),
            stream=bool(fields.read("stream", bool)),
            prompt_bound=json_body.prompt_bound(fields, self._limits.template_tokens) if bounded else None,
            wish=wish_of(read_caps(fields)),
            choices=1,
            wants_usage=True,  # it is always in the last event
            fields=fields,
            prompt_digest=json_body.prompt_digest(
                fields, "model", "instructions", "input", "tools", "previous_response_id", "conversation"
            ),
            # What is said to a server that remembers is a piece of a conversation that does not pass here.
            history=NO_HISTORY if remembers else read_history(fields, "input", ("instructions",)),
        )

    def write(self, ask: Ask, cap: int, habits: Habits) -> bytes:
        del habits  # there is one name for the cap, and usage is always in the last event
        edits = cap_edits(read_caps(ask.fields), cap, (_CAP,))
        return ask.fields.splice(edits) if edits else ask.fields.text


def _refuse_what_cannot_be_metered(fields: JsonObject) -> None:
    """Refuse fields that spend without any sign in our answers, or beyond any bound. Raises RequestError."""
    if fields.read("background", bool):
        raise RequestError("background: the answer comes after the turn, so its tokens could not be counted")
    if fields.has("context_management"):
        raise RequestError("context_management: a summary is another request, which nothing bounds")
    for tool in fields.entries("tools", list[_Tool]) or []:
        if tool.type not in _CLIENT_TOOLS:
            raise RequestError(
                f"tools: {tool.type[:80]!r} runs at the server and asks the model as often as it likes, "
                f"so nothing bounds its tokens; metered: {', '.join(sorted(_CLIENT_TOOLS))}"
            )


def _is_text(fields: JsonObject) -> bool:
    """Say whether all of the input's tokens are in its bytes."""
    if fields.begins("input") != b"[":
        return True
    items = fields.entries("input", list[_Item]) or []
    return all(
        item.type in _TEXT_ITEMS and _parts_are_text(item.content) and _parts_are_text(item.output)
        for item in items
    )


def _parts_are_text(content: Raw) -> bool:
    if json_body.first_byte(content) != b"[":
        return True
    return all(
        part.type in _TEXT_PARTS for part in json_body.read_entries(content, "input", list[_InputPart])
    )
