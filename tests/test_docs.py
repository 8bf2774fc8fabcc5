"""The documents say what the code does."""

from __future__ import annotations

import tomllib
from pathlib import Path

from epad.gate.tool_table import as_lines
from statemachine.table import mermaid

ROOT = Path(__file__).parents[1]


def test_design_shows_the_table_that_the_machine_runs_on() -> None:
    """`epad diagram` and the document never part."""
    assert mermaid() in (ROOT / "docs/design.md").read_text()


def test_design_shows_the_gate_of_tools() -> None:
    """`epad diagram --gate` and the document never part."""
    assert "\n".join(as_lines()) in (ROOT / "docs/design.md").read_text()


def test_every_document_that_readme_links_to_is_there() -> None:
    """A newcomer clicks all of them."""
    text = (ROOT / "README.md").read_text()
    links = [part.split(")")[0] for part in text.split("](")[1:]]
    assert links
    for link in links:
        if not link.startswith("http"):
            assert (ROOT / link).is_file(), link


def test_runbook_has_a_section_for_every_probe() -> None:
    """Whoever is woken by an anomaly finds what to do under its name."""
    text = (ROOT / "docs/runbook.md").read_text()
    rungs = tomllib.loads((ROOT / "epad/default.toml").read_text())["containment"]
    for probe in rungs:
        assert f"\n## {probe}\n" in text, probe
