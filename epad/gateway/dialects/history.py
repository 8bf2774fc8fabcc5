"""Digest the conversation in a request: digests tell equal parts, and nothing of their text."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from itertools import compress, count

from msgspec import Raw, Struct

from epad.gateway.dialects import body as json_body
from epad.gateway.dialects.body import JsonObject
from epad.gateway.dialects.shape import refuse_entries
from probes.turns import MAX_HISTORY_DIGESTS, Last

# Half of a SHA-256: probes keep many of them.
_DIGEST_BYTES = 16
_begin_digest = hashlib.sha256().copy  # to make one anew takes twice as long
# Within JSON no zero byte stands for itself, so no two lists of messages make the same bytes.
_END = b"\0"
_USER_ROLE = Raw(b'"user"')
_SAID = Last.SAID
# Anthropic's clients move this mark along with the conversation; what is said stays the same.
_CACHE_MARK = re.compile(
    rb',\s*"cache_control"\s*:\s*(?:null|\{[^{}]*\})|"cache_control"\s*:\s*(?:null|\{[^{}]*\})\s*,\s*'
)

# The number of the call that a tool's result answers is a new one each time, also where nothing else is.
_CALL_ID = re.compile(rb'"(?:tool_call_id|tool_use_id|call_id)"\s*:\s*"[^"\\]{0,128}"\s*,?')
# A word with a digit in it, and what hangs on to it: a count, a time, an amount, an id.
_NUMBERED = re.compile(
    rb"[0-9a-f]{8}-[0-9a-f-]{27}|[A-Za-z]{0,16}+[0-9][0-9A-Za-z]*(?:[-:.,+T][0-9][0-9A-Za-z]*)*"
)
# A word that is numbered has one of these: an id need not have a digit.
_NOT_TELLING = bytes(set(range(256)) - set(b"0123456789- "))
_END_BYTES = 1_024

_PADDING = b' \t\r\n"}].,!?-_*#'
_OF_TOOLS = (b'"tool"', b'"tool_result"', b'"function_call_output"', b'"function"')
_COMPLAINTS = (
    b"error",
    b"denied",
    b"failed",
    b"not found",
    b"no such",
    b"traceback",
    b"exception",
    b"unable to",
)

_MARK = b'"cache_control"'
# A regular expression holds the interpreter: over 32 MiB for a third of a second.
_SEARCHED_BYTES = 64 << 10
# The white space before a mark that belongs to it, and all of a mark.
_SPACE_BYTES = 256
_MARK_BYTES = 1_024


class _Speaker(Struct):
    role: str = ""


class History(Struct, frozen=True):
    """Holds the messages of a request; the fields mean those of `TurnAdmitted`.

    `sizes` are the bytes of the messages up to the one that each digest stands for, `shape` is of the last message.
    """

    conversation: str = ""
    last_message: bytes = b""
    messages: int = 0
    digests: tuple[bytes, ...] = ()
    sizes: tuple[int, ...] = ()
    shape: bytes = b""
    last: Last = Last.UNKNOWN


NO_HISTORY = History()


def read_history(
    fields: JsonObject,
    name: str = "messages",
    before: tuple[str, ...] = (),
    roles: Sequence[Raw] | None = None,
) -> History:
    """Read a list of messages, or a text that is the only one; `before` are the fields that precede it.

    `roles` are those of the messages, where they have been read already. Raises RequestError.
    """
    if fields.begins(name) == b'"':
        return _history([fields.values[name]], fields, before, (_USER_ROLE,))
    return _history(fields.read(name, list[Raw]) or [], fields, before, roles)


def _history(
    messages: list[Raw], fields: JsonObject, before: tuple[str, ...], roles: Sequence[Raw] | None
) -> History:
    if not messages:
        return NO_HISTORY
    refuse_entries(len(messages), "messages")
    running = _begin_digest()
    marked = fields.text.find(_MARK) >= 0
    for name in before:
        running.update(_unmarked(fields.raw(name)) + _END)
    conversation, message = "", b""
    digests: list[bytes] = []
    sizes: list[int] = []
    size, forgotten = 0, len(messages) - MAX_HISTORY_DIGESTS
    for number, raw in enumerate(messages):
        message = bytes(raw)
        if marked:
            message = _unmarked(message)
        size += len(message)
        running.update(message + _END)
        if number < forgotten and conversation:
            continue
        digest = running.digest()[:_DIGEST_BYTES]
        if not conversation and _is_users(message, None if roles is None else roles[number]):
            conversation = digest.hex()
        if number >= forgotten:
            digests.append(digest)
            sizes.append(size)
    last = (
        _CALL_ID.sub(b"", message)
        if len(message) <= _SEARCHED_BYTES and message.find(b"_id") >= 0
        else message
    )
    ends = last if len(last) <= 2 * _END_BYTES else last[:_END_BYTES] + last[-_END_BYTES:]
    shape = _digest(_unnumbered(ends))
    return History(
        conversation, _digest(last), len(messages), tuple(digests), tuple(sizes), shape, _kind_of(ends)
    )


def _digest(text: bytes) -> bytes:
    return hashlib.sha256(text).digest()[:_DIGEST_BYTES]


def _kind_of(ends: bytes) -> Last:
    """Classify a message by its two ends."""
    # `in` raises a TypeError first where both are bytes, and forgets it again: half a microsecond each.
    lowered = ends.lower()
    for complaint in _COMPLAINTS:
        if lowered.find(complaint) >= 0:
            return Last.ERROR
    for mark in _OF_TOOLS:
        if ends.find(mark) >= 0:
            return Last.RESULT
    return _SAID


def _unnumbered(ends: bytes) -> bytes:
    """Return the two ends of a message without its numbers, times and ids: the constant part of a prompt that counts.

    Nor with the stops at its end: a prompt that is padded with them stays the same.
    """
    ends = ends.rstrip(_PADDING)
    # What is numbered has no space in it, and of most words nothing is left here: the others alone are looked through.
    telling = ends.translate(None, _NOT_TELLING)
    if not telling.strip(b" "):
        return ends
    words = ends.split(b" ")
    for place in compress(count(), telling.split(b" ")):
        words[place] = _NUMBERED.sub(b"0", words[place])
    return b" ".join(words)


def _is_users(message: bytes, role: Raw | None) -> bool:
    if role is not None:
        if role == _USER_ROLE:
            return True
        if b"\\" not in bytes(role):
            return False
    speaker = json_body.read_answer(message, _Speaker)
    return speaker is not None and speaker.role == "user"


def _unmarked(message: bytes) -> bytes:
    """Return the message without its marks.

    Of a large one only the neighbourhood of each mark is searched.
    """
    if _MARK not in message:
        return message
    if len(message) <= _SEARCHED_BYTES:
        return _CACHE_MARK.sub(b"", message)
    parts, at = [], 0
    found = message.find(_MARK)
    while found >= 0:
        start = message.rfind(b",", max(at, found - _SPACE_BYTES), found)
        if start < 0 or message[start + 1 : found].strip(b" \t\n\r"):
            start = found
        mark = _CACHE_MARK.match(message, start, found + _MARK_BYTES)
        if mark is not None:
            parts.append(message[at:start])
            at = mark.end()
        found = message.find(_MARK, max(at, found + 1))
    return b"".join([*parts, message[at:]])
