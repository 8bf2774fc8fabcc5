"""Anthropic's dialect: messages, and the count of a prompt's tokens."""

from __future__ import annotations

from msgspec import Raw, Struct

from epad.gateway.dialects import body as json_body
from epad.gateway.dialects.anthropic_answer import Anthropic, CountAnswers, MessageAnswers
from epad.gateway.dialects.body import ABSENT, JsonObject
from epad.gateway.dialects.caps import CAP_NAMES, cap_edits, read_caps, wish_of
from epad.gateway.dialects.dialect import Ask, Habits, OutputLimits
from epad.gateway.dialects.history import read_history
from epad.gateway.errors import RequestError

__all__ = ["Anthropic", "CountTokens", "Messages"]

_CAP = "max_tokens"
# A tool's result has blocks of its own, and a search result in it: 2.
_MAX_DEPTH = 8
_OURS = frozenset({
    "model", "messages", "system", "tools", "stream", "mcp_servers", "container", "context_management",
    *CAP_NAMES,
})  # fmt: skip
_EDITS = frozenset({"edits"})
# With these the server works by itself, and asks the model as often as it likes.
_SERVER_FIELDS = ("mcp_servers", "container")
_CUSTOM_TOOLS = frozenset({"", "custom"})
# Run by the client, but described to the model in words that are not in the body.
_NAMED_TOOLS = ("bash_", "text_editor_", "computer_", "memory_", "browser_toolset_")
_TEXT_BLOCKS = frozenset({"text", "tool_use", "tool_result", "thinking", "redacted_thinking"})


class _Edit(Struct, forbid_unknown_fields=True):
    type: str | None = None


class _Tool(Struct, forbid_unknown_fields=True):
    type: str | None = None
    name: Raw = ABSENT
    description: Raw = ABSENT
    input_schema: Raw = ABSENT
    cache_control: Raw = ABSENT


class _Block(Struct, forbid_unknown_fields=True):
    type: str = ""
    content: Raw = ABSENT
    text: Raw = ABSENT
    source: Raw = ABSENT
    thinking: Raw = ABSENT
    signature: Raw = ABSENT
    id: Raw = ABSENT
    name: Raw = ABSENT
    input: Raw = ABSENT
    tool_use_id: Raw = ABSENT
    cache_control: Raw = ABSENT


class _Message(Struct, forbid_unknown_fields=True):
    content: Raw = ABSENT
    role: Raw = ABSENT


class Messages(MessageAnswers):
    """POST /v1/messages."""

    path = "/v1/messages"

    def __init__(self, dialect: Anthropic, limits: OutputLimits) -> None:
        self.dialect = dialect
        self._limits = limits

    def parse(self, body: bytes) -> Ask:
        fields = json_body.read_object(body, _OURS)
        bounded = _is_bounded(fields)
        return Ask(
            model=json_body.read_model(fields),
            stream=bool(fields.read("stream", bool)),
            prompt_bound=json_body.prompt_bound(fields, self._limits.template_tokens) if bounded else None,
            wish=wish_of(read_caps(fields)),
            choices=1,
            wants_usage=True,  # every stream has it
            fields=fields,
            prompt_digest=json_body.prompt_digest(fields, "model", "system", "messages", "tools"),
            history=read_history(fields, before=("system",)),
        )

    def write(self, ask: Ask, cap: int, habits: Habits) -> bytes:
        del habits  # every server of this dialect takes the one name
        edits = cap_edits(read_caps(ask.fields), cap, (_CAP,))
        return ask.fields.splice(edits) if edits else ask.fields.text


class CountTokens(CountAnswers):
    """POST /v1/messages/count_tokens: a turn of no tokens.

    No model is run for it and Anthropic charges nothing, so it costs nothing here; but it keeps the server
    busy, so it takes its place among the turns in flight and the requests of a minute, and in the ledger.
    """

    path = "/v1/messages/count_tokens"

    def __init__(self, dialect: Anthropic) -> None:
        self.dialect = dialect

    def parse(self, body: bytes) -> Ask:
        fields = json_body.read_object(body, _OURS)
        return Ask(
            model=json_body.read_model(fields),
            stream=False,
            prompt_bound=0,
            wish=0,
            choices=1,
            wants_usage=True,
            fields=fields,
            # Not the digest of the message it counts: to count first and then to ask is no repetition.
            prompt_digest=json_body.prompt_digest(fields, "messages", "model", "system", "tools"),
            generates=False,
        )

    def write(self, ask: Ask, cap: int, habits: Habits) -> bytes:
        del cap, habits  # nothing is generated
        return ask.fields.text


def _is_bounded(fields: JsonObject) -> bool:
    """Say whether all of the prompt's tokens are in its bytes. Raises RequestError where nothing bounds them."""
    for name in _SERVER_FIELDS:
        if fields.has(name):
            raise RequestError(f"{name}: the server would work by itself, so nothing bounds its tokens")
    messages = fields.entries("messages", list[_Message])
    if messages is None:
        raise RequestError("messages: a list of messages is needed")
    management = fields.child("context_management", _EDITS)
    for edit in (management.entries("edits", list[_Edit]) if management is not None else None) or []:
        if not (edit.type or "").startswith("clear_"):
            raise RequestError("context_management: a summary is another request, which no usage counts")
    named = False
    for tool in fields.entries("tools", list[_Tool]) or []:
        kind = tool.type or ""
        if kind.startswith(_NAMED_TOOLS):
            named = True
        elif kind not in _CUSTOM_TOOLS:
            raise RequestError(
                f"tools: {kind[:80]!r} runs at the server and asks the model as often as it likes, "
                "so nothing bounds its tokens; metered: tools of the client's own"
            )

    return not named and all(_is_text(message.content) for message in messages)


def _is_text(content: Raw, depth: int = 0) -> bool:
    if json_body.first_byte(content) != b"[":
        return True
    if depth >= _MAX_DEPTH:  # each level is read once more
        raise RequestError(f"messages: blocks within blocks, more than {_MAX_DEPTH} deep")
    blocks = json_body.read_entries(content, "messages", list[_Block])
    return all(block.type in _TEXT_BLOCKS and _is_text(block.content, depth + 1) for block in blocks)
