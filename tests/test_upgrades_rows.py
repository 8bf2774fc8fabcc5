"""The rows of bench/upgrades.py: each is met by a campaign that lost nothing, and by no other."""

from __future__ import annotations

import contextlib
import json
import random
import subprocess
import sys
from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from pathlib import Path
from typing import Any

import apsw
import pytest

sys.path.append(str(Path(__file__).parents[1] / "bench"))
import upgrades
from _harness import Row

EXCHANGES = 4
CHILDREN: Mapping[str, AbstractSet[int]] = {"steady": {1}, "family": {2, 3}, "printing": {4, 5}}
LOST, IN_THE_LEDGER, OVER, AWAY = range(4)


class FakeHost:
    """An epad whose ledger a test writes, and whose children it says."""

    name = "fake"
    kinds: tuple[str, ...] = ("epactl upgrade", "systemctl reload")

    def __init__(self, root: Path, *, ends_one: bool = False, doubles_one: bool = False) -> None:
        self.state = "/state"
        self._root = root
        self._after = {**CHILDREN, "steady": {9}} if ends_one else CHILDREN
        self._after = {**CHILDREN, "family": {2, 3, 9}} if doubles_one else self._after
        self.exchanges: list[str] = []
        self.configured: list[str] = []
        (root / "state").mkdir()

    def exchange(self, kind: str) -> None:
        self.exchanges.append(kind)

    def configure(self, text: str) -> None:
        self.configured.append(text)

    def children(self) -> Mapping[str, AbstractSet[int]]:
        # What prints makes another process all the time.
        return {**(self._after if self.exchanges else CHILDREN), "printing": {4, 10 + len(self.exchanges)}}

    def load(self, config: Mapping[str, object], path: str) -> subprocess.Popen[bytes]:
        raise AssertionError("a test writes what the clients would have caused")

    def stop(self) -> None:
        """There is nothing to end."""

    def file(self, path: str) -> Path:
        return self._root / path.removeprefix("/")

    def keep(self, opened: set[str], closed: set[str]) -> None:
        path = self.file(f"{self.state}/ledger.db")
        with contextlib.closing(apsw.Connection(str(path))) as database, database:
            database.execute("CREATE TABLE record(turn TEXT, kind INTEGER)")
            rows = [(turn, 1) for turn in opened] + [(turn, 2) for turn in closed] + [(None, 0)]
            database.executemany("INSERT INTO record VALUES (?, ?)", rows)


class Chance(random.Random):
    """Each kind in turn, and no pause."""

    def __init__(self) -> None:
        super().__init__()
        self._number = 0

    def choice(self, seq: Any) -> Any:
        self._number += 1
        return seq[self._number % len(seq)]

    def uniform(self, a: float, b: float) -> float:
        return 0.0


def rows(
    root: Path,
    *,
    acknowledged: int = 20,
    missing: int = 0,
    still_open: int = 0,
    made: int = upgrades.BOUNDED_TOKENS,
    away_seconds: float = 0.5,
    **harm: Any,
) -> list[Row]:
    """Play a campaign and hold its rows."""
    host = FakeHost(root, **harm)
    campaign = upgrades.Campaign(host, upgrades.Places((1, 2), 3, 4))
    campaign.run(EXCHANGES, Chance())
    turns = [f"{number:032x}" for number in range(acknowledged)]
    kept = turns[missing:]
    host.keep(set(kept), set(kept[still_open:]))
    began, _ = campaign.times["epactl upgrade"][-1]
    report = {
        "statuses": {"200": acknowledged},
        "acknowledged": {"free": turns[::2], "bounded": turns[1::2]},
        "made": {"bounded": made},
        "away": [(began, began + away_seconds)],
    }
    return upgrades._rows(campaign, json.dumps(report), EXCHANGES)


def unmet(found: list[Row]) -> list[int]:
    return [number for number, row in enumerate(found) if not row.met]


def test_a_campaign_that_lost_nothing_meets_every_row(tmp_path: Path) -> None:
    """Another process of what makes them all the time is none that was lost; a turn may be open yet, and counts."""
    found = rows(tmp_path, still_open=2)
    assert unmet(found) == []
    assert found[IN_THE_LEDGER].peers == {"acknowledged": 20, "of them not closed": 2}
    assert found[AWAY].value == pytest.approx(0.5)


@pytest.mark.parametrize(
    ("harm", "row", "value"),
    [
        ({"ends_one": True}, LOST, 1),
        ({"doubles_one": True}, LOST, 1),
        ({"missing": 1}, IN_THE_LEDGER, 1),
        ({"acknowledged": EXCHANGES}, IN_THE_LEDGER, 0),
        ({"made": upgrades.BOUNDED_TOKENS + 1}, OVER, 1),
        ({"away_seconds": upgrades.MOST_AWAY_SECONDS + 0.5}, AWAY, upgrades.MOST_AWAY_SECONDS + 0.5),
    ],
    ids=["ended", "doubled", "missing", "hardly anything asked", "over budget", "away"],
)
def test_what_is_lost_fails_its_row_and_no_other(
    tmp_path: Path, harm: dict[str, Any], row: int, value: float
) -> None:
    """Planted: a child that was ended or doubled, a turn that is gone, a token too many, a door closed too long."""
    found = rows(tmp_path, **harm)
    assert unmet(found) == [row]
    assert found[row].value == pytest.approx(value)


def test_each_reload_has_another_server_price_and_door(tmp_path: Path) -> None:
    """Else a reload that does nothing would be one of the campaign."""
    host = FakeHost(tmp_path)
    places = upgrades.Places((1, 2), 3, 4)
    upgrades.Campaign(host, places).run(EXCHANGES, Chance())
    assert host.exchanges == ["systemctl reload", "epactl upgrade"] * 2
    assert host.configured == [places.text(1), places.text(2)]
    one, other = host.configured[1], host.configured[0]
    for line in ('listen = "127.0.0.1:4"', "127.0.0.1:2/v1", "input = 2.0"):
        assert line in other
        assert line not in one
