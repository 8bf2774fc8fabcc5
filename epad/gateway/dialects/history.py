"""What a request carries of its conversation, as digests: they say what is the same, and nothing of what it is."""

from __future__ import annotations

import hashlib
import re
from collections import deque

from msgspec import Raw, Struct

from epad.gateway.dialects import body as json_body
from epad.gateway.dialects.body import JsonObject
from probes.turns import MAX_HISTORY_DIGESTS

# Half of a SHA-256: probes keep many of them.
_DIGEST_BYTES = 16
# Within JSON no zero byte stands for itself, so no two lists of messages make the same bytes.
_END = b"\0"
# Anthropic's clients move this mark along with the conversation; what is said stays the same.
_CACHE_MARK = re.compile(
    rb',\s*"cache_control"\s*:\s*(?:null|\{[^{}]*\})|"cache_control"\s*:\s*(?:null|\{[^{}]*\})\s*,\s*'
)


class _Speaker(Struct):
    role: str = ""


class History(Struct, frozen=True):
    """The messages of a request; the fields mean what those of `TurnAdmitted` do."""

    conversation: str = ""
    last_message: bytes = b""
    messages: int = 0
    digests: tuple[bytes, ...] = ()


NO_HISTORY = History()


def read_history(fields: JsonObject, name: str = "messages", before: tuple[str, ...] = ()) -> History:
    """Read a list of messages, or a text that is the only one; `before` are the fields that precede it.

    Raises RequestError.
    """
    raw = fields.raw(name)
    if raw.startswith(b'"'):
        return _history([Raw(raw)], fields, before, users=True)
    return _history(fields.read(name, list[Raw]) or [], fields, before)


def _history(
    messages: list[Raw], fields: JsonObject, before: tuple[str, ...], *, users: bool = False
) -> History:
    if not messages:
        return NO_HISTORY
    running = hashlib.sha256()
    for name in before:
        running.update(_unmarked(fields.raw(name)) + _END)
    conversation, message = "", b""
    digests: deque[bytes] = deque(maxlen=MAX_HISTORY_DIGESTS)
    remembered_from = len(messages) - MAX_HISTORY_DIGESTS
    for number, raw in enumerate(messages):
        message = _unmarked(bytes(raw))
        running.update(message)
        running.update(_END)
        if not conversation and (users or _is_users(message)):
            conversation = running.hexdigest()[: 2 * _DIGEST_BYTES]
        if number >= remembered_from:
            digests.append(running.digest()[:_DIGEST_BYTES])
    last = hashlib.sha256(message).digest()[:_DIGEST_BYTES]
    return History(conversation, last, len(messages), tuple(digests))


def _is_users(message: bytes) -> bool:
    speaker = json_body.read_answer(message, _Speaker)
    return speaker is not None and speaker.role == "user"


def _unmarked(message: bytes) -> bytes:
    return _CACHE_MARK.sub(b"", message) if b'"cache_control"' in message else message
