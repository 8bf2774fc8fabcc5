"""Keep and print the series of every family; which there are is declared by the rooms that count them."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from prometheus_client import CollectorRegistry, Metric, generate_latest
from prometheus_client.registry import Collector

from epad.metrics.family import SUBSYSTEM, C, Family

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


class _Gathered(Collector):
    """Collects the sums that others keep before anything else is read; a registry reads in order."""

    def __init__(self) -> None:
        self.add_up: list[Callable[[], None]] = []

    def collect(self) -> Iterable[Metric]:
        for add_up in self.add_up:
            add_up()
        return ()


class Metrics:
    """The series, on a registry of their own."""

    def __init__(self, families: Iterable[Family[Any]] = (), subsystems: Iterable[str] = ()) -> None:
        """Make these families at once, so that a scrape shows them before anything is counted."""
        self.registry = CollectorRegistry()
        self._gathered = _Gathered()
        self.registry.register(self._gathered)
        self._made: dict[Family[Any], Any] = {}
        self._subsystems = tuple(subsystems)
        for family in families:
            self.of(family)

    def of(self, family: Family[C]) -> C:
        """Return the series of a family. Raises ValueError if another one has its name."""
        if family not in self._made:
            self._made[family] = family.make(self.registry)
            self._begin(family)
        made: C = self._made[family]
        return made

    def gathers(self, *add_up: Callable[[], None]) -> None:
        """Call these functions whenever the series are read; they count every turn by themselves meanwhile."""
        self._gathered.add_up += add_up

    def configure(self, subsystems: Iterable[str]) -> None:
        """Have the counters of these subsystems there; their counts stay."""
        self._subsystems = tuple(subsystems)
        for family in self._made:
            self._begin(family)

    def _begin(self, family: Family[Any]) -> None:
        above = [(name,) for name in self._subsystems] if family.is_by_subsystem else [()]
        for first in above:
            for values in family.begins:
                self._made[family].labels(*first, *values)

    def forget(self, subsystem: str) -> None:
        """Show no more activity of a subsystem that is no longer configured; its counters stay."""
        for family, made in self._made.items():
            if family.leaves:
                made.remove_by_labels({SUBSYSTEM: subsystem})

    def render(self) -> bytes:
        """Return the Prometheus text of everything."""
        return generate_latest(self.registry)
