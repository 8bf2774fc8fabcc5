"""Read JSON requests without touching foreign parts: epad's values go between the bytes that came."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Container, Iterable, Mapping
from functools import cache
from typing import Any, TypeVar, get_args

import msgspec
from msgspec import Raw, Struct

from epad.gateway.dialects.shape import MAX_KEY_CHARACTERS, refuse_entries, refuse_shape
from epad.gateway.errors import RequestError

T = TypeVar("T")
Span = tuple[int, int]

MAX_MODEL_LENGTH = 256
MAX_CHOICES = 128
# Beyond this the place of a syntax error is not looked for: the second parser is twenty times slower.
_MAX_DIAGNOSED_BYTES = 1 << 20
# A value is compared with what lies in the text by pieces of this size, so that a large one is not copied whole.
_COMPARED_BYTES = 256 << 10
# To read 32 MiB of escapes as one word takes 60 ms at a stretch, and no honest word of those read here is as long.
_MAX_SCALAR_BYTES = 1 << 20
_SCALARS = frozenset({str, int, float, bool})
_MAX_REWRITTEN_BYTES = 64 << 10
_NULL = Raw(b"null")
ABSENT = Raw(b"")
"""What a field that is not there has: no value is empty. Of most that have it, nobody reads what they are."""

_begin_digest = hashlib.sha256().copy  # to make one anew takes twice as long
_decode_fields = msgspec.json.Decoder(dict[str, Raw]).decode
_decode_any = msgspec.json.Decoder(Raw).decode
_KEY = re.compile(rb'[ \t\n\r]*[{,][ \t\n\r]*"[^"\\]*(?:\\.[^"\\]*)*"[ \t\n\r]*:[ \t\n\r]*')
_END = re.compile(rb"[ \t\n\r]*\}")


class JsonObject(Struct, frozen=True):
    """A JSON object: the value of each field as its own bytes; where it lies in the text is found when asked."""

    text: bytes
    values: Mapping[str, Raw]

    @property
    def spans(self) -> Mapping[str, Span]:
        """Return the place of each value."""
        return _spans(self.text, self.values) or {}

    def has(self, name: str) -> bool:
        """Say whether a field is there and not null."""
        raw = self.values.get(name)
        return raw is not None and raw != _NULL

    def raw(self, name: str) -> bytes:
        """Return a field's value as it came; null if it is absent."""
        return bytes(self.values.get(name, _NULL))

    def begins(self, name: str) -> bytes:
        """Return the first byte of a field's value, which tells its kind; that of null if it is absent."""
        return first_byte(self.values.get(name, _NULL))

    def read(self, name: str, kind: type[T]) -> T | None:
        """Return one field's value; None if it is absent or null. Raises RequestError naming the field."""
        raw = self.values.get(name)
        return None if raw is None or raw == _NULL else decode(raw, name, kind)

    def entries(self, name: str, kind: type[list[T]]) -> list[T] | None:
        """Return one field's list of objects, as `read_entries` reads it; None if it is absent or null."""
        raw = self.values.get(name)
        return None if raw is None or raw == _NULL else read_entries(raw, name, kind)

    def child(self, name: str, ours: frozenset[str]) -> JsonObject | None:
        """Return a field that is an object itself; None if it is absent or null. Raises RequestError."""
        return read_object(self.raw(name), ours, name) if self.has(name) else None

    def splice(self, edits: Mapping[str, bytes]) -> bytes:
        """The object with these values; every byte that is not one of a replaced value is as it came."""
        if self.values.keys().isdisjoint(edits) and self.values and self.text.endswith(b"}"):
            added = b",".join([json.dumps(name).encode() + b":" + value for name, value in edits.items()])
            return b"%b,%b}" % (self.text[:-1], added) if added else self.text
        parts, at, spans = [], 0, self.spans
        for start, end, name in sorted((*spans[name], name) for name in edits if name in spans):
            parts += [self.text[at:start], edits[name]]
            at = end
        added = b",".join(json.dumps(n).encode() + b":" + edits[n] for n in edits if n not in spans)
        last = max((end for _, end in spans.values()), default=None)
        if not added:
            insert = len(self.text)
        elif last is None:
            insert = self.text.index(b"{") + 1
        else:
            insert, added = last, b"," + added
        return b"".join([*parts, self.text[at:insert], added, self.text[insert:]])

    def replaced(self, edits: Mapping[str, bytes]) -> JsonObject:
        """Return the object with these values in the place of those that it has."""
        values = {name: Raw(edits[name]) if name in edits else raw for name, raw in self.values.items()}
        return JsonObject(self.splice(edits), values)


