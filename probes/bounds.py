"""Bounds that hold a probe's setting against others of its table: each is one row, checked and worded in one way.

The bounds of a number by itself stand in its type, where msgspec holds them (`statemachine/value_types.py`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

KeyPath = tuple[str, ...]


class Fault(NamedTuple):
    """Describes a setting that is beyond its bound.

    `key` is its name in the probe's table and `others` are the keys of that table it was compared with; `text` states
    its value, the requirement and the reason, such as "is 2, and must be at least interval_seconds (5)".
    """

    key: KeyPath
    text: str
    others: tuple[KeyPath, ...] = ()


@dataclass(frozen=True, slots=True)
class Derived:
    """An edge that is made of other fields of the same table, and its name in words."""

    words: str
    of: Callable[[Any], float]
    keys: tuple[str, ...]


Edge = float | str | Derived
"""A number, the name of another field of the same table, or made of several of them."""

TWO_INTERVALS = Derived("twice interval_seconds", lambda t: 2 * t.interval_seconds, ("interval_seconds",))


@dataclass(frozen=True, slots=True)
class Bound:
    """States the allowed range of the field `key` and the reason. `above` and `below` exclude the edge itself."""

    key: str
    above: Edge | None = None
    least: Edge | None = None
    below: Edge | None = None
    most: Edge | None = None
    why: str = ""

    @property
    def others(self) -> tuple[str, ...]:
        """Return the fields that it is held against."""
        keys: list[str] = []
        for edge in (self.above, self.least, self.below, self.most):
            keys += [edge] if isinstance(edge, str) else edge.keys if isinstance(edge, Derived) else ()
        return tuple(keys)

    def holds(self, settings: object) -> bool:
        """Say whether the field is within; a NaN never is."""
        value: float = getattr(settings, self.key)
        return (
            (self.above is None or value > edge_of(self.above, settings))
            and (self.least is None or value >= edge_of(self.least, settings))
            and (self.below is None or value < edge_of(self.below, settings))
            and (self.most is None or value <= edge_of(self.most, settings))
        )

    def in_words(self, settings: object) -> str:
        """Describe the allowed range of the field, with the reason."""
        edges = {"above": self.above, "at least": self.least, "below": self.below, "at most": self.most}
        parts = [f"{word} {_named(edge, settings)}" for word, edge in edges.items() if edge is not None]
        return f"must be {' and '.join(parts)}{f': {self.why}' if self.why else ''}"


def faults(settings: object, bounds: Sequence[Bound], under: KeyPath = ()) -> Iterator[Fault]:
    """Yield the fault of each bound that is not met.

    `under` is where the fields stand in the probe's table, if not in the table itself.
    """
    for bound in bounds:
        if not bound.holds(settings):
            text = f"is {spoken(getattr(settings, bound.key))}, and {bound.in_words(settings)}"
            yield Fault((*under, bound.key), text, tuple((*under, key) for key in bound.others))


def edge_of(edge: Edge, settings: object) -> float:
    """Return the number that an edge comes to."""
    if isinstance(edge, Derived):
        return edge.of(settings)
    number: float = getattr(settings, edge) if isinstance(edge, str) else edge
    return number


def spoken(value: object) -> str:
    """Return a value as it is written in a message."""
    return f"{value:.10g}" if isinstance(value, float) else str(value)


def _named(edge: Edge, settings: object) -> str:
    number = spoken(edge_of(edge, settings))
    if isinstance(edge, str):
        return f"{edge} ({number})"
    return f"{edge.words} ({number})" if isinstance(edge, Derived) else number
