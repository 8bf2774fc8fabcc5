"""The harness of the benches: figures of peers alone are put beside the rows that are there."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parents[1] / "bench"))
from _harness import Row, add_peers, write


def test_peers_are_put_beside_their_claim_and_nothing_else_changes(tmp_path: Path) -> None:
    """The value of the row, the figures that it has, and the other rows stay."""
    file = tmp_path / "results.json"
    write(
        file,
        "bench",
        [Row("one", 1, "ms", "", met=True, peers={"a": 2}), Row("two", 3, "", "", None)],
        quick=False,
    )
    before = json.loads(file.read_text())["rows"]
    add_peers(file, {"one": {"b": "not installed"}})
    after = json.loads(file.read_text())["rows"]
    assert after[0]["peers"] == {"a": 2, "b": "not installed"}
    assert [{**row, "peers": {}} for row in after] == [{**row, "peers": {}} for row in before]


def test_a_claim_that_the_file_lacks_is_refused(tmp_path: Path) -> None:
    """The figures would belong to another set of cases; the file stays as it is."""
    file = tmp_path / "results.json"
    write(file, "bench", [Row("of 102", 1, "", "", met=True)], quick=False)
    before = file.read_text()
    with pytest.raises(ValueError, match="'of 103'; measure all of it again"):
        add_peers(file, {"of 102": {"b": 1}, "of 103": {"b": 1}})
    assert file.read_text() == before
