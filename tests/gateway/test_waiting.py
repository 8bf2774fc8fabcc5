"""Who waits, who goes on when something changes, when that is looked at, and what is left of those who go away."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable

import pytest

from epad.gateway.limits import Refused
from epad.gateway.waiting import MOST_WAITING, Waiting


class Rooms:
    """As much of the budgets as the queue asks for."""

    def __init__(self) -> None:
        self.waiting: Counter[str] = Counter()
        self.busy: set[str] = set()

    def scopes_of(self, subsystem: str) -> tuple[str, ...]:
        return subsystem, "all"

    def wait(self, subsystem: str, *, by: int) -> None:
        self.waiting[subsystem] += by

    def under_way(self, scope: str) -> bool:
        return scope in self.busy


def refused(scope: str = "a", seconds: float = 1.0, *, permanent: bool = False) -> Refused:
    return Refused(scope, "tokens_per_minute", 100, 90, 20, seconds, permanent)


class Asker:
    """One request: what it is answered next, and how it was asked."""

    def __init__(self, *answers: str | Refused | Exception, last: str | Refused = "at last") -> None:
        self.answers = list(answers)
        self.last = last
        self.asked: list[tuple[bool, bool]] = []

    def __call__(self, last: bool, queued: bool) -> str | Refused:
        self.asked.append((last, queued))
        answer = self.last if last else self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, Exception):
            raise answer
        return answer


class Queue:
    """A queue, and those who ask it."""

    def __init__(self, seconds: float = 5.0) -> None:
        self.rooms = Rooms()
        self.undone: list[str] = []
        self.waiting: Waiting[str] = Waiting(self.rooms, seconds, self.undone.append)  # type: ignore[arg-type]  # see Rooms

    def ask(self, asker: Asker, subsystem: str = "a") -> asyncio.Task[str | Refused]:
        return asyncio.create_task(self.waiting.take(subsystem, asker))


async def turns_of_the_loop(until: Callable[[], bool] = lambda: False) -> None:
    for _ in range(20):
        if until():
            return
        await asyncio.sleep(0)


async def test_whoever_fits_is_asked_once_and_never_counted() -> None:
    queue, asker = Queue(), Asker("in")
    assert await queue.ask(asker) == "in"
    assert asker.asked == [(False, False)]
    assert not queue.rooms.waiting


@pytest.mark.parametrize(
    ("seconds", "got"),
    [
        (5.0, refused(seconds=5.001)),
        (5.0, refused(seconds=1.0, permanent=True)),
        (0.0, refused(seconds=0.0)),
        (5.0, refused("all", seconds=9.0)),  # a turn is under way in another scope
    ],
)
async def test_where_no_waiting_helps_what_there_is_is_taken_at_once(seconds: float, got: Refused) -> None:
    queue, asker = Queue(seconds), Asker(got)
    queue.rooms.busy = set() if got.permanent or not seconds else {"b"}
    assert not queue.waiting.worth(got)
    assert await queue.ask(asker) == "at last"
    assert asker.asked == [(False, False), (True, False)]
    assert not queue.rooms.waiting


@pytest.mark.parametrize(
    ("seconds", "busy", "worth"),
    [
        (4.9, False, True),
        (5.0, False, True),
        (5.1, False, False),
        (5.1, True, True),
        (float("inf"), True, True),
    ],
)
def test_a_wait_is_worth_it_if_the_window_or_a_turn_in_flight_may_free_some(
    seconds: float, busy: bool, worth: bool
) -> None:
    queue = Queue(5.0)
    queue.rooms.busy = {"a"} if busy else set()
    assert queue.waiting.worth(refused(seconds=seconds)) is worth
    assert not queue.waiting.worth(refused(seconds=seconds, permanent=True))


def test_nothing_is_worth_a_wait_where_nobody_waits() -> None:
    queue = Queue(0.0)
    queue.rooms.busy = {"a"}
    assert not queue.waiting.worth(refused(seconds=0.0))


async def test_who_waits_is_counted_until_it_goes_on() -> None:
    queue, asker = Queue(), Asker(refused(), refused(), "in")
    task = queue.ask(asker)
    await turns_of_the_loop()
    assert queue.rooms.waiting == {"a": 1}
    queue.waiting.changed()
    await turns_of_the_loop()
    assert not task.done()
    queue.waiting.changed()
    assert await task == "in"
    assert asker.asked == [(False, False), (False, True), (False, True)]
    assert queue.rooms.waiting == {"a": 0}


async def test_whoever_comes_behind_one_that_waits_is_not_asked_before_it() -> None:
    """In the same scope; in another, it is."""
    queue = Queue()
    first, second, other = Asker(refused("a"), "first"), Asker("second"), Asker("other")
    tasks = [queue.ask(first), queue.ask(second), queue.ask(other, "b")]
    await turns_of_the_loop()
    assert [task.done() for task in tasks] == [False, False, True]
    assert (first.asked, second.asked, other.asked) == ([(False, False)], [], [(False, False)])
    queue.waiting.changed()
    assert await asyncio.gather(*tasks) == ["first", "second", "other"]
    assert second.asked == [(False, True)]


async def test_one_that_cannot_go_on_holds_up_its_own_scope_and_no_other() -> None:
    """Everyone's scope holds up everyone, from the next look on."""
    queue = Queue()
    first, second = Asker(refused("a"), refused("a"), refused("all"), "first"), Asker("second")
    other = Asker(refused("b"), refused("b"), "other")
    tasks = [queue.ask(first), queue.ask(second), queue.ask(other, "b")]
    await turns_of_the_loop()
    queue.waiting.changed()  # the first is in the way of the second, and not of the other
    assert (len(first.asked), len(second.asked), len(other.asked)) == (2, 0, 2)
    queue.waiting.changed()
    assert (len(first.asked), len(second.asked), len(other.asked)) == (3, 0, 2)
    late = Asker("late")
    behind = queue.ask(late, "c")
    await turns_of_the_loop()
    assert not behind.done()
    queue.waiting.changed()
    assert await asyncio.gather(*tasks, behind) == ["first", "second", "other", "late"]


