"""`kill -9` of the real daemon at random moments under load: what was acknowledged is there, paid for once.

EPAD_KILLS says how often; without it a dozen times here and 1,000 times in `make test-all`.
"""

from __future__ import annotations

import json
import os
import random
import time
from collections import Counter

import pytest
from gateway_load import CLIENTS, CONFIG, Books, Upstream, under_load
from installed import QUICK, Installation, installation

LONGEST_LIFE_SECONDS = 2.5  # from the start of the process: some die before they are ready


def kill_at_random(house: Installation, times: int, dice: random.Random) -> int:
    """Kill it, look at the children, start it again; how many died before they were ready."""
    unready = 0
    for _ in range(times):
        life = dice.random() * LONGEST_LIFE_SECONDS
        if dice.random() < 0.3:
            house.launch()
            time.sleep(life / 2)
            unready += 1
        else:
            house.start()
            time.sleep(life)
        house.kill()
        doubled = [name for name, count in Counter(house.children().values()).items() if count > 1]
        assert not doubled, doubled
    return unready


def campaign(times: int) -> None:
    """Start, load, kill so often, start once more, read the books."""
    dice = random.Random(times)
    with Upstream() as upstream, installation(QUICK + CONFIG.format(url=upstream.url)) as house:
        house.start()
        with under_load(house) as load:
            house.kill()
            unready = kill_at_random(house, times - 1, dice)
            house.start()
            told = len(load.acknowledged)
            house.wait(lambda: len(load.acknowledged) > told + CLIENTS, "turns to be answered again")
        assert Counter(house.children().values()) == {"worker": 1, "helper": 1}
        assert house.stop() == 0
        assert house.verify_ledger().returncode == 0
        books = Books.read(house.state / "ledger.db")
        lost = {name: turn for name, turn in load.acknowledged.items() if books.opened.get(turn) != name}
        twice = {name: count for name, count in books.paid.items() if count > 1}
        closed_twice = [turn for turn, count in books.closings.items() if count > 1]
        found = {
            "kills": times,
            "before ready": unready,
            "asked": load.asked,
            "acknowledged": len(load.acknowledged),
            "lost": len(lost),
            "charged twice": len(twice) + len(closed_twice),
        }
        print(f"\n{json.dumps(found)}")
        assert not lost, lost
        assert not twice, twice
        assert not closed_twice, closed_twice


@pytest.mark.parametrize("kills", [4, pytest.param(12, marks=pytest.mark.long)])
def test_kills_lose_nothing_and_charge_nothing_twice(kills: int) -> None:
    """Acknowledged turns lost 0, charged twice 0, children doubled 0; the last life works.

    Of four, the first is under load, two come before the daemon is ready, and one soon after.
    """
    campaign(kills)


@pytest.mark.slow
@pytest.mark.timeout(7200)
def test_hundreds_of_kills_lose_nothing_and_charge_nothing_twice() -> None:
    """The same at length."""
    campaign(int(os.environ.get("EPAD_KILLS", "1000")))
