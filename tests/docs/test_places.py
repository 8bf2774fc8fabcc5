"""The places that docs/design.md sends a change to are there."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TABLE = re.compile(r"<!-- places -->\n.*?\n.*?\n(.*?)<!-- end of places -->", re.DOTALL)
FILE = re.compile(r"[\w/]+/[\w.]+\.(py|toml|service)")


def faults(row: str) -> Iterator[str]:
    """Say what a row names that is not there: a file, or a name in the file before it."""
    text = None
    for word in re.findall(r"`(.+?)`", row):
        if FILE.fullmatch(word):
            text = (ROOT / word).read_text() if (ROOT / word).is_file() else ""
            if not text:
                yield f"no file {word}"
        elif text is not None and word.rpartition(".")[2] not in text and "NAME" not in word:
            yield f"no {word} there"


ROWS = TABLE.findall((ROOT / "docs/design.md").read_text())[0].splitlines()


@pytest.mark.parametrize("row", ROWS)
def test_a_row_names_what_is_there(row: str) -> None:
    """Each file, and each name in the file before it."""
    assert FILE.search(row)
    assert list(faults(row)) == []


def test_a_row_of_what_is_not_there_is_found() -> None:
    """A file that has gone, and a name that has."""
    assert list(faults("| x | `epad/nowhere.py` | |")) == ["no file epad/nowhere.py"]
    assert list(faults("| x | `epad/gateway/refusal.py` `under_budget` | |")) == ["no under_budget there"]
