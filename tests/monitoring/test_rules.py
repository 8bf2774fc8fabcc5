"""The rules as operators meet them: each with its page, each with its unit test, and promtool content."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[2]
RULES = ROOT / "monitoring/prometheus/epad.rules.yml"
UNIT_TESTS = ROOT / "monitoring/prometheus/epad.rules.test.yml"
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
    assert [test["name"] for test in yaml.safe_load(UNIT_TESTS.read_text())["tests"]] == names
    assert names == SECTIONS


def test_only_series_that_epad_exports_are_asked_for() -> None:
    """A rule on a series that does not exist never fires."""
    declared = set(re.findall(r'"(epad_\w+)"', (ROOT / "epad/metrics.py").read_text()))
    used = set(re.findall(r"\b(epad_\w+)", RULES.read_text()))
    assert {name.removesuffix("_bucket") for name in used} <= declared


@pytest.mark.skipif(shutil.which("promtool") is None, reason="no promtool here: apt-get install prometheus")
def test_promtool_is_content() -> None:
    """Syntax, unit tests, and the example configuration that loads them."""
    for arguments in (
        ["check", "rules", RULES],
        ["test", "rules", UNIT_TESTS],
        ["check", "config", RULES.with_name("prometheus.example.yml")],
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
