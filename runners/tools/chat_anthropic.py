"""Read and write messages of Anthropic's API. Its system prompt stands beside the messages."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Final

from runners.tools.chat_parts import (
    Answer,
    Call,
    Fields,
    Image,
    Lost,
    Message,
    Part,
    Text,
    Thought,
    joined,
    known_role,
    refuse,
)

_ROLES: Final = ("user", "assistant")


def read(messages: Sequence[Any], system: str, lost: Lost) -> list[Message]:
    """Return messages in the common form: answers to calls become messages of their own. Raises ToolError."""
    found = [Message("system", (Text(system),))] if system else []
    for at, each in enumerate(messages):
        fields = Fields(each, f"messages[{at}]", lost)
        role = known_role(fields, _ROLES)
        parts = list(_blocks(fields, fields.take("content")))
        fields.end()
        if role == "assistant":
            found.append(Message("assistant", tuple(parts)))
            continue
        answers = [part for part in parts if isinstance(part, Answer)]
        others = tuple(part for part in parts if not isinstance(part, Answer))
        if parts[: len(answers)] != answers:
            lost.add(fields.place, "the place of text before the answer to a call")
        found += [Message("tool", (answer,)) for answer in answers]
        if others or not answers:
            found.append(Message("user", others))
    return found


def _blocks(fields: Fields, content: object) -> Iterator[Part]:
    if isinstance(content, str):
        if content:
            yield Text(content)
        return
    if not isinstance(content, list):
        refuse(f"{fields.place}.content", "is neither a text nor a list of blocks")
    for at, each in enumerate(content):
        block = Fields(each, f"{fields.place}.content[{at}]", fields.lost)
        if (part := _block(block, block.text("type"))) is not None:
            yield part


def _block(block: Fields, kind: str) -> Part | None:
    part: Part | None
    match kind:
        case "text":
            part = Text(block.text("text"))
        case "image":
            part = _image(block.object("source"))
        case "tool_use":
            arguments = block.take("input")
            if not isinstance(arguments, dict):
                refuse(f"{block.place}.input", "is no object")
            part = Call(block.text("id"), block.text("name"), arguments)
        case "tool_result":
            said = tuple(_blocks(block, block.take("content") or ""))
            failed = block.take("is_error") is True
            shown = tuple(each for each in said if isinstance(each, Text | Image))
            part = Answer(block.text("tool_use_id"), shown, failed)
        case "thinking":
            part = Thought(block.text("thinking"), block.text("signature", ""))
        case _:
            block.lost.add(block.place, f"a block of the type `{kind}`")
            return None
    block.end()
    return part


def _image(source: Fields) -> Image | None:
    image: Image | None = None
    match kind := source.text("type"):
        case "base64":
            image = Image(data=source.text("data"), media_type=source.text("media_type"))
        case "url":
            image = Image(url=source.text("url"))
        case _:
            source.lost.add(source.place, f"an image by `{kind}`")
            return None
    source.end()
    return image


def write(messages: Sequence[Message], lost: Lost) -> tuple[list[dict[str, Any]], str]:
    """Return messages of the common form as Anthropic's, and the system prompt."""
    system: list[str] = []
    written: list[dict[str, Any]] = []
    answering = False
    for at, message in enumerate(messages):
        place = f"messages[{at}]"
        if message.role == "system":
            if written:
                lost.add(place, "the place of a system message behind others")
            system += _system(message, place, lost)
            continue
        blocks = [block for part in message.parts if (block := _written(part, place, lost))]
        if answering and message.role in {"tool", "user"}:
            written[-1]["content"] += blocks
        else:
            role = "assistant" if message.role == "assistant" else "user"
            written.append({"role": role, "content": blocks})
        answering = message.role == "tool"
    for each in written:
        each["content"] = _short(each["content"])
    return written, joined(system, "\n\n", "system", lost)


def _system(message: Message, place: str, lost: Lost) -> list[str]:
    if len(message.texts()) < len(message.parts):
        lost.add(place, "an image in a system message")
    return message.texts()


def _written(part: Part, place: str, lost: Lost) -> dict[str, Any] | None:
    match part:
        case Text(text):
            return {"type": "text", "text": text}
        case Image():
            return {"type": "image", "source": _source(part)}
        case Call():
            return {"type": "tool_use", "id": part.id, "name": part.name, "input": dict(part.arguments)}
        case Thought(text, signature) if signature:
            return {"type": "thinking", "thinking": text, "signature": signature}
        case Thought():
            lost.add(place, "thinking, which has no signature")
            return None
        case Answer():
            blocks = [block for each in part.parts if (block := _written(each, place, lost))]
            answer = {"type": "tool_result", "tool_use_id": part.id, "content": _short(blocks)}
            return {**answer, "is_error": True} if part.failed else answer


def _short(blocks: list[dict[str, Any]]) -> str | list[dict[str, Any]]:
    """Return a lone text as such, as most programs write it."""
    if not blocks:
        return ""
    return blocks[0]["text"] if len(blocks) == 1 and blocks[0]["type"] == "text" else blocks


def _source(image: Image) -> dict[str, str]:
    if image.url:
        return {"type": "url", "url": image.url}
    return {"type": "base64", "media_type": image.media_type, "data": image.data}
