"""Tell the form of an answer under any Content-Type: one whole body, events, or lines that follow one another."""

from __future__ import annotations

from enum import Enum, auto

from epad.gateway.dialects.body import is_json

# A document of one line that is longer is taken for a whole answer; until then its first line is waited for.
MAX_FIRST_LINE = 1 << 20
_SPACE = b"\xef\xbb\xbf \t\r\n"
_EVENT_FIELDS = (b"data:", b"event:", b"id:", b"retry:", b":")
# What a line has that is a piece of an answer, in OpenAI's words.
_PIECES = (b'"delta"', b'.chunk"')


class Form(Enum):
    """Names the form of an answer."""

    WHOLE = auto()
    EVENTS = auto()
    LINES = auto()


WHOLE = Form.WHOLE
"""The form of most; a member of an enum is slow to find in Python 3.11, see `epad/gateway/health.py`."""


def form_of(start: bytes, *, asked: bool, lines: bool, ended: bool) -> Form | None:
    """Return the form of an answer with this beginning; None if more of it is needed.

    `asked`: a stream was asked for; `lines`: the route's streams are JSON lines, so that the first is passed at once.
    """
    text = start.lstrip(_SPACE)
    if text.startswith(b"{"):
        return _form_of_json(text, lines=lines, ended=ended) if asked else WHOLE
    if len(start) > MAX_FIRST_LINE and not text:
        return Form.WHOLE  # nothing but white space: no stream begins like that
    if text.startswith(_EVENT_FIELDS):
        return Form.EVENTS
    if not ended and any(field.startswith(text) for field in _EVENT_FIELDS):
        return None
    return Form.WHOLE


def _form_of_json(text: bytes, *, lines: bool, ended: bool) -> Form | None:
    """Say whether it is one document, or one of many in a line each."""
    end = text.find(b"\n")
    if end < 0:
        return Form.WHOLE if ended or len(text) > MAX_FIRST_LINE else None
    line, rest = text[:end], text[end:].strip()
    if not is_json(line):
        return Form.WHOLE
    if lines or rest.startswith(b"{") or any(piece in line for piece in _PIECES):
        return Form.LINES
    return Form.WHOLE if ended or rest else None
