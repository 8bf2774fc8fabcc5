"""A histogram of durations counts as the library's own does."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Histogram, generate_latest

from epad.metrics.durations import Durations

BUCKETS = (0.05, 0.5, 1.0, 10.0)
SECONDS = (0.0, 0.05, 0.050001, 0.3, 0.5, 1.0, 9.99, 10.0, 10.5, 1e9)


def shown(registry: CollectorRegistry) -> list[str]:
    """What is read of a registry, without the times at which its series began."""
    return [line for line in generate_latest(registry).decode().splitlines() if "_created" not in line]


def test_what_is_shown_is_what_the_library_shows() -> None:
    """On each bound, between two, below the first and above the last; for each of the label values."""
    ours, theirs = CollectorRegistry(), CollectorRegistry()
    durations = Durations("it_seconds", "How long.", BUCKETS, ours, ("who",))
    histogram = Histogram("it_seconds", "How long.", ("who",), buckets=BUCKETS, registry=theirs)
    assert shown(ours) == shown(theirs)
    for number, seconds in enumerate(SECONDS):
        who = "ab"[number % 2]
        durations.add((who,), seconds)
        histogram.labels(who).observe(seconds)
        assert shown(ours) == shown(theirs)


def test_without_labels_it_is_there_from_the_start() -> None:
    ours, theirs = CollectorRegistry(), CollectorRegistry()
    Durations("it_seconds", "How long.", BUCKETS, ours)
    Histogram("it_seconds", "How long.", buckets=BUCKETS, registry=theirs)
    assert shown(ours) == shown(theirs)
