"""The rules as operators meet them: each with its page, each with its unit test, and promtool content."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from itertools import product
from pathlib import Path
from typing import Any

import pytest
import yaml
from installed import QUICK, Installation, installation
from patience import PATIENCE_SECONDS
from prometheus_client.parser import text_string_to_metric_families

from epad.confinement.approvals import State
from epad.control_loop.metrics import STEP_RESULTS
from epad.control_loop.step import StepName
from epad.daemon.metrics import FAMILIES
from epad.gateway.metrics import TOKEN_KINDS
from epad.ledger.record import Outcome
from runners.tools.catalogue import CATEGORIES
from statemachine.table import TABLE

ROOT = Path(__file__).parents[2]
RULES = ROOT / "monitoring/prometheus/epad.rules.yml"
UNIT_TESTS = ROOT / "monitoring/prometheus/epad.rules.test.yml"
DASHBOARD = ROOT / "monitoring/grafana/epad.json"
SECTIONS = re.findall(r"^## (\w+)$", (ROOT / "docs/alerts.md").read_text(), re.MULTILINE)


def alerts() -> list[dict[str, Any]]:
    groups = yaml.safe_load(RULES.read_text())["groups"]
    return [rule for group in groups for rule in group["rules"] if "alert" in rule]


@pytest.mark.parametrize("rule", alerts(), ids=lambda rule: rule["alert"])
def test_an_alert_is_whole(rule: dict[str, Any]) -> None:
    """Severity is the one routing label; the summary has no numbers; the page exists; `for` is stated."""
    assert rule["alert"].startswith("Epad")
    assert set(rule["labels"]) == {"severity"}
    assert rule["labels"]["severity"] in {"critical", "warning", "info"}
    assert "for" in rule
    assert "{{" not in rule["annotations"]["summary"]
    assert rule["annotations"]["description"]
    assert rule["annotations"]["runbook_url"] == f"docs/alerts.md#{rule['alert'].lower()}"
    assert rule["alert"] in SECTIONS


def test_every_alert_has_its_unit_test_and_every_page_its_alert() -> None:
    """None is forgotten, in either direction."""
    names = [rule["alert"] for rule in alerts()]
    tested = [test["name"].partition(":")[0] for test in yaml.safe_load(UNIT_TESTS.read_text())["tests"]]
    assert list(dict.fromkeys(tested)) == names
    assert names == SECTIONS


def test_only_series_that_epad_exports_are_asked_for() -> None:
    """A rule on a series that does not exist never fires."""
    declared = {family.name for family in FAMILIES}
    used = set(re.findall(r"\b(epad_\w+)", RULES.read_text()))
    assert {re.sub("_created$", "_total", name).removesuffix("_bucket") for name in used} <= declared


def rising(text: str) -> set[str]:
    """Every counter whose increase or rate is asked for."""
    return set(re.findall(r"\b(?:increase|rate|irate)\((epad_\w+_total)\b", text))


Series = tuple[str, frozenset[tuple[str, str]]]
IDLE = f'command = ["{sys.executable}", "-S", "-c", "import time; time.sleep(600)"]\n'
# Every value that each label may have, whatever happens; `subsystem` is what is configured.
CLOSED = {
    "kind": TOKEN_KINDS,
    "outcome": tuple(Outcome),
    "step": tuple(StepName),
    "result": STEP_RESULTS,
    "answer": tuple(state for state in State if state is not State.OPEN),
    "category": CATEGORIES,
}
LABELS = {
    "epad_tokens_total": ("subsystem", "kind"),
    "epad_turns_total": ("subsystem", "outcome"),
    "epad_cost_microusd_total": ("subsystem",),
    "epad_subsystem_restarts_total": ("subsystem",),
    "epad_response_steps_total": ("step", "result"),
    "epad_egress_questions_total": ("subsystem", "answer"),
    "epad_egress_starts_total": (),
    "epad_tool_workers_lost_total": ("category",),
}


def possible(counter: str, subsystems: tuple[str, ...]) -> Iterator[Series]:
    """Every series that a counter can ever have."""
    if counter == "epad_phase_transitions_total":
        for row in TABLE:
            words = {"source": row.source, "destination": row.destination, "trigger": row.trigger}
            yield counter, frozenset((name, word.value) for name, word in words.items())
        return
    values = CLOSED | {"subsystem": subsystems}
    for chosen in product(*(values[label] for label in LABELS[counter])):
        yield counter, frozenset(zip(LABELS[counter], map(str, chosen), strict=True))


def scraped(house: Installation) -> dict[Series, float]:
    with urllib.request.urlopen(house.status()["metrics"]["url"], timeout=PATIENCE_SECONDS) as answer:
        families = text_string_to_metric_families(answer.read().decode())
        return {(s.name, frozenset(s.labels.items())): s.value for f in families for s in f.samples}


def test_every_counter_that_is_asked_for_its_increase_is_there_at_0_before_its_first_event() -> None:
    """A series that is born at 1 has not increased, so the first failure of each step raised no alert.

    On a daemon that has just started, and for a subsystem that a reload has just added; also the times of
    creation that the rules read.
    """
    # CPU time counts no events: a process that is first seen has run already, and no rule asks how often that was.
    asked = (rising(RULES.read_text()) | rising(DASHBOARD.read_text())) - {"epad_subsystem_cpu_seconds_total"}
    assert len(asked) >= 6
    with installation(QUICK + "[subsystems.one]\n" + IDLE) as house:
        house.start()
        expected = {one for counter in asked for one in possible(counter, ("one",))}
        series = scraped(house)
        assert {one: series.get(one) for one in expected} == dict.fromkeys(expected, 0.0)
        house.config.write_text(house.config.read_text() + "[subsystems.two]\n" + IDLE)
        assert "added: two" in house.ctl("reload").stdout
        series = scraped(house)
        both = {one for counter in asked for one in possible(counter, ("one", "two"))}
        assert both <= series.keys()
        for name in set(re.findall(r"\bepad_\w+_created\b", RULES.read_text())):
            total = name.replace("_created", "_total")
            assert all((name, labels) in series for counter, labels in both if counter == total)


def test_the_unit_tests_counters_begin_as_epad_exports_them() -> None:
    """At 0; or, where that is before the first scrape, with the time of their creation beside them."""
    for test in yaml.safe_load(UNIT_TESTS.read_text())["tests"]:
        values = {one["series"]: one["values"] for one in test["input_series"]}
        for series, begins in values.items():
            if "_total{" in series:
                begins_at_0 = re.match(r"(_x\d+ )?0\b", begins)
                assert begins_at_0 or series.replace("_total{", "_created{") in values, test["name"]


@pytest.mark.skipif(shutil.which("promtool") is None, reason="no promtool here: apt-get install prometheus")
def test_promtool_is_content() -> None:
    """Syntax, unit tests, and the example configuration that loads them."""
    for arguments in (
        ["check", "rules", str(RULES)],
        ["test", "rules", str(UNIT_TESTS)],
        ["check", "config", str(RULES.with_name("prometheus.example.yml"))],
    ):
        done = subprocess.run(["promtool", *arguments], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.skipif(
    shutil.which("amtool") is None, reason="no amtool here: apt-get install prometheus-alertmanager"
)
def test_amtool_is_content() -> None:
    """The example of routing and inhibition can be used as it lies there."""
    example = ROOT / "monitoring/alertmanager/alertmanager.example.yml"
    done = subprocess.run(["amtool", "check-config", example], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
