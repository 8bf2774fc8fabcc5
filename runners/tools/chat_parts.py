"""Hold a conversation in the form that all dialects are read into and written from, and tell what a dialect lacks.

| | OpenAI | Anthropic | Ollama |
|---|---|---|---|
| system | messages | one text beside the messages | messages |
| image | part with a URL, or a `data:` one | block with a URL, or base64 | base64 beside the text, without its type |
| arguments of a call | JSON as a text | an object | an object |
| answer to a call | a message of text | a block of the user's message, with its failure | a message of text |
| thinking | none | block with a signature | a field |
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Literal, NoReturn

import msgspec

from runners.tools.signature import ToolError

Role = Literal["system", "user", "assistant", "tool"]
_DATA_URL: Final = re.compile(r"data:([\w.+/-]+);base64,(.*)", re.DOTALL)
_MOST: Final = 1 << 63


@dataclass(frozen=True, slots=True)
class Text:
    """Holds a text."""

    text: str


@dataclass(frozen=True, slots=True)
class Image:
    """Holds an image: its bytes in base64 with their type, or its URL."""

    data: str = ""
    media_type: str = ""
    url: str = ""


@dataclass(frozen=True, slots=True)
class Call:
    """Holds a call of a tool by the model."""

    id: str
    name: str
    arguments: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Answer:
    """Holds the answer to a call."""

    id: str
    parts: tuple[Text | Image, ...]
    failed: bool = False


@dataclass(frozen=True, slots=True)
class Thought:
    """Holds the model's thinking; the signature is Anthropic's."""

    text: str
    signature: str = ""


Part = Text | Image | Call | Answer | Thought


@dataclass(frozen=True, slots=True)
class Message:
    """Holds one message. One of the role `tool` has exactly one answer."""

    role: Role
    parts: tuple[Part, ...]

    def texts(self) -> list[str]:
        """Return the texts, in order."""
        return [part.text for part in self.parts if isinstance(part, Text)]

    def calls(self) -> list[Call]:
        """Return the calls, in order."""
        return [part for part in self.parts if isinstance(part, Call)]

    def order(self) -> list[type[Part]]:
        """Return the kinds of the parts, in order."""
        return [type(part) for part in self.parts]


@dataclass(slots=True)
class Lost:
    """Collects what the other dialect cannot say, each with its message."""

    told: list[str] = field(default_factory=list)

    def add(self, place: str, what: str) -> None:
        """Tell one thing, once."""
        if (line := f"{place}: {what}") not in self.told:
            self.told.append(line)


class Fields:
    """Reads the fields of one object, so that those nobody asks for can be told. Raises ToolError for wrong types."""

    def __init__(self, value: object, place: str, lost: Lost) -> None:
        if not isinstance(value, dict):
            refuse(place, "is no object")
        self._left = {name: each for name, each in value.items() if each is not None}
        self.place = place
        self.lost = lost

    def take(self, name: str) -> Any:
        """Return a field of any kind, None if it is not there."""
        return self._left.pop(name, None)

    def text(self, name: str, default: str | None = None) -> str:
        """Return a text."""
        value = self._left.pop(name, default)
        if not isinstance(value, str):
            refuse(f"{self.place}.{name}", "is no text" if value is not None else "is missing")
        return value

    def items(self, name: str) -> list[Any]:
        """Return a list, empty if it is not there."""
        value = self._left.pop(name, [])
        if not isinstance(value, list):
            refuse(f"{self.place}.{name}", "is no list")
        return value

    def object(self, name: str) -> Fields:
        """Return an object."""
        return Fields(self._left.pop(name, None), f"{self.place}.{name}", self.lost)

    def end(self, *ignored: str) -> None:
        """Tell the fields that nobody has asked for."""
        for name in self._left:
            if name not in ignored:
                self.lost.add(self.place, f"`{name}`")


def refuse(place: str, what: str) -> NoReturn:
    """Refuse a message that is not in its dialect. Raises ToolError."""
    raise ToolError(f"{place} {what}", "check `source`, the dialect that the messages are in")


def known_role(fields: Fields, roles: Iterable[str]) -> str:
    """Return a message's role. Raises ToolError for one that the dialect does not have."""
    role = fields.text("role")
    if role not in roles:
        refuse(f"{fields.place}.role", f"is {role!r}, and may be {', '.join(roles)}")
    return role


def image_of(url: str) -> Image:
    """Return the image of a URL, which may hold the image itself."""
    if match := _DATA_URL.fullmatch(url):
        return Image(data=match[2], media_type=match[1])
    return Image(url=url)


def url_of(image: Image) -> str:
    """Return an image's URL, with the image in it if it has no other."""
    return image.url or f"data:{image.media_type};base64,{image.data}"


def arguments_of(text: str, place: str) -> dict[str, Any]:
    """Return a call's arguments from their JSON. Raises ToolError for what is no object, or would change by it."""
    try:
        found = json.loads(
            text or "{}", object_pairs_hook=_once, parse_constant=_no_number, parse_int=_short_number
        )
    except ValueError as error:
        refuse(place, f"are no JSON that can be carried over: {error}")
    if not isinstance(found, dict):
        refuse(place, "are JSON, but no object")
    return found


def json_of(arguments: Mapping[str, Any]) -> str:
    """Return a call's arguments as JSON."""
    return msgspec.json.encode(arguments).decode()


def joined(texts: Sequence[str], separator: str, place: str, lost: Lost) -> str:
    """Return texts as one; that they were several is lost."""
    if len(texts) > 1:
        lost.add(place, f"{len(texts)} texts become one")
    return separator.join(texts)


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a key is there twice")
    return found


def _no_number(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON")


def _short_number(digits: str) -> int:
    if len(digits) > 20 or not -_MOST <= (number := int(digits)) < _MOST:
        raise ValueError(f"the number {digits[:20]} has over 64 bits")
    return number
