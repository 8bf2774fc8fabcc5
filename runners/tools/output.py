"""Keep results within the bytes that a caller has room for."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, TypeVar

import msgspec

from runners.tools.signature import CONTEXT, ToolError

ENVELOPE_BYTES: Final = 2048
"""Room for the fields beside the text or the list that is cut."""
GAP: Final = "\n[... cut here; `whole` names all of it ...]\n"
LINE_CHARACTERS: Final = 500

ItemT = TypeVar("ItemT")


def room() -> int:
    """Return the bytes of JSON that a result's main part may take."""
    return max(256, CONTEXT.get().output_bytes - ENVELOPE_BYTES)


def json_bytes(value: object) -> int:
    """Return the length of a value as JSON."""
    return len(msgspec.json.encode(value))


def cut_text(text: str, limit: int | None = None) -> tuple[str, bool]:
    """Return the head of a text that fits into so many bytes of JSON, and if it was cut."""
    limit = room() if limit is None else limit
    text, whole = text[:limit], text
    # Control characters take six bytes each: halving the overhang converges in a few steps.
    while (size := json_bytes(text)) > limit:
        text = text[: max(0, min(len(text) - 1, len(text) * limit // size))]
    return text, len(text) < len(whole)


def cut_items(items: Iterable[ItemT], count: int, limit: int | None = None) -> tuple[list[ItemT], bool]:
    """Return the first `count` items, as far as they fit into so many bytes of JSON, and if any was left out."""
    left, kept = room() if limit is None else limit, list[ItemT]()
    for item in items:
        left -= json_bytes(item) + 1
        if len(kept) >= count or left < 0:
            return kept, True
        kept.append(item)
    return kept, False


def cut_line(line: str) -> str:
    """Return a line of a file as it is shown: cut where it is long."""
    return line if len(line) <= LINE_CHARACTERS else line[:LINE_CHARACTERS] + "…"


def cut_and_keep(text: str, limit: int | None = None) -> tuple[str, bool]:
    """Return a text that fits, and if it was cut. Where the whole can be kept, its head and its tail are shown."""
    limit = room() if limit is None else limit
    if (size := json_bytes(text)) <= limit:
        return text, False
    context = CONTEXT.get()
    if size > context.spill_bytes:
        return cut_text(text, limit)
    context.kept.whole = text
    return head_and_tail(text, limit), True


def head_and_tail(text: str, limit: int) -> str:
    """Return three quarters of what fits from the head of a text, and a quarter from its tail."""
    left = max(0, limit - json_bytes(GAP))
    head, tail = cut_text(text, left * 3 // 4)[0], cut_text(text[::-1], left // 4)[0][::-1]
    return f"{head}{GAP}{tail}"


def preview(encoded: bytes, limit: int) -> dict[str, object]:
    """Return the head and the tail of a result, as JSON, in the place of the whole."""
    shown = head_and_tail(encoded.decode(), limit - ENVELOPE_BYTES)
    return {"truncated": True, "bytes": len(encoded), "json": shown}


def whole(value: ItemT, hint: str) -> ItemT:
    """Return a value that makes sense only whole. Raises ToolError if it is too large to be given or kept."""
    if (size := json_bytes(value)) > max(room(), CONTEXT.get().spill_bytes - ENVELOPE_BYTES):
        raise ToolError(f"the answer has {size} bytes, and there is room for {room()}", hint)
    return value
