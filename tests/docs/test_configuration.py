"""docs/configuration.md is what the types say."""

from __future__ import annotations

import re
from pathlib import Path

from epad.configuration import reference

ROOT = Path(__file__).parents[2]


def test_the_reference_is_fresh() -> None:
    """Written anew it is the same; if not: python -m epad.configuration.reference > docs/configuration.md."""
    assert (ROOT / "docs/configuration.md").read_text() == reference.render()


def test_nothing_is_said_of_what_there_is_not() -> None:
    """Each of the reference's own words stands in it, so none speaks of a key that has gone."""
    document = reference.render()
    for key, words in reference.WORDS.items():
        name = key.rpartition(".")[2]
        assert re.search(rf"^\| `{name}` .* \| {re.escape(words)} \|$", document, re.MULTILINE), key


def test_every_key_of_a_table_of_ones_own_is_explained() -> None:
    """What the shipped defaults do not have, their comments cannot explain."""
    document = reference.render()
    for table in (
        "subsystems.NAME",
        "upstreams.NAME",
        "prices.MODEL",
        "budgets.global",
        "groups.NAME.budget",
    ):
        part = document.split(f"## [{table}]")[1].split("\n## ")[0]
        assert "|  |" not in part, part
