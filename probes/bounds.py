"""The bounds of a probe's thresholds: each is one row, which is checked, worded and told in one way."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from statemachine.rung import Rung, UnknownRungError

KeyPath = tuple[str, ...]


class BoundError(ValueError):
    """A threshold is beyond its bound.

    `key` is its name in the probe's table and `others` are the keys of that table it was compared with; `bound` states
    the requirement and its reason, such as "must be above 0: no refusal is no hammering".
    """

    def __init__(
        self, probe: str, key: KeyPath, value: float | str, bound: str, others: Sequence[KeyPath] = ()
    ) -> None:
        self.probe = probe
        self.key = key
        self.value = spoken(value)
        self.bound = bound
        self.others = tuple(others)
        super().__init__(f"{'.'.join(('probes', probe, *key))} ({self.value}) {bound}")


@dataclass(frozen=True, slots=True)
class Derived:
    """An edge that is made of other fields of the same thresholds, and its name in words."""

    words: str
    of: Callable[[Any], float]
    keys: tuple[str, ...]


Edge = float | str | Derived
"""A number, the name of another field of the same thresholds, or made of several of them."""

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
        """The fields that it is held against."""
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
        why = f": {self.why}" if self.why else ""
        if self.least is not None and self.most is not None:
            least, most = _named(self.least, settings), _named(self.most, settings)
            return f"must be from {least} to {most}{why}"
        edges = {"above": self.above, "at least": self.least, "below": self.below, "at most": self.most}
        parts = [
            "finite" if edge == math.inf else f"{word} {_named(edge, settings)}"
            for word, edge in edges.items()
            if edge is not None
        ]
        return f"must be {' and '.join(parts)}{why}"


def check(probe: str, settings: object, bounds: Sequence[Bound], under: KeyPath = ()) -> None:
    """Raise BoundError for the first bound that is not met; those of a number alone come first.

    `under` is where the fields stand in the probe's table, if not in the table itself.
    """
    for bound in sorted(bounds, key=lambda bound: bool(bound.others)):
        if not bound.holds(settings):
            value, others = getattr(settings, bound.key), [(*under, key) for key in bound.others]
            raise BoundError(probe, (*under, bound.key), value, bound.in_words(settings), others)


def check_rung(probe: str, key: KeyPath, label: str) -> None:
    """Raise BoundError for a label that no rung has."""
    try:
        Rung.labelled(label)
    except UnknownRungError as error:
        labels = ", ".join(rung.label for rung in Rung)
        raise BoundError(probe, key, label, f"must be a rung: {labels}") from error


def edge_of(edge: Edge, settings: object) -> float:
    """Return the number that an edge comes to."""
    if isinstance(edge, Derived):
        return edge.of(settings)
    number: float = getattr(settings, edge) if isinstance(edge, str) else edge
    return number


def spoken(value: float | str) -> str:
    """Return a value as it is written in a message."""
    return f"{value:.10g}" if isinstance(value, float) else str(value)


def _named(edge: Edge, settings: object) -> str:
    number = spoken(edge_of(edge, settings))
    if isinstance(edge, str):
        return f"{edge} ({number})"
    return f"{edge.words} ({number})" if isinstance(edge, Derived) else number