def first_byte(raw: Raw) -> bytes:
    """Return the byte that tells the kind of a value, without a copy of all of it."""
    return bytes(memoryview(raw)[:1])


def read_object(text: bytes, ours: frozenset[str], what: str = "the body") -> JsonObject:
    """Read a JSON object as every server would, or not at all. Raises RequestError naming the place.

    `ours` are the fields that metering rests on. Go's JSON takes `OPTIONS` for `options`, and parsers differ
    about which of two values of one field counts: a cap could be smuggled past, so both are refused.
    """
    refuse_shape(text, what)
    try:
        values = _decode_fields(text)
    except msgspec.ValidationError as error:
        raise RequestError(f"{what} is not a JSON object: {error}") from error
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise RequestError(f"{what} is not valid JSON: {_place(text, error)}") from error
    refuse_entries(len(values), what, "fields")
    if len(text) > MAX_KEY_CHARACTERS and max(map(len, values), default=0) > MAX_KEY_CHARACTERS:
        raise RequestError(f"{what} has a field whose name is longer than {MAX_KEY_CHARACTERS:,} characters")
    if not ours.issuperset(values):
        _refuse_lookalikes(values, ours)
    if not has_each_once(text, values):
        raise RequestError(f"{what} has a field twice, and servers differ about which of the two counts")
    return JsonObject(text, values)


def read_entries(raw: Raw | bytes, name: str, kind: type[list[T]]) -> list[T]:
    """Read a list of objects. Raises RequestError naming the field, or the key that some server takes for another.

    The objects' type forbids unknown keys, and knows the usual ones beside those that metering needs: only objects with
    another key are looked at key by key.
    """
    try:
        read = _read(raw, kind)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        known: tuple[str, ...] = get_args(kind)[0].__struct_fields__
    else:
        refuse_entries(len(read), name)
        return read
    refuse_entries(len(decode(raw, name, list[Raw])), name)
    entries = decode(raw, name, list[dict[str, Raw]])
    for entry in entries:
        _refuse_lookalikes(entry, known, f"{name}: ")
    kept = [{key: entry[key] for key in known if key in entry} for entry in entries]
    return decode(msgspec.json.encode(kept), name, kind)


def _refuse_lookalikes(names: Iterable[str], ours: Container[str], place: str = "") -> None:
    for name in names:
        if name not in ours and (folded := name.casefold()) in ours:
            raise RequestError(f"{place}{name}: some servers take it for {folded!r}; write {folded!r}")


def _new_decoder(kind: Any) -> Callable[[Raw | bytes], Any]:
    return msgspec.json.Decoder(kind).decode


# What reads a kind, made once: to make it takes longer than to read what is small.
_decoder: Callable[[Any], Callable[[Raw | bytes], Any]] = cache(_new_decoder)


def _read(raw: Raw | bytes, kind: type[T]) -> T:
    value: T = _decoder(kind)(raw)
    return value


def decode(raw: Raw | bytes, name: str, kind: type[T]) -> T:
    """Read a value as `kind`. Raises RequestError naming the field."""
    if kind in _SCALARS and len(memoryview(raw)) > _MAX_SCALAR_BYTES:
        raise RequestError(f"{name}: longer than {_MAX_SCALAR_BYTES:,} bytes")
    try:
        value: T = _decoder(kind)(raw)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise RequestError(f"{name}: {error}") from error
    return value


