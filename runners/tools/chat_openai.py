"""Read and write messages of OpenAI's chat completions, which vLLM and most other servers take."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Final, cast

from runners.tools.chat_parts import (
    Answer,
    Call,
    Fields,
    Image,
    Lost,
    Message,
    Part,
    Role,
    Text,
    Thought,
    arguments_of,
    image_of,
    json_of,
    known_role,
    refuse,
    url_of,
)

_ROLES: Final = ("system", "developer", "user", "assistant", "tool")


def read(messages: Sequence[Any], lost: Lost) -> list[Message]:
    """Return messages in the common form. Raises ToolError."""
    return [_message(Fields(each, f"messages[{at}]", lost)) for at, each in enumerate(messages)]


def _message(fields: Fields) -> Message:
    role = known_role(fields, _ROLES)
    if role == "developer":
        fields.lost.add(fields.place, "the role `developer` becomes `system`")
        role = "system"
    parts: list[Part] = list(_content(fields, fields.take("content")))
    if role == "tool":
        parts = [Answer(fields.text("tool_call_id"), tuple(p for p in parts if isinstance(p, Text | Image)))]
    if role == "assistant":
        calls = fields.items("tool_calls")
        parts += [
            _call(Fields(each, f"{fields.place}.tool_calls[{at}]", fields.lost))
            for at, each in enumerate(calls)
        ]
    fields.end()
    return Message(cast("Role", role), tuple(parts))


def _content(fields: Fields, content: object) -> Iterator[Text | Image]:
    if isinstance(content, str):
        if content:
            yield Text(content)
        return
    if not isinstance(content, list | None):
        refuse(f"{fields.place}.content", "is neither a text nor a list of parts")
    for at, each in enumerate(content or []):
        part = Fields(each, f"{fields.place}.content[{at}]", fields.lost)
        match kind := part.text("type"):
            case "text":
                yield Text(part.text("text"))
                part.end()
            case "image_url":
                image = part.object("image_url")
                yield image_of(image.text("url"))
                image.end()
                part.end()
            case _:
                part.lost.add(part.place, f"a part of the type `{kind}`")


def _call(fields: Fields) -> Call:
    if (kind := fields.text("type", "function")) != "function":
        refuse(f"{fields.place}.type", f"is {kind!r}, and only functions are carried over")
    function = fields.object("function")
    name, arguments = function.text("name"), function.text("arguments", "{}")
    call = Call(fields.text("id"), name, arguments_of(arguments, f"{function.place}.arguments"))
    function.end()
    fields.end("index")
    return call


def write(messages: Sequence[Message], lost: Lost) -> list[dict[str, Any]]:
    """Return messages of the common form as OpenAI's."""
    return [_written(each, f"messages[{at}]", lost) for at, each in enumerate(messages)]


def _written(message: Message, place: str, lost: Lost) -> dict[str, Any]:
    if message.role == "tool":
        return _answer(message, place, lost)
    said: list[Text | Image] = []
    for part in message.parts:
        match part:
            case Text():
                said.append(part)
            case Image() if message.role == "user":
                said.append(part)
            case Image():
                lost.add(place, f"an image in a message of the role `{message.role}`")
            case Thought():
                lost.add(place, "thinking")
    written: dict[str, Any] = {"role": message.role, "content": _parts(said)}
    if calls := message.calls():
        order = message.order()
        if Text in order[order.index(Call) :]:
            lost.add(place, "the place of a text behind a call")
        written["content"] = written["content"] or None
        written["tool_calls"] = [
            {
                "id": each.id,
                "type": "function",
                "function": {"name": each.name, "arguments": json_of(each.arguments)},
            }
            for each in calls
        ]
    return written


def _answer(message: Message, place: str, lost: Lost) -> dict[str, Any]:
    answer = message.parts[0]
    assert isinstance(answer, Answer)  # noqa: S101 - tells mypy; a message of the role tool has one
    if answer.failed:
        lost.add(place, "that the call failed")
    texts = [part for part in answer.parts if isinstance(part, Text)]
    if len(texts) < len(answer.parts):
        lost.add(place, "an image in the answer to a call")
    return {"role": "tool", "tool_call_id": answer.id, "content": _parts(texts)}


def _parts(parts: Sequence[Text | Image]) -> str | list[dict[str, Any]]:
    match parts:
        case []:
            return ""
        case [Text(text)]:
            return text
        case _:
            return [_part(each) for each in parts]


def _part(part: Text | Image) -> dict[str, Any]:
    if isinstance(part, Text):
        return {"type": "text", "text": part.text}
    return {"type": "image_url", "image_url": {"url": url_of(part)}}
