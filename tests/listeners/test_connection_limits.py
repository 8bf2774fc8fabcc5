"""A listener's connections: bounded, the silent sent away first, whoever is being answered never."""

from __future__ import annotations

from dataclasses import dataclass, field

from hypothesis import given
from hypothesis import strategies as st

from epad.listeners.connection_limits import Crowd


@dataclass(eq=False)
class One:
    heard: bool = False
    busy: bool = False
    since: float = 0.0
    sent: list[str] = field(default_factory=list)

    def send_away(self) -> None:
        self.sent.append("away")


GUESTS = st.builds(One, st.booleans(), st.booleans(), st.floats(0, 100))


@given(st.lists(st.tuples(GUESTS, st.sampled_from(["", "uid:1", "uid:2"])), max_size=60), st.integers(1, 20))
def test_there_are_never_more_than_may_be(guests: list[tuple[One, str]], most: int) -> None:
    """Nor of one origin; the busy stay, and one is refused only where no idle one is left."""
    crowd, there = Crowd(most, max(1, most // 2)), []
    for guest, origin in guests:
        if crowd.admits(origin):
            crowd.enter(guest, origin)
            there.append((guest, origin))
        else:
            present = [(one, its) for one, its in there if not one.sent]
            full = len(present) >= most
            assert all(one.busy for one, its in present if full or its == origin)
        present = [(one, its) for one, its in there if not one.sent]
        assert len(crowd) == len(present) <= most
        for each in ("uid:1", "uid:2"):
            assert sum(its == each for _, its in present) <= max(1, most // 2)
    assert not any(one.busy for one, _ in there if one.sent)


def test_the_longest_silent_go_first_then_the_longest_idle() -> None:
    """Whoever has said something is kept before whoever has not."""
    crowd = Crowd(4, 4)
    idle, late, early, busy = One(heard=True, since=1.0), One(since=9.0), One(since=2.0), One(busy=True)
    for each in (idle, late, early, busy):
        crowd.enter(each, "")
    gone = []
    while crowd.thin():
        gone.append([each for each in (idle, late, early, busy) if each.sent and each not in gone][-1])
    assert [each.since for each in (early, late, idle) if each.sent] == [2.0, 9.0, 1.0]
    assert not busy.sent
    assert len(crowd) == 1


def test_deadlines_are_for_the_idle() -> None:
    """A short one for the silent; what is being answered grows old only afterwards."""
    crowd = Crowd(9, 9)
    silent, spoken, busy = One(since=5.0), One(heard=True, since=5.0), One(heard=True, busy=True)
    for each in (silent, spoken, busy):
        crowd.enter(each, "")
    assert crowd.expired(6.0, 4.0) == [silent]
    assert crowd.expired(6.0, 6.0) == [silent, spoken]
    crowd.age_from(7.0)
    busy.busy = False
    assert busy not in crowd.expired(6.0, 6.0)


def test_one_that_is_gone_is_forgotten_once() -> None:
    """Sent away, it also says itself that it has gone."""
    crowd, one = Crowd(1, 1), One()
    crowd.enter(one, "uid:1")
    crowd.leave(one)
    crowd.leave(one)
    assert len(crowd) == 0
    assert crowd.admits("uid:1")
