"""The series by Prometheus's own rules, so that nobody's dashboard needs a second guess."""

from __future__ import annotations

import re
from typing import Any

import pytest
from prometheus_client import Metric
from prometheus_client.parser import text_string_to_metric_families

from epad.control_loop.metrics import STEPS, TOKEN_BURN
from epad.daemon.metrics import FAMILIES
from epad.gateway.metrics import TOKENS
from epad.ledger.metrics import ENTRIES
from epad.metrics.family import Family, counter, durations, gauge
from epad.metrics.registry import Metrics
from epad.probing.metrics import MEMORY, PROGRESS, RESTARTS, STATE

# https://prometheus.io/docs/practices/naming: one prefix, base units, plural, last.
BASE_UNITS = {"seconds", "bytes", "ratio", "tokens"}
OTHER_UNITS = {
    "milliseconds",
    "ms",
    "minutes",
    "hours",
    "days",
    "kb",
    "mb",
    "gb",
    "kilobytes",
    "megabytes",
    "percent",
}
# What a client could make up must never be a label: the number of series would be unbounded.
LABELS = {"version", "phase", "source", "destination", "trigger", "probe", "subsystem", "step", "result"}
LABELS |= {"datastore", "kind", "outcome", "code", "window", "state", "gpu"}
# What the driver and the kernel name: cards, their errors (a few hundred numbers), and three resources.
LABELS |= {"uuid", "vendor", "name", "xid", "resource"}
# Of the way out: an answer of a person, a reason of its own, up or down.
LABELS |= {"answer", "why", "direction"}
# Of tools: their categories, and the rows of the gate's table.
LABELS |= {"category", "row"}
# Of intents: attack, benign or unsure; why a turn has none.
LABELS |= {"label", "reason"}


@pytest.fixture
def metrics() -> Metrics:
    return Metrics(FAMILIES)


def families(metrics: Metrics) -> list[Metric]:
    return list(metrics.registry.collect())


def complaints(family: Metric) -> list[str]:
    """What a lint of this series' name, help and type would say."""
    words = family.name.split("_")
    found = [] if words[0] == "epad" else ["no prefix"]
    found += [] if re.fullmatch(r"[a-z]+(_[a-z]+)*", family.name) else ["not snake case"]
    found += [f"{word} is no base unit" for word in words if word in OTHER_UNITS]
    found += [] if family.documentation.endswith(".") else ["no sentence of help"]
    found += (
        ["the unit is not last"] if any(word in {"seconds", "bytes", "ratio"} for word in words[:-1]) else []
    )
    found += ["a type in the name"] if {"gauge", "counter", "histogram"} & set(words) else []
    if family.type == "gauge" and words[-1] in {"total", "count", "sum", "bucket"} and words[-2] != "memory":
        found.append("a gauge named like a counter")
    if family.type == "histogram" and words[-1] not in BASE_UNITS:
        found.append("a histogram without its unit")
    if "timestamp" in words and words[-2:] != ["timestamp", "seconds"]:
        found.append("a time that is not _timestamp_seconds")
    return found


def test_every_series_passes_the_lint(metrics: Metrics) -> None:
    """prometheus_client adds _total to each counter; the rest is ours to keep."""
    assert {family.name: found for family in families(metrics) if (found := complaints(family))} == {}
    assert len(families(metrics)) > 25


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("phase", "gauge"),
        ("epad_wait_ms", "gauge"),
        ("epad_seconds_waited", "gauge"),
        ("epad_refusals_total", "gauge"),
        ("epad_turn_duration", "histogram"),
        ("epad_last_timestamp", "gauge"),
        ("epad_phaseGauge", "gauge"),
    ],
)
def test_the_lint_finds_a_bad_name(name: str, kind: str) -> None:
    """Else it would prove nothing."""
    assert complaints(Metric(name, "A sentence.", kind)) != []


