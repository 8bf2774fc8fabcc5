"""The tool of the category `prompt` that turns messages of one API into another's, and tells what is lost by it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, Literal

from msgspec import UNSET, UnsetType

from runners.tools import chat_anthropic, chat_ollama, chat_openai, output
from runners.tools.chat_parts import Lost, Message
from runners.tools.signature import Args, Result, ToolError, meta

Dialect = Literal["openai", "anthropic", "ollama"]
_MOST_LOST: Final = 100


class FormatArgs(Args, frozen=True):
    """Holds messages and the dialects they are in and wanted in; `system` is Anthropic's text beside them."""

    messages: list[dict[str, Any]]
    source: Dialect
    dialect: Dialect
    system: str | None = None


class FormatResult(Result, frozen=True):
    """Holds the messages; `lost` names what the dialect cannot say, by the number of the message that had it."""

    messages: list[dict[str, Any]]
    lost: list[str]
    system: str | UnsetType = UNSET


MESSAGE_FORMAT: Final = meta(
    "message_format",
    FormatArgs,
    FormatResult,
    risk="P",
    timeout=5,
    description="Convert chat messages between OpenAI, Anthropic, Ollama, with tool calls and images.",
    examples=(
        {
            "messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hello"}],
            "source": "openai",
            "dialect": "anthropic",
        },
    ),
)


@MESSAGE_FORMAT.tool
async def message_format(args: FormatArgs) -> FormatResult:
    """Read, write, and read again what was written: a difference that nobody has told is told too."""
    if args.system and args.source != "anthropic":
        raise ToolError(
            f"`system` is Anthropic's, and the messages are in {args.source}",
            "give it as a message of the role system",
        )
    lost = Lost()
    common = read(args.messages, args.system or "", args.source, lost)
    messages, system = write(common, args.dialect, lost)
    if not lost.told and read(messages, system, args.dialect, Lost()) != common:
        lost.add("messages", "read again they are others")
    return FormatResult(
        messages=output.whole(messages, "convert fewer messages at once"),
        lost=lost.told[:_MOST_LOST],
        system=system or UNSET,
    )


def read(messages: Sequence[Any], system: str, dialect: Dialect, lost: Lost) -> list[Message]:
    """Return messages in the common form. Raises ToolError."""
    match dialect:
        case "openai":
            return chat_openai.read(messages, lost)
        case "anthropic":
            return chat_anthropic.read(messages, system, lost)
        case "ollama":
            return chat_ollama.read(messages, lost)


def write(messages: Sequence[Message], dialect: Dialect, lost: Lost) -> tuple[list[dict[str, Any]], str]:
    """Return messages in a dialect, and the system prompt that stands beside them."""
    match dialect:
        case "openai":
            return chat_openai.write(messages, lost), ""
        case "anthropic":
            return chat_anthropic.write(messages, lost)
        case "ollama":
            return chat_ollama.write(messages, lost), ""


TOOLS: Final = (MESSAGE_FORMAT,)
