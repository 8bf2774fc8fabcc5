"""Compare what a server lists with what is pinned: added, removed and changed tools, place by place. Pure."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import msgspec

from epad.foreign.definitions import Pinned
from epad.tools.shown import cut, seen
from runners.tools.visible import visible

_MOST_LINES: Final = 200
_MOST_VALUE: Final = 2_000
_NOTHING: Final = object()


@dataclass(frozen=True, slots=True)
class Drift:
    """Names the tools that differ from the pins."""

    added: tuple[Pinned, ...] = ()
    removed: tuple[Pinned, ...] = ()
    changed: tuple[tuple[Pinned, Pinned], ...] = ()

    def __bool__(self) -> bool:
        return bool(self.added or self.removed or self.changed)

    @property
    def sentence(self) -> str:
        """Return what differs, in one line."""
        parts = {
            "added": [one.name for one in self.added],
            "removed": [one.name for one in self.removed],
            "changed": [after.name for _, after in self.changed],
        }
        return "; ".join(
            f"{what}: {cut(visible(', '.join(names)), 200)}" for what, names in parts.items() if names
        )

    def lines(self) -> list[str]:
        """Return what differs, a line for each place, hidden characters written out."""
        return list(self._lines())[:_MOST_LINES]

    def _lines(self) -> Iterator[str]:
        for one in self.added:
            yield f"+ {visible(one.name)}: {_shown(one.definition)}"
        for one in self.removed:
            yield f"- {visible(one.name)}: {_shown(one.definition)}"
        for before, after in self.changed:
            yield f"~ {visible(after.name)}"
            for place, old, new in _differences(before.definition, after.definition, ""):
                yield f"    {visible(place)}"
                yield f"    - {_shown(old)}"
                yield f"    + {_shown(new)}"


def drift_of(pins: Sequence[Pinned], seen: Sequence[Pinned]) -> Drift:
    """Return how a list differs from the pins; the order means nothing."""
    before, after = {one.name: one for one in pins}, {one.name: one for one in seen}
    return Drift(
        added=tuple(after[name] for name in sorted(after.keys() - before.keys())),
        removed=tuple(before[name] for name in sorted(before.keys() - after.keys())),
        changed=tuple(
            (before[name], after[name])
            for name in sorted(before.keys() & after.keys())
            if before[name].sha256 != after[name].sha256
        ),
    )


def _differences(before: Any, after: Any, place: str) -> Iterator[tuple[str, Any, Any]]:
    if isinstance(before, Mapping) and isinstance(after, Mapping):
        for key in sorted(before.keys() | after.keys()):
            old, new = before.get(key, _NOTHING), after.get(key, _NOTHING)
            yield from _differences(old, new, f"{place}.{key}" if place else str(key))
    elif before is _NOTHING or after is _NOTHING or before != after:
        yield place, before, after


def _shown(value: object) -> str:
    """Return a value in one line; letters that look like others are told by their numbers."""
    if value is _NOTHING:
        return "(nothing)"
    text = msgspec.json.encode(value).decode()
    plain = "" if text.isascii() else f"  in ASCII: {json.dumps(value)}"
    return cut(seen(text), _MOST_VALUE) + cut(plain, _MOST_VALUE)
