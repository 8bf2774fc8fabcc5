"""Read and write messages of Ollama's own API. Where calls have no ids, answers belong to them by name and order."""

from __future__ import annotations

from collections.abc import Sequence
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
    joined,
    known_role,
    refuse,
)

_ROLES: Final = ("system", "user", "assistant", "tool")
_KINDS: Final = (
    ("iVBORw0KGgo", "image/png"),
    ("/9j/", "image/jpeg"),
    ("R0lGOD", "image/gif"),
    ("UklGR", "image/webp"),
)
"""The first characters of an image in base64, which tell its type."""


def kind_of(data: str) -> str:
    """Return the type of an image by its first bytes; empty if it is none of the usual ones."""
    return next((kind for head, kind in _KINDS if data.startswith(head)), "")


def read(messages: Sequence[Any], lost: Lost) -> list[Message]:
    """Return messages in the common form. Raises ToolError."""
    open_calls: list[Call] = []
    found: list[Message] = []
    made = 0
    for at, each in enumerate(messages):
        fields = Fields(each, f"messages[{at}]", lost)
        role = known_role(fields, _ROLES)
        content = fields.text("content", "")
        parts: list[Part] = [Text(content)] if content else []
        if role == "tool":
            parts = [Answer(_answered(fields, open_calls), tuple(p for p in parts if isinstance(p, Text)))]
        if role == "assistant":
            parts = ([Thought(thought)] if (thought := fields.text("thinking", "")) else []) + parts
            for number, given in enumerate(fields.items("tool_calls")):
                made += 1
                call = _call(Fields(given, f"{fields.place}.tool_calls[{number}]", lost), f"call_{made}")
                open_calls.append(call)
                parts.append(call)
        parts += [_image(image, fields) for image in fields.items("images")]
        fields.end()
        found.append(Message(cast("Role", role), tuple(parts)))
    return found


def _call(fields: Fields, made: str) -> Call:
    function = fields.object("function")
    arguments = function.take("arguments")
    if not isinstance(arguments, dict | None):
        refuse(f"{function.place}.arguments", "is no object")
    call = Call(fields.text("id", made), function.text("name"), arguments or {})
    function.end("index")
    fields.end("type")
    return call


def _answered(fields: Fields, open_calls: list[Call]) -> str:
    """Return the id of the call that a message answers, and close that call."""
    number, name = fields.text("tool_call_id", ""), fields.text("tool_name", "")
    for call in open_calls:
        if call.id == number or (not number and name in {"", call.name}):
            open_calls.remove(call)
            return call.id
    if not number:
        refuse(fields.place, f"answers a call of {name or 'a tool'} that is not there")
    return number


def _image(data: object, fields: Fields) -> Image:
    if not isinstance(data, str):
        refuse(f"{fields.place}.images", "has something that is no text of base64")
    if not (kind := kind_of(data)):
        fields.lost.add(
            fields.place, "the type of an image, which is none of the usual ones: image/png is said"
        )
    return Image(data=data, media_type=kind or "image/png")


def write(messages: Sequence[Message], lost: Lost) -> list[dict[str, Any]]:
    """Return messages of the common form as Ollama's."""
    names = {call.id: call.name for message in messages for call in message.calls()}
    return [_written(each, names, f"messages[{at}]", lost) for at, each in enumerate(messages)]


def _written(message: Message, names: dict[str, str], place: str, lost: Lost) -> dict[str, Any]:
    written: dict[str, Any] = {"role": message.role}
    parts: tuple[Part, ...] = message.parts
    if parts and isinstance(answer := parts[0], Answer):
        if answer.failed:
            lost.add(place, "that the call failed")
        if answer.id not in names:
            lost.add(place, "it answers a call that is not there, so it has no name")
        written |= {"tool_call_id": answer.id, "tool_name": names.get(answer.id, "")}
        parts = answer.parts
    _tell_order(parts, place, lost)
    texts = [part.text for part in parts if isinstance(part, Text)]
    written["content"] = joined(texts, "\n\n", place, lost)
    if thoughts := [part for part in parts if isinstance(part, Thought)]:
        written["thinking"] = joined([thought.text for thought in thoughts], "\n\n", place, lost)
        if any(thought.signature for thought in thoughts):
            lost.add(place, "the signature of thinking")
    if images := [data for part in parts if isinstance(part, Image) and (data := _data(part, place, lost))]:
        written["images"] = images
    if calls := message.calls():
        written["tool_calls"] = [
            {"id": call.id, "function": {"name": call.name, "arguments": dict(call.arguments)}}
            for call in calls
        ]
    return written


def _tell_order(parts: Sequence[Part], place: str, lost: Lost) -> None:
    """Tell an order that is another one when it is read back: thinking, text, calls, images."""
    rank = {Thought: 0, Text: 1, Call: 2, Answer: 2, Image: 3}
    ranks = [rank[type(part)] for part in parts]
    if ranks != sorted(ranks):
        lost.add(place, "the order of its parts")


def _data(image: Image, place: str, lost: Lost) -> str:
    if image.url:
        lost.add(place, "an image by its URL: Ollama takes the image itself")
        return ""
    if kind_of(image.data) != image.media_type:
        lost.add(place, f"that an image is {image.media_type}")
    return image.data
