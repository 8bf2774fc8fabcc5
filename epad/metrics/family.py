"""Declare a family of Prometheus series: a row in the `metrics.py` of the room that counts it.

Names follow the Prometheus conventions: one prefix, base units, `_total` for counters, states as one 0/1 series per
state. Label values are subsystem, probe, model and GPU names from the configuration, and closed enums: nothing that a
client can make up, so the number of series is bounded by the configuration.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from prometheus_client import CollectorRegistry, Counter, Gauge

from epad.metrics.durations import Durations

C = TypeVar("C", Gauge, Counter, Durations)

SUBSYSTEM = "subsystem"
"""The label of the subsystems of the configuration; it stands first."""

Values = tuple[str, ...]


@dataclass(frozen=True, slots=True, eq=False)
class Family(Generic[C]):
    """Describes a family; its series are made in each registry anew, so two daemons in a process share none.

    `begins` are the label values that are there at 0 from the start, for every subsystem if that is the first label:
    a counter that is born at 1 has not increased, and Prometheus would never see the first of its events. The series
    of a subsystem that is configured no more go if it `leaves`.
    """

    name: str
    words: str
    labels: tuple[str, ...]
    kind: str
    make: Callable[[CollectorRegistry], C]
    begins: tuple[Values, ...] = ()
    leaves: bool = False

    @property
    def is_by_subsystem(self) -> bool:
        """Tell if each subsystem has series of it."""
        return self.labels[:1] == (SUBSYSTEM,)


def gauge(name: str, words: str, *labels: str, leaves: bool = False, begins_at: float = 0) -> Family[Gauge]:
    """Declare a number that goes up and down; without labels it begins at a value."""

    def make(registry: CollectorRegistry) -> Gauge:
        made = Gauge(name, words, labels, registry=registry)
        if begins_at:
            made.set(begins_at)
        return made

    return Family(name, words, labels, "gauge", make, leaves=leaves)


def counter(name: str, words: str, *labels: str, begins: Iterable[Values] = ()) -> Family[Counter]:
    """Declare a number that only rises."""

    def make(registry: CollectorRegistry) -> Counter:
        return Counter(name, words, labels, registry=registry)

    return Family(name, words, labels, "counter", make, tuple(begins))


def durations(name: str, words: str, *labels: str, buckets: Sequence[float]) -> Family[Durations]:
    """Declare a histogram of seconds."""

    def make(registry: CollectorRegistry) -> Durations:
        return Durations(name, words, buckets, registry, labels)

    return Family(name, words, labels, "histogram", make)


def families_of(declared: Iterable[object]) -> list[Family[Gauge] | Family[Counter] | Family[Durations]]:
    """Return the families among these, such as the values of a module."""
    return [one for one in declared if isinstance(one, Family)]