def test_counters_end_in_total_and_nothing_else_does(metrics: Metrics) -> None:
    """As scraped: every family that says counter."""
    metrics.of(STEPS).labels("hold", "done").inc()
    metrics.of(TOKENS).labels("chat", "input").inc(7)
    text = metrics.render().decode()
    kinds = dict(re.findall(r"^# TYPE (\S+) (\S+)$", text, re.MULTILINE))
    kinds = {name: kind for name, kind in kinds.items() if not name.endswith("_created")}
    assert {name for name, kind in kinds.items() if kind == "counter"} == {
        name for name in kinds if name.endswith("_total") and not name.endswith("_memory_total")
    }
    samples = {s.name: s.value for f in text_string_to_metric_families(text) for s in f.samples}
    assert samples["epad_tokens_total"] == 7


def test_labels_are_names_from_the_configuration_or_closed_sets(metrics: Metrics) -> None:
    """None that a request could fill with anything."""
    collectors = {c for c in metrics.registry._collector_to_names if hasattr(c, "_labelnames")}
    assert len(collectors) > 25
    assert {label for collector in collectors for label in collector._labelnames} <= LABELS


def test_two_daemons_in_one_process_share_no_series() -> None:
    """Each has a registry of its own; nothing is global."""
    one, two = Metrics(FAMILIES), Metrics(FAMILIES)
    one.of(ENTRIES).set(7)
    assert two.registry.get_sample_value("epad_ledger_entries") == 0


def test_a_counter_is_there_before_its_first_event_and_keeps_its_count_when_configured_again() -> None:
    """Of every transition of the table, every subsystem and what is said to begin; 0 is an answer."""
    metrics = Metrics(FAMILIES, ["chat"])
    value = metrics.registry.get_sample_value
    row = {"source": "NORMAL", "destination": "QUARANTINE", "trigger": "isolate"}
    assert value("epad_phase_transitions_total", row) == 0
    assert value("epad_subsystem_restarts_total", {"subsystem": "game"}) is None
    metrics.of(RESTARTS).labels("chat").inc()
    metrics.configure(["chat", "game"])
    assert value("epad_subsystem_restarts_total", {"subsystem": "chat"}) == 1
    assert value("epad_subsystem_restarts_total", {"subsystem": "game"}) == 0
    assert value("epad_subsystem_exits_total", {"subsystem": "game"}) == 0
    for name in ("chat", "game"):
        assert value("epad_turns_total", {"subsystem": name, "outcome": "failed"}) == 0


def test_what_is_counted_first_and_shown_later_begins_with_the_others() -> None:
    """A family that nobody named beforehand is made when it is first asked for, once."""
    metrics = Metrics(subsystems=["chat"])
    assert metrics.of(RESTARTS) is metrics.of(RESTARTS)
    assert metrics.registry.get_sample_value("epad_subsystem_restarts_total", {"subsystem": "chat"}) == 0


def test_who_is_configured_no_more_leaves_nothing_but_its_counts() -> None:
    metrics = Metrics(FAMILIES, ["chat"])
    for name in ("chat", "game"):
        for family in (PROGRESS, TOKEN_BURN, MEMORY):
            metrics.of(family).labels(name).set(1)
    metrics.of(STATE).labels("chat", "running").set(1)
    metrics.of(RESTARTS).labels("chat").inc()
    metrics.forget("chat")
    left = {
        sample.name
        for family in families(metrics)
        for sample in family.samples
        if sample.labels.get("subsystem") == "chat" and sample.value and not sample.name.endswith("_created")
    }
    assert left == {"epad_subsystem_restarts_total"}
    assert metrics.registry.get_sample_value("epad_subsystem_memory_bytes", {"subsystem": "game"}) == 1


def test_a_second_family_of_a_name_is_refused() -> None:
    """Whoever declares it, and of whichever kind."""
    words = "Records in the ledger."
    twice: list[Family[Any]] = [
        gauge("epad_ledger_entries", words),
        counter("epad_ledger_entries", words),
        durations("epad_turn_duration_seconds", words, buckets=[1.0]),
        gauge("epad_tokens_total", words),
    ]
    for again in twice:
        with pytest.raises(ValueError, match=again.name):
            Metrics([*FAMILIES, again])
