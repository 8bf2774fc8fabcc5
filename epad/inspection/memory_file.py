"""The JSON-lines memory file of MCP memory servers: one entity or relation a line, rewritten whole on each save."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec

from epad.inspection.bit_flips import is_flip, one_bit
from epad.inspection.changes import Changes
from epad.inspection.rules import Tally

_OBSERVATIONS = "observations"
MAX_NAMED = 3

JsonObject = dict[str, Any]
"""Another program's: each key may be missing or be of any type."""


@dataclass(slots=True)
class MemoryFile:
    """Holds the contents of a file. `unreadable` are the numbers of lines that are no JSON object."""

    entities: list[JsonObject] = field(default_factory=list)
    relations: list[JsonObject] = field(default_factory=list)
    others: int = 0
    unreadable: list[int] = field(default_factory=list)


def read_memory(path: Path) -> MemoryFile:
    """Read a file; a line that cannot be read hides none of the others. Raises OSError."""
    memory = MemoryFile()
    for number, line in enumerate(path.read_bytes().split(b"\n"), 1):
        if not line.strip():
            continue
        try:
            value = msgspec.json.decode(line, type=JsonObject)
        except (msgspec.DecodeError, UnicodeDecodeError):
            memory.unreadable.append(number)
            continue
        match value.get("type"):
            case "entity":
                memory.entities.append(value)
            case "relation":
                memory.relations.append(value)
            case _:
                memory.others += 1
    return memory


def tally_memory(memory: MemoryFile) -> Tally:
    """Count everything."""
    names = [str(entity.get("name")) for entity in memory.entities]
    known = set(names)
    ends = [str(relation.get(end)) for relation in memory.relations for end in ("from", "to")]
    texts = sum(len(_texts(entity)) for entity in memory.entities)
    return Tally(
        rows={"entities": len(names), "relations": len(memory.relations), _OBSERVATIONS: texts},
        broken={
            "lines are JSON objects": len(memory.unreadable),
            "lines are entities or relations": memory.others,
            "relations name entities": sum(end not in known for end in ends),
            "entities differ in name": sum(count > 1 for count in Counter(names).values()),
        },
    )


def compare_memory(good: MemoryFile, now: MemoryFile, edited: set[str]) -> Changes:
    """Compare the observations of each entity, in order, and the ends of relations."""
    changes = Changes(edited=set(edited))
    before = {str(entity.get("name")): entity for entity in good.entities}
    for entity in now.entities:
        name = str(entity.get("name"))
        if (old := before.get(name)) is not None:
            for was, is_now in _pairs(old, entity):
                _judge(name, was, is_now, changes)
    return changes


def _pairs(old: JsonObject, new: JsonObject) -> Iterator[tuple[str, str]]:
    was, is_now = _texts(old), _texts(new)
    if len(was) == len(is_now):  # otherwise they were added or removed, and their places have moved
        yield from zip(was, is_now, strict=True)
    yield str(old.get("entityType")), str(new.get("entityType"))


def _judge(name: str, was: str, is_now: str, changes: Changes) -> None:
    if was == is_now:
        return
    old, new = (text.encode(errors="surrogatepass") for text in (was, is_now))
    has_edits = _OBSERVATIONS in changes.edited
    if is_flip(old, new, is_text=True, has_edits=has_edits, is_vouched=False):
        changes.faults.append(
            ("flip", f"entity {name!r}: a text differs in one bit from the last sound copy")
        )
    elif one_bit(old, new) is None:
        changes.edited.add(_OBSERVATIONS)


def _texts(entity: JsonObject) -> list[str]:
    texts = entity.get(_OBSERVATIONS)
    return [str(text) for text in texts] if isinstance(texts, list) else []
