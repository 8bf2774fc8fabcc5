"""Deaths of a unit, counted from looks that may fall anywhere between them."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from epad.supervisor.unit_lives import MOST_DEATHS, Deaths, UnitFacts, deaths_between, life_between

UP = UnitFacts(
    "active", frozen=False, watchdog=False, pid=100, sub="running", result="success", invocation=b"a"
)
WAITS = replace(UP, active="activating", sub="auto-restart", pid=None, result="signal")
UP_AGAIN = replace(UP, pid=101, restarts=1, invocation=b"b")


def counted(*looks: UnitFacts) -> tuple[int, int]:
    """Crashes and orderly ends told over a row of looks."""
    crashes = orderly = early = 0
    for before, now in pairwise(looks):
        deaths = deaths_between(before, now, early)
        crashes, orderly, early = crashes + deaths.crashes, orderly + deaths.orderly, deaths.told_early
    return crashes, orderly


@pytest.mark.parametrize(
    ("looks", "told"),
    [
        # The three signs of one death, seen together or one by one.
        ((UP, WAITS, UP_AGAIN), (1, 0)),
        ((UP, WAITS, WAITS, replace(WAITS, sub="start", restarts=1), UP_AGAIN), (1, 0)),
        ((UP, replace(WAITS, sub="auto-restart-queued", restarts=1), UP_AGAIN), (1, 0)),
        ((UP, replace(WAITS, sub="", restarts=1), UP_AGAIN), (1, 0)),
        ((UP, UP_AGAIN), (1, 0)),
        # Exit status 0 under Restart=always is a death like any other.
        ((UP, replace(WAITS, result="success"), UP_AGAIN), (1, 0)),
        # One unseen, and another that is waited after; the same seen from the first one's wait.
        ((UP, replace(WAITS, restarts=1)), (2, 0)),
        ((UP, WAITS, replace(WAITS, restarts=1), UP_AGAIN), (2, 0)),
        ((replace(WAITS, restarts=3), WAITS, replace(UP, restarts=1)), (0, 0)),  # reset-failed while it waits
        # Several between two looks; one of them told already.
        ((UP, replace(UP, pid=103, restarts=3, invocation=b"d")), (3, 0)),
        ((UP, WAITS, replace(UP, pid=103, restarts=3, invocation=b"d")), (3, 0)),
        ((UP, replace(UP, pid=9, restarts=1_000, invocation=b"d")), (MOST_DEATHS, 0)),
        # By a person: the count begins anew, and nothing has failed.
        ((UP, replace(UP, pid=101, invocation=b"b")), (0, 1)),
        ((replace(UP, restarts=7), replace(UP, pid=101, invocation=b"b")), (0, 1)),
        ((UP, replace(UP, active="deactivating", sub="stop-sigterm"), replace(UP, pid=101, invocation=b"b")), (0, 0)),
        ((replace(UP, restarts=7), replace(UP, restarts=0)), (0, 0)),  # reset-failed
        ((replace(UP, restarts=7), replace(UP, pid=102, restarts=2, invocation=b"c")), (2, 0)),
        # Told early, and then a person was faster than systemd.
        ((UP, WAITS, replace(UP, pid=101, invocation=b"b"), replace(UP, pid=102, restarts=1, invocation=b"c")), (2, 0)),
        # The end.
        ((UP, replace(UP, active="failed", sub="failed", pid=None, result="exit-code")), (1, 0)),
        ((UP, replace(UP, active="inactive", sub="dead", pid=None)), (0, 1)),
        ((UP, WAITS, replace(WAITS, active="failed", sub="failed", result="start-limit-hit")), (2, 0)),
        ((replace(UP, active="activating", sub="start"), replace(UP, active="failed", result="timeout")), (1, 0)),
        ((UP, replace(UP, active="deactivating"), replace(UP, active="failed", pid=None, result="timeout")), (1, 0)),
        # Another main process within one run: re-executed, or a fork that took over; a oneshot has several, or none.
        ((UP, replace(UP, pid=500), replace(UP, pid=501)), (0, 0)),
        ((UP, replace(UP, active="reloading", pid=500), replace(UP, pid=500)), (0, 0)),
        (tuple(replace(UP, active="activating", sub="start", pid=pid) for pid in (1, 2, 3)), (0, 0)),
        ((replace(UP, active="activating", pid=3), replace(UP, pid=None, sub="exited")), (0, 0)),
        # A manager that tells less: another main process is a death, unless it says that all was well.
        ((UnitFacts("active", False, False, 1), UnitFacts("active", False, False, 2)), (1, 0)),
        ((UP, UP, UP), (0, 0)),
    ],
)  # fmt: skip
def test_each_death_is_counted_once(looks: tuple[UnitFacts, ...], told: tuple[int, int]) -> None:
    """Whatever of it was seen."""
    assert counted(*looks) == told


class Systemd:
    """One unit with Restart=always, as systemd 252 moves it."""

    def __init__(self) -> None:
        self.facts, self.crashes, self.next = UP, 0, 101

    def crash(self) -> None:
        if self.facts.active == "active":
            self.crashes += 1
            self.facts = replace(
                self.facts, active="activating", sub="auto-restart", pid=None, result="exit-code"
            )

    def restart_timer(self) -> None:
        if self.facts.sub == "auto-restart":
            self.facts = replace(self.facts, sub="start", restarts=self.facts.restarts + 1)

    def started(self) -> None:
        if self.facts.sub == "start":
            self._begin(self.facts.restarts)

    def by_a_person(self) -> None:
        self._begin(0)

    def reset_failed(self) -> None:
        self.facts = replace(self.facts, restarts=0)

    def _begin(self, restarts: int) -> None:
        self.facts = replace(UP, pid=self.next, restarts=restarts, invocation=str(self.next).encode())
        self.next += 1


@given(
    st.lists(st.sampled_from(["crash", "restart_timer", "started", "look", "by_a_person", "reset_failed"]))
)
def test_every_death_is_counted_wherever_the_looks_fall(story: list[str]) -> None:
    """But a person who sets the count back is seen to do so: what happened unseen just then is lost to everybody."""
    unit, looks = Systemd(), [UP]
    for event in story:
        by_hand = event in {"by_a_person", "reset_failed"}
        if event == "look" or by_hand:
            looks.append(unit.facts)
        if event != "look":
            getattr(unit, event)()
        if by_hand:
            looks.append(unit.facts)
    for event in ("restart_timer", "started"):
        getattr(unit, event)()
    looks.append(unit.facts)
    assert counted(*looks)[0] == unit.crashes


def test_what_systemd_says_is_read() -> None:
    """As D-Bus hands it over."""
    found: dict[str, Any] = {
        "ActiveState": "activating",
        "SubState": "auto-restart",
        "MainPID": 0,
        "NRestarts": 4,
        "Result": "oom-kill",
        "InvocationID": b"\1\2",
    }
    facts = UnitFacts.read(found)
    assert (facts.pid, facts.restarts, facts.sub, facts.invocation) == (None, 4, "auto-restart", b"\1\2")
    assert not facts.ended_well
    assert deaths_between(facts, facts, 0) == Deaths()


@pytest.mark.parametrize(
    ("before", "now", "deaths", "life"),
    [
        ((100.0, 0.0), (100.0, 145.0), 1, 45.0),
        ((100.0, 0.0), (148.0, 0.0), 1, 48.0),
        ((100.0, 90.0), (148.0, 90.0), 1, 48.0),
        ((100.0, 0.0), (190.0, 0.0), 3, 30.0),
        ((0.0, 0.0), (190.0, 0.0), 1, 0.0),
        ((100.0, 0.0), (100.0, 0.0), 0, 0.0),
    ],
)
def test_how_long_a_run_lasted(
    before: tuple[float, float], now: tuple[float, float], deaths: int, life: float
) -> None:
    """From its own times where the look falls between two runs, else from one begin to the next."""
    facts = [
        UnitFacts("active", frozen=False, watchdog=False, pid=1, began=began, ended=ended)
        for began, ended in (before, now)
    ]
    assert life_between(facts[0], facts[1], deaths) == life
