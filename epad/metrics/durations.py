"""Measure durations in a histogram that costs a turn next to nothing.

The library's own histogram takes a lock twice and looks through its buckets one by one: 3 us, twice in every turn.
This one is for one thread, which is the event loop's.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Sequence

from prometheus_client import CollectorRegistry
from prometheus_client.core import HistogramMetricFamily
from prometheus_client.registry import Collector


class Durations(Collector):
    """Seconds, counted in `buckets` by the values of `labels`, which are few. Without labels it begins at 0."""

    def __init__(
        self,
        name: str,
        documentation: str,
        buckets: Sequence[float],
        registry: CollectorRegistry,
        labels: Sequence[str] = (),
    ) -> None:
        self._name = name
        self._documentation = documentation
        self._labels = labels
        self._bounds = tuple(buckets)
        self._counts: dict[tuple[str, ...], list[int]] = {}
        self._sums: dict[tuple[str, ...], float] = {}
        if not labels:
            self._begin(())
        registry.register(self)

    def add(self, values: tuple[str, ...], seconds: float) -> None:
        """Count one more of these label values."""
        if values not in self._counts:
            self._begin(values)
        self._counts[values][bisect_left(self._bounds, seconds)] += 1
        self._sums[values] += seconds

    def _begin(self, values: tuple[str, ...]) -> None:
        self._counts[values] = [0] * (len(self._bounds) + 1)
        self._sums[values] = 0.0

    def describe(self) -> Iterable[HistogramMetricFamily]:
        """Describe it without its series, for the registry, which has no name twice."""
        yield HistogramMetricFamily(self._name, self._documentation, labels=self._labels)

    def collect(self) -> Iterable[HistogramMetricFamily]:
        """Return the series: each bucket counts all that took no longer than its bound."""
        family = HistogramMetricFamily(self._name, self._documentation, labels=self._labels)
        bounds = [*map(str, map(float, self._bounds)), "+Inf"]
        for values, counts in self._counts.items():
            until = [(bound, sum(counts[: number + 1])) for number, bound in enumerate(bounds)]
            family.add_metric(values, until, self._sums[values])
        yield family
