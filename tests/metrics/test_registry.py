"""The series by Prometheus's own rules, so that nobody's dashboard needs a second guess."""

from __future__ import annotations

import re

import pytest
from prometheus_client import Metric
from prometheus_client.parser import text_string_to_metric_families

from epad.metrics.registry import Metrics
from probes.memory import Footprint
from statemachine.finding import Finding, Severity

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


@pytest.fixture
def metrics() -> Metrics:
    return Metrics("1.2.3")


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
    metrics.steps.labels("hold", "done").inc()
    metrics.tokens.labels("chat", "input").inc(7)
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


def test_the_version_is_a_label_of_its_own_series(metrics: Metrics) -> None:
    """Joined to others where one needs it."""
    assert metrics.registry.get_sample_value("epad_build_info", {"version": "1.2.3"}) == 1


def test_a_finding_shows_its_number_under_its_probes_series(metrics: Metrics) -> None:
    """In base units; one without a number shows none."""
    metrics.record(Finding("token_burn", "chat", Severity.OK, 0.0, value=250, limit=1_000, unit="tokens"))
    metrics.record(Finding("token_burn", "game", Severity.OK, 0.0))
    metrics.record(Finding("token_burn", "game", Severity.OK, 0.0, value=9, limit=0))
    value = metrics.registry.get_sample_value
    assert value("epad_token_burn_ratio", {"subsystem": "chat"}) == 0.25
    assert value("epad_token_burn_ratio", {"subsystem": "game"}) is None


def test_two_daemons_in_one_process_share_no_series() -> None:
    """Each has a registry of its own; nothing is global."""
    one, two = Metrics("1"), Metrics("2")
    one.ledger_entries.set(7)
    assert two.registry.get_sample_value("epad_ledger_entries") == 0


def test_a_counter_is_there_before_its_first_event_and_keeps_its_count_when_configured_again() -> None:
    """Of every transition of the table, every subsystem and what is said to begin; 0 is an answer."""
    metrics = Metrics("1", ["chat"])
    metrics.begins(metrics.turns, ("done", "failed"))
    value = metrics.registry.get_sample_value
    row = {"source": "NORMAL", "destination": "QUARANTINE", "trigger": "isolate"}
    assert value("epad_phase_transitions_total", row) == 0
    assert value("epad_subsystem_restarts_total", {"subsystem": "game"}) is None
    metrics.restarts.labels("chat").inc()
    metrics.configure(["chat", "game"])
    assert value("epad_subsystem_restarts_total", {"subsystem": "chat"}) == 1
    assert value("epad_subsystem_restarts_total", {"subsystem": "game"}) == 0
    assert value("epad_subsystem_exits_total", {"subsystem": "game"}) == 0
    for name in ("chat", "game"):
        assert value("epad_turns_total", {"subsystem": name, "outcome": "failed"}) == 0


def test_memory_and_cpu_follow_what_was_read(metrics: Metrics) -> None:
    """Memory goes with the processes; CPU time only ever rises, whatever becomes of who was read."""
    read = metrics.registry.get_sample_value
    for memory, cpu in ((100, 2.5), (300, 4.0), (50, 3.0)):
        metrics.show_footprints({"chat": Footprint(memory, cpu, 1)})
    assert read("epad_subsystem_memory_bytes", {"subsystem": "chat"}) == 50
    assert read("epad_subsystem_cpu_seconds_total", {"subsystem": "chat"}) == 4.0
    metrics.show_footprints({})
    assert read("epad_subsystem_memory_bytes", {"subsystem": "chat"}) is None
    assert read("epad_subsystem_cpu_seconds_total", {"subsystem": "chat"}) == 4.0