async def test_who_comes_behind_one_that_waits_too_long_is_told_what_that_one_was() -> None:
    """It is not asked, since what is left is not for it."""
    queue = Queue()
    ahead = refused("a", seconds=9.0)
    queue.rooms.busy = {"a"}
    first, second = queue.ask(Asker(ahead)), Asker("second")
    await turns_of_the_loop()
    queue.rooms.busy = set()
    assert await queue.ask(second) is ahead
    assert second.asked == []
    first.cancel()


async def test_a_limit_is_set_on_how_many_of_a_subsystem_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    """The next takes what there is, or is told; other subsystems wait as before."""
    assert MOST_WAITING == 1_024
    monkeypatch.setattr("epad.gateway.waiting.MOST_WAITING", 2)
    queue = Queue()
    waiting = [queue.ask(Asker(refused("a"))) for _ in range(2)]
    await turns_of_the_loop()
    over, other = Asker("over"), Asker(refused("b"))
    assert await queue.ask(over) == refused("a")
    assert over.asked == []
    waiting.append(queue.ask(other, "b"))
    await turns_of_the_loop()
    assert queue.rooms.waiting == {"a": 2, "b": 1}
    waiting[0].cancel()
    await turns_of_the_loop()
    again = queue.ask(Asker("again"))
    await turns_of_the_loop()
    assert queue.rooms.waiting == {"a": 2, "b": 1}
    assert await queue.ask(over) == refused(
        "a"
    )  # those who still wait are not forgotten with the one that left
    for task in (*waiting, again):
        task.cancel()
    await turns_of_the_loop()
    assert queue.rooms.waiting == {"a": 0, "b": 0}


async def test_when_its_time_is_over_it_takes_whatever_there_is() -> None:
    queue, asker = Queue(0.02), Asker(refused(seconds=0.01), refused(seconds=0.01))
    assert await queue.ask(asker) == "at last"
    assert asker.asked[-1] == (True, True)
    assert queue.rooms.waiting == {"a": 0}