def read_answer(body: bytes, kind: type[T]) -> T | None:
    """Return an upstream's JSON, as far as it has the expected form."""
    try:
        return _read(body, kind)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None


def is_json(text: bytes) -> bool:
    """Say whether these bytes are one JSON document."""
    try:
        _decode_any(text)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return False
    return True


def read_model(fields: JsonObject) -> str:
    """Return the model asked for; empty if none is named. Raises RequestError."""
    model = fields.read("model", str) or ""
    if len(model) > MAX_MODEL_LENGTH:
        raise RequestError(f"model: longer than {MAX_MODEL_LENGTH} characters")
    return model


def read_choices(fields: JsonObject, *names: str) -> int:
    """Return how many answers are asked for. Raises RequestError."""
    choices, values = 1, fields.values
    if values.keys().isdisjoint(names):
        return choices
    for name in [name for name in names if name in values]:
        wish = fields.read(name, int) or 1
        if not 1 <= wish <= MAX_CHOICES:
            raise RequestError(f"{name}: {wish} is not between 1 and {MAX_CHOICES}")
        choices = max(choices, wish)
    return choices


def prompt_bound(fields: JsonObject, template_tokens: int) -> int:
    """Return the most tokens a prompt of text can have.

    A byte-level BPE never makes more tokens than bytes, and all of the prompt is in the body, escaped or not. The
    tokens of a chat template around each message (2 to 8) are fewer than the bytes of the JSON around it (26 or more);
    `template_tokens` covers its preamble, and once more the one for tools.
    """
    return len(fields.text) + template_tokens * (2 if "tools" in fields.values and fields.has("tools") else 1)


def prompt_digest(fields: JsonObject, *names: str) -> bytes:
    """Identify a prompt whatever its seed, sampling and user fields are."""
    values, said = fields.values, _begin_digest()
    for name in names:
        if name in values:
            said.update(name.encode() + b"\0")
            said.update(values[name])
    return said.digest()


def has_each_once(text: bytes, values: Mapping[str, Raw]) -> bool:
    """Tell if an object has no other fields than these, that is, none of them twice.

    An object that is equal when written out again as most clients write it has none: looking for the place of each
    value takes five times as long.
    """
    return _is_written_as_usual(text, values) or _spans(text, values) is not None


def _is_written_as_usual(text: bytes, values: Mapping[str, Raw]) -> bool:
    """Say whether a small object is written with a space after each colon and comma, or none after any."""
    if len(text) > _MAX_REWRITTEN_BYTES or not values:
        return False
    first = next(iter(values)).encode("utf-8", "surrogatepass")
    spaced = text.startswith(b": ", len(first) + 3)
    colon, comma = (b'": ', b', "') if spaced else (b'":', b',"')
    fields = comma.join([b"%b%b%b" % (name.encode(), colon, raw) for name, raw in values.items()])
    return text == b'{"%b}' % fields


def _spans(text: bytes, values: Mapping[str, Raw]) -> dict[str, Span] | None:
    """Return the place of each value; None if there are more fields than values, that is, one of them twice.

    The values are in the order of the fields. Where one is there twice, something other than the end follows them.
    """
    spans: dict[str, Span] = {}
    at = 0
    for name, raw in values.items():
        key = _KEY.match(text, at)
        value = memoryview(raw)
        if key is None or not _lies_at(text, start := key.end(), value):
            return None
        at = start + len(value)
        spans[name] = (start, at)
    return spans if not spans or _END.match(text, at) else None


def _lies_at(text: bytes, start: int, value: memoryview) -> bool:
    if len(value) <= _COMPARED_BYTES:
        return text.startswith(bytes(value), start)
    return all(
        text.startswith(bytes(value[done : done + _COMPARED_BYTES]), start + done)
        for done in range(0, len(value), _COMPARED_BYTES)
    )


def _place(body: bytes, error: Exception) -> str:
    if len(body) <= _MAX_DIAGNOSED_BYTES:
        try:
            json.loads(body)
        except (ValueError, RecursionError) as diagnosis:
            return str(diagnosis)
    return str(error)
