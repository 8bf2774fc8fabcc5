"""The dashboard is what its script builds, and its panels stand where they can be read."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest

from epad.daemon.metrics import FAMILIES

ROOT = Path(__file__).parents[2]
BUILD = ROOT / "monitoring/grafana/build.py"
DASHBOARD = ROOT / "monitoring/grafana/epad.json"


def panels() -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(DASHBOARD.read_text())["panels"]
    return found


def test_it_is_what_the_script_builds() -> None:
    """The file is generated; a change is made in the script."""
    pytest.importorskip("grafana_foundation_sdk", reason="grafana_foundation_sdk is not installed")
    built = subprocess.run([sys.executable, BUILD], capture_output=True, text=True, check=True).stdout
    assert built == DASHBOARD.read_text(), (
        "run python monitoring/grafana/build.py > monitoring/grafana/epad.json"
    )


# dashboardv2 would need Grafana 12; the first kind is read by every Grafana since 10.
@pytest.mark.filterwarnings("ignore:Prefer using dashboardv2:DeprecationWarning")
def test_it_survives_the_typed_models() -> None:
    """Read and written again by the models of Grafana's own types, nothing is lost."""
    pytest.importorskip("grafana_foundation_sdk", reason="grafana_foundation_sdk is not installed")
    from grafana_foundation_sdk.cog.encoder import JSONEncoder  # noqa: PLC0415 - only where it is installed
    from grafana_foundation_sdk.models.dashboard import Dashboard  # noqa: PLC0415

    content = json.loads(DASHBOARD.read_text())
    assert json.loads(JSONEncoder().encode(Dashboard.from_json(content))) == content


def test_every_panel_has_its_place() -> None:
    """Unique ids, no two on the same spot, none beyond the right edge."""
    assert len({panel["id"] for panel in panels()}) == len(panels())
    places = [panel["gridPos"] for panel in panels()]
    assert all(p["x"] + p["w"] <= 24 for p in places)
    for a, b in combinations(places, 2):
        apart = a["x"] + a["w"] <= b["x"] or b["x"] + b["w"] <= a["x"]
        assert apart or a["y"] + a["h"] <= b["y"] or b["y"] + b["h"] <= a["y"]


def test_every_query_asks_for_series_that_exist() -> None:
    """With the instance of the variable, and references that tell queries apart."""
    declared = {family.name for family in FAMILIES}
    for panel in panels():
        targets = panel.get("targets", [])
        assert len({target["refId"] for target in targets}) == len(targets)
        for target in targets:
            names = {name.removesuffix("_bucket") for name in re.findall(r"\b(epad_\w+)", target["expr"])}
            assert names <= declared
            assert 'instance=~"$instance"' in target["expr"]