async def test_one_that_no_waiting_helps_any_more_is_told_so_at_once() -> None:
    queue, never = Queue(), refused(permanent=True)
    task = queue.ask(Asker(refused(), never))
    await turns_of_the_loop()
    queue.waiting.changed()
    assert await task is never


async def test_what_an_attempt_raises_is_its_own_and_those_behind_go_on() -> None:
    queue = Queue()
    tasks = [queue.ask(Asker(refused(), ValueError("mine"))), queue.ask(Asker("second"))]
    await turns_of_the_loop()
    queue.waiting.changed()
    with pytest.raises(ValueError, match="mine"):
        await tasks[0]
    assert await tasks[1] == "second"
    assert queue.rooms.waiting == {"a": 0}


async def test_a_request_that_is_given_up_lets_those_behind_it_go_on() -> None:
    queue = Queue()
    first, second = queue.ask(Asker(refused())), queue.ask(Asker("second"))
    await turns_of_the_loop()
    first.cancel()
    await turns_of_the_loop(second.done)
    assert second.done()  # at once, and not when the queue is looked at for some other reason
    assert await second == "second"
    assert queue.undone == []
    with pytest.raises(asyncio.CancelledError):
        await first


@pytest.mark.parametrize(
    ("answer", "undone"), [("in", ["in"]), (refused(permanent=True), []), (ValueError("mine"), [])]
)
async def test_what_is_reserved_for_one_that_goes_away_at_that_moment_is_undone(
    answer: str | Refused | Exception, undone: list[str]
) -> None:
    queue = Queue()
    task = queue.ask(Asker(refused(), answer))
    await turns_of_the_loop()
    queue.waiting.changed()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert queue.undone == undone
    assert queue.rooms.waiting == {"a": 0}


async def test_whoever_waits_is_turned_away_when_the_gateway_stops() -> None:
    queue = Queue()
    tasks = [queue.ask(Asker(refused(), "in")), queue.ask(Asker(refused(permanent=False)), "b")]
    await turns_of_the_loop()
    queue.waiting.changed()  # the first has just been let in
    queue.waiting.close(RuntimeError("stopping"))
    assert await tasks[0] == "in"
    with pytest.raises(RuntimeError, match="stopping"):
        await tasks[1]


class Alarms:
    """What the event loop was asked to do later; nothing is done."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.set: list[float] = []
        self.cancelled = 0
        self.rung: list[Callable[[], None]] = []
        monkeypatch.setattr(asyncio.get_running_loop(), "call_later", self._later)

    def _later(self, seconds: float, work: Callable[[], None]) -> Alarms:
        self.set.append(round(seconds, 6))
        self.rung.append(work)
        return self

    def cancel(self) -> None:
        self.cancelled += 1


async def test_a_window_is_looked_at_when_it_frees_and_within_a_second(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A little after the edge of its bucket; the earliest of those who wait decides, one alarm at a time."""
    queue, alarms = Queue(), Alarms(monkeypatch)
    first = queue.ask(Asker(refused("a", 4.0), refused("a", 0.5), refused("a", -1.0), "first"))
    await turns_of_the_loop()
    second = queue.ask(Asker(refused("b", 0.2), refused("b", 0.3), "second"), "b")
    await turns_of_the_loop()
    assert (alarms.set, alarms.cancelled) == ([1.0, 0.21], 1)
    alarms.rung[-1]()
    assert (alarms.set, alarms.cancelled) == ([1.0, 0.21, 0.31], 2)
    alarms.rung[-1]()  # the second goes on; the first is due
    assert alarms.set == [1.0, 0.21, 0.31, 0.01]
    assert await second == "second"
    await turns_of_the_loop(first.done)
    queue.waiting.changed()
    assert await first == "first"
    set_so_far = len(alarms.set)
    queue.waiting.changed()
    assert len(alarms.set) == set_so_far  # nobody waits, and nothing is looked at
