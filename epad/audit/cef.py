r"""Write rows of the audit as CEF, the line that ArcSight and most collectors of security events read.

    CEF:0|epad|epad|0.1.0|egress.refused|egress refused|6|rt=1763830000000 externalId=71 suser=chat ...

In the seven fields of the head `\` and `|` are escaped, and a line break is a space; in values `\`, `=` and line breaks
are escaped. The first four custom strings are the subsystem, the session, the turn and the evidence.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Final

from epad.audit.row import Row

_TROUBLE: Final = frozenset(
    {"refused", "failed", "denied", "unanswered", "killed", "timed_out", "cut", "broken off"}
)
_LOSS: Final = frozenset({"lost", "unclean", "unknown"})
_BREAKS: Final = str.maketrans(dict.fromkeys("\n\r\v\f\x1c\x1d\x1e\x85\u2028\u2029", " "))


def cef_line(row: Row, version: str) -> str:
    """Return a row as one line of CEF, without its end."""
    head = ("CEF:0", "epad", "epad", version, row.event, f"{row.kind} {row.outcome}", str(severity(row)))
    return "|".join(
        (*map(_in_head, head), " ".join(f"{key}={_value(text)}" for key, text in _extension(row)))
    )


def severity(row: Row) -> int:
    """Return how grave a row is, from 0 to 10, by its outcome."""
    if row.outcome in _LOSS:
        return 8
    return 6 if row.outcome in _TROUBLE else 3


def _extension(row: Row) -> Iterator[tuple[str, str]]:
    details = row.details
    yield "rt", str(row.happened_ns // 1_000_000)
    yield "externalId", str(row.id)
    yield "cat", row.kind
    yield "act", row.event
    yield "outcome", row.outcome
    if row.who:
        yield "suser", row.who
    if row.what:
        yield "msg", row.what
    for number, (label, text) in enumerate(
        (
            ("subsystem", row.subsystem),
            ("session", row.session),
            ("turn", str(details.get("turn", ""))),
            ("evidence", json.dumps(dict(details)) if details else ""),
        ),
        1,
    ):
        if text:
            yield f"cs{number}Label", label
            yield f"cs{number}", text
    for key, name in (("dhost", "host"), ("dpt", "port"), ("out", "sent_bytes"), ("in", "received_bytes")):
        if name in details:
            yield key, str(details[name])


def _in_head(text: str) -> str:
    return text.translate(_BREAKS).replace("\\", "\\\\").replace("|", "\\|")


def _value(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace("=", "\\=").replace("\r", "\\r").replace("\n", "\\n")
    return escaped.translate(_BREAKS)
