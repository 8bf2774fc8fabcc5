"""Read the marks that a client puts into a request's headers."""

from __future__ import annotations

import re
from typing import Protocol

from msgspec import Struct

from epad.gateway.errors import RequestError
from epad.gateway.http.message import Fields

IDEMPOTENCY_HEADER = "Idempotency-Key"
CONVERSATION_HEADER = "X-Epad-Conversation"
ATTEMPT_HEADER = "X-Epad-Attempt"
_RETRY_HEADER = "x-stainless-retry-count"
_MARKS = frozenset(
    name.lower().encode() for name in (IDEMPOTENCY_HEADER, CONVERSATION_HEADER, ATTEMPT_HEADER, _RETRY_HEADER)
)
# Both are kept for a while, and shown to people.
_MAX_CHARACTERS = 255
_ATTEMPT = re.compile(r"[!-~]{1,64}")


class Headers(Protocol):
    """Header fields, looked up whatever their case."""

    def get(self, name: str, /) -> str | None: ...

    def __contains__(self, name: str, /) -> bool: ...


def idempotency_key(headers: Headers) -> str | None:
    """Return the key under which the answer is kept. Raises RequestError."""
    return _name(headers, IDEMPOTENCY_HEADER)


def conversation(headers: Headers) -> str | None:
    """Return the conversation that the client says this is. Raises RequestError."""
    return _name(headers, CONVERSATION_HEADER)


def attempt(headers: Headers) -> str:
    """Return the runner's own mark of which try this is; empty if it gives none. Raises RequestError."""
    mark = headers.get(ATTEMPT_HEADER)
    if mark and not _ATTEMPT.fullmatch(mark):
        raise RequestError(f"{ATTEMPT_HEADER}: at most 64 ASCII characters without a space")
    return mark or ""


def retry_count(headers: Headers) -> int:
    """Return the client's own count, as OpenAI's and Anthropic's libraries send it."""
    count = headers.get(_RETRY_HEADER) or ""
    return int(count) if count.isascii() and count.isdigit() and len(count) < 4 else 0


class Marks(Struct, frozen=True, gc=False):
    """Holds all marks of one request."""

    idempotency_key: str | None = None
    conversation: str | None = None
    attempt: str = ""
    retry: int = 0


_UNMARKED = Marks()


def marks(fields: Fields) -> Marks:
    """Return a request's marks; most have none. Raises RequestError."""
    if not fields.has_any(_MARKS):
        return _UNMARKED
    return Marks(idempotency_key(fields), conversation(fields), attempt(fields), retry_count(fields))


def _name(headers: Headers, header: str) -> str | None:
    name = headers.get(header)
    if name is not None and (len(name) > _MAX_CHARACTERS or not (name.isascii() and name.isprintable())):
        raise RequestError(f"{header}: at most {_MAX_CHARACTERS} printable ASCII characters")
    return name or None
