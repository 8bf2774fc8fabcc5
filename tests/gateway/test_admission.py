"""Who is let in, with how much, in which order, and after which wait."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from virtual_time import VirtualTime

from epad.configuration.schema import BudgetConfig, SharedBudgetConfig
from epad.gateway.access import Access
from epad.gateway.admission import Admission, Admitted
from epad.gateway.allowance import LEAST_USEFUL_TOKENS, Allowance, Room, Wish
from epad.gateway.budget import Budgets, Refused, Reservation, SharedBudgets
from epad.gateway.money import Price
from epad.gateway.refusal import STOPPING, RefusalError
from statemachine.clock import ManualClock
from statemachine.containment import Rung

DIGEST = b"the prompt"


class House:
    """Budgets, and an admission before them that waits so long."""

    def __init__(
        self, seconds: float = 5.0, shared: SharedBudgets | None = None, **limits: BudgetConfig
    ) -> None:
        self.clock = ManualClock()
        self.budgets = Budgets(limits, 100, shared) if shared else Budgets(limits, 100)
        self.access = Access(self.clock)
        self.admission = Admission(self.budgets, self.access, self.clock, seconds)

    def ask(
        self, name: str = "a", tokens: int = 400, *, named: bool = True
    ) -> asyncio.Task[Admitted | Refused]:
        return asyncio.create_task(self.admission.admit(name, Wish(100, tokens, named), DIGEST))

    def settle(self, admitted: Admitted, spent: int) -> None:
        self.budgets.settle(admitted.reservation, spent, self.clock.monotonic())
        self.admission.settled()

    def used(self, scope: str = "a") -> int:
        return self.budgets.snapshot(scope, self.clock.monotonic())["tokens_per_minute"].used


async def turns_of_the_loop(until: Callable[[], bool] = lambda: False) -> None:
    for _ in range(20):
        if until():
            return
        await asyncio.sleep(0)


async def let_in(task: asyncio.Task[Admitted | Refused]) -> Admitted:
    admitted = await task
    assert isinstance(admitted, Admitted)
    return admitted


async def test_whoever_asks_for_more_than_is_left_gets_what_is_left() -> None:
    house = House(a=BudgetConfig(tokens_per_minute=1_000))
    first = await let_in(house.ask(tokens=400))
    second = await let_in(house.ask(tokens=9_000))
    assert (first.cap, first.cut_by) == (400, "")
    assert (second.cap, second.cut_by, house.used()) == (400, "a", 1_000)


async def test_a_request_that_finds_no_room_waits_for_a_turn_in_flight() -> None:
    """What is given back lets it go on, at once and whole."""
    house = House(a=BudgetConfig(tokens_per_minute=1_000))
    first = await let_in(house.ask(tokens=900))
    waiting = house.ask(tokens=300)
    await turns_of_the_loop()
    assert not waiting.done()
    house.settle(first, 150)
    assert (await let_in(waiting)).cap == 300
    assert house.used() == 150 + 400


async def test_too_little_to_be_of_use_is_taken_only_when_the_wait_is_over() -> None:
    """Nobody is refused who could be given less; and nobody is given ten tokens who could have had all."""
    house = House(seconds=0.05, a=BudgetConfig(tokens_per_minute=1_000))
    first = await let_in(house.ask(tokens=790))
    assert (await let_in(house.ask(tokens=500))).cap == 10
    house.settle(first, 890)
    refused = await house.ask(tokens=500)
    assert isinstance(refused, Refused)
    assert refused.limit == "tokens_per_minute"


async def test_a_spent_window_that_frees_too_late_is_refused_at_once_with_the_exact_time(
    virtual_time: VirtualTime,
) -> None:
    house = House(seconds=5.0, a=BudgetConfig(tokens_per_minute=1_000))
    house.settle(await let_in(house.ask(tokens=900)), 1_000)
    house.clock.advance(20)
    refused = await asyncio.wait_for(house.ask(), 4)
    assert isinstance(refused, Refused)
    assert 40 <= refused.retry_after_seconds <= 41
    assert house.admission.foresee("a") == house.budgets.foresee("a", house.clock.monotonic())


async def test_a_window_that_frees_in_time_is_waited_for(virtual_time: VirtualTime) -> None:
    house = House(seconds=5.0, a=BudgetConfig(tokens_per_minute=1_000))
    house.settle(await let_in(house.ask(tokens=900)), 1_000)
    house.clock.advance(58)
    assert house.admission.foresee("a") is None
    waiting = house.ask()
    await turns_of_the_loop()
    assert not waiting.done()
    house.clock.advance(3)
    assert (await asyncio.wait_for(let_in(waiting), 4)).cap == 400


async def test_those_who_wait_go_on_in_the_order_in_which_they_came() -> None:
    """A small one that would fit does not pass a large one before it in the same scope."""
    house = House(a=BudgetConfig(tokens_per_minute=1_000))
    first = await let_in(house.ask(tokens=850))
    order: list[str] = []
    large, small = house.ask(tokens=600), house.ask(tokens=20)
    large.add_done_callback(lambda _: order.append("large"))
    small.add_done_callback(lambda _: order.append("small"))
    await turns_of_the_loop()
    assert order == []
    house.settle(first, 10)
    await asyncio.gather(large, small)
    assert order == ["large", "small"]


async def test_one_subsystems_wait_is_no_others(virtual_time: VirtualTime) -> None:
    """Its own budget is in its way; the one for everyone is not."""
    shared = SharedBudgets({}, {}, SharedBudgetConfig(tokens_per_minute=100_000))
    house = House(
        shared=shared, a=BudgetConfig(tokens_per_minute=1_000), b=BudgetConfig(tokens_per_minute=1_000)
    )
    await let_in(house.ask("a", tokens=900))
    waiting = house.ask("a")
    await turns_of_the_loop()
    assert (await asyncio.wait_for(let_in(house.ask("b")), 4)).cap == 400
    waiting.cancel()


async def test_eight_at_once_without_a_cap_share_what_is_left() -> None:
    """20,000 a minute, as in real.md R3: eight run at once, each with enough for an answer."""
    house = House(a=BudgetConfig(tokens_per_minute=20_000))
    admitted = await asyncio.gather(*(let_in(house.ask(tokens=4_096, named=False)) for _ in range(8)))
    assert min(each.cap for each in admitted) >= LEAST_USEFUL_TOKENS
    assert house.used() <= 20_000


async def test_an_agent_that_asks_one_after_the_other_has_all_that_is_left() -> None:
    """Once it is known to ask alone, nothing is held back for others."""
    house = House(a=BudgetConfig(tokens_per_minute=3_000))
    first = await let_in(house.ask(tokens=4_096, named=False))
    assert first.cap == 2_900 // 4
    house.settle(first, 300)
    assert (await let_in(house.ask(tokens=4_096, named=False))).cap == 2_700 - 100


async def test_a_client_that_goes_away_while_it_waits_leaves_nothing_behind(
    virtual_time: VirtualTime,
) -> None:
    """Not even if its turn came in that very moment."""
    house = House(a=BudgetConfig(tokens_per_minute=1_000))
    first = await let_in(house.ask(tokens=900))
    gone, next_one = house.ask(tokens=600), house.ask(tokens=500)
    await turns_of_the_loop()
    house.settle(first, 0)
    gone.cancel()
    with pytest.raises(asyncio.CancelledError):
        await gone
    assert (await asyncio.wait_for(let_in(next_one), 4)).cap == 500
    assert house.used() == 600
    assert house.budgets.in_flight("a") == 1


async def test_a_subsystem_that_is_quarantined_while_it_waits_is_told_so() -> None:
    house = House(a=BudgetConfig(tokens_per_minute=1_000))
    first = await let_in(house.ask(tokens=900))
    waiting = house.ask()
    await turns_of_the_loop()
    house.access.hold("a", Rung.BLOCK, "it loops")
    house.settle(first, 0)
    with pytest.raises(RefusalError, match="quarantined") as caught:
        await waiting
    assert caught.value.refusal == house.access.shut("a")
    assert caught.value.prompt_digest == DIGEST
    assert house.used() == 0


async def test_a_subsystem_that_is_quarantined_just_as_its_turn_comes_holds_nothing() -> None:
    """What was reserved a moment before is given back, and whoever waits for it goes on."""
    everyone = SharedBudgets({}, {}, SharedBudgetConfig(tokens_per_minute=1_000))
    house = House(shared=everyone, a=BudgetConfig(), b=BudgetConfig())
    first = await let_in(house.ask(tokens=900))
    waiting, behind = house.ask(tokens=900), house.ask("b", tokens=900)
    await turns_of_the_loop()
    house.settle(first, 0)
    house.access.hold("a", Rung.BLOCK, "it loops")
    with pytest.raises(RefusalError, match="quarantined") as caught:
        await waiting
    assert caught.value.refusal == house.access.shut("a")
    assert caught.value.prompt_digest == DIGEST
    await turns_of_the_loop(behind.done)
    assert (await let_in(behind)).cap == 900
    assert house.budgets.in_flight("a") == 0


async def test_a_subsystem_that_is_quarantined_already_does_not_wait_for_its_budget() -> None:
    house = House(a=BudgetConfig(tokens_per_minute=1_000))
    await let_in(house.ask(tokens=900))
    house.access.hold("a", Rung.BLOCK, "it loops")
    asked = house.ask()
    await turns_of_the_loop(asked.done)
    assert asked.done()
    with pytest.raises(RefusalError, match="quarantined"):
        await asked


async def test_every_choice_is_reserved_for_in_tokens_and_in_money(virtual_time: VirtualTime) -> None:
    """At the dearest that they can cost; what the turn then cost is all that stays."""
    price = Price(2_000_000, 5_000_000, 2_000_000, 2_000_000, 5_000_000)
    house = House(a=BudgetConfig(tokens_per_minute=10_000, usd_per_minute=0.01))
    asked = house.admission.admit("a", Wish(100, 400, True, choices=3, price=price), DIGEST)
    got = await asyncio.wait_for(asked, 4)
    assert isinstance(got, Admitted)
    assert (got.cap, got.reservation.tokens, got.reservation.microusd) == (400, 1_300, 6_200)
    money = house.budgets.snapshot("a", house.clock.monotonic())["microusd_per_minute"]
    assert money.used == 6_200
    # Of 10,000 micro-USD 3,800 are left: 200 for the prompt, 5 for each token of either choice.
    second = await house.admission.admit("a", Wish(100, 400, True, choices=2, price=price), DIGEST)
    assert isinstance(second, Admitted)
    assert (second.cap, second.cut_by, second.reservation.microusd) == (360, "a", 3_800)


@pytest.mark.parametrize("seconds", [0.0, 5.0])
@pytest.mark.parametrize(("tokens", "limit", "cap"), [(0, 100, 0), (400, 101, 1)])
async def test_a_budget_is_of_use_to_its_last_token(
    virtual_time: VirtualTime, seconds: float, tokens: int, limit: int, cap: int
) -> None:
    """A prompt alone, such as that of a vector, or one token beside it: nothing more is waited for."""
    house = House(seconds=seconds, a=BudgetConfig(tokens_per_minute=limit))
    assert (await asyncio.wait_for(let_in(house.ask(tokens=tokens)), 4)).cap == cap
    assert house.used() == limit


@pytest.mark.parametrize("seconds", [0.0, 0.02])
@pytest.mark.parametrize(("tokens", "choices"), [(400, 1), (400, 3), (1, 1), (0, 1)])
@pytest.mark.parametrize("left", [99, 100, 101, 103, 104, 110])
async def test_where_waiting_brings_no_more_the_last_tokens_are_given(
    virtual_time: VirtualTime, seconds: float, tokens: int, choices: int, left: int
) -> None:
    """Each choice has its part of them, one token at least; if not even that fits, the refusal says what was asked."""
    house = House(seconds=seconds, a=BudgetConfig(tokens_per_minute=1_000))
    assert not isinstance(house.budgets.reserve("a", 1_000 - left, house.clock.monotonic()), Refused)
    asked = house.admission.admit("a", Wish(100, tokens, True, choices), DIGEST)
    got = await asyncio.wait_for(asked, 5)
    cap = min(tokens, (left - 100) // choices)
    if cap >= min(tokens, 1):
        assert got == Admitted(Reservation(2, "a", 100 + cap * choices), cap, "a" if cap < tokens else "")
    else:
        least = 100 + min(tokens, 1) * choices
        assert got == house.budgets.refuses("a", least, house.clock.monotonic())
        assert isinstance(got, Refused)


async def test_what_fits_is_reserved_at_once_if_nobody_waits() -> None:
    """As `admit` does; where there is no room, or somebody is before it, it has to go that way."""
    house = House(a=BudgetConfig(tokens_per_minute=1_000), b=BudgetConfig())
    wish = Wish(100, 400, True, choices=2)
    assert house.admission.at_once("a", wish, DIGEST) == Admitted(Reservation(1, "a", 900), 400)
    assert house.admission.at_once("a", wish, DIGEST) is None
    waiting = house.ask()
    await turns_of_the_loop()
    assert house.admission.at_once("b", wish, DIGEST) is None
    waiting.cancel()
    await turns_of_the_loop(waiting.done)
    assert house.admission.at_once("b", wish, DIGEST) == Admitted(Reservation(2, "b", 900), 400)
    house.access.hold("b", Rung.BLOCK, "it loops")
    with pytest.raises(RefusalError, match="quarantined") as caught:
        house.admission.at_once("b", wish, DIGEST)
    assert caught.value.prompt_digest == DIGEST


@pytest.mark.parametrize(
    "value",
    [Wish(1, 2, True), Room("a", 1, 1, 1), Allowance(1), Admitted(Reservation(1, "a", 5), 5)],
    ids=lambda value: type(value).__name__,
)
def test_nobody_changes_what_was_wished_or_allowed(value: Any) -> None:
    for name in type(value).__struct_fields__:
        with pytest.raises(AttributeError):
            setattr(value, name, None)


async def test_a_gateway_that_stops_turns_away_whoever_waits() -> None:
    house = House(a=BudgetConfig(tokens_per_minute=1_000))
    await let_in(house.ask(tokens=900))
    waiting = house.ask()
    await turns_of_the_loop()
    house.admission.close(RefusalError(STOPPING))
    with pytest.raises(RefusalError, match="stopping"):
        await waiting


@pytest.mark.parametrize(("held", "cap"), [(13, 12), (14, None)])
async def test_half_of_what_the_budgets_could_ever_give_is_worth_having(held: int, cap: int | None) -> None:
    """Of 125 tokens a prompt of 100 leaves 25: from 12 on it goes on at once, with less it waits for the other."""
    house = House(a=BudgetConfig(tokens_per_minute=125))
    assert not isinstance(house.budgets.reserve("a", held, house.clock.monotonic()), Refused)
    asked = house.ask()
    await turns_of_the_loop(asked.done)
    assert asked.done() is (cap is not None)
    if cap is not None:
        assert (await let_in(asked)).cap == cap
    asked.cancel()


async def test_one_that_waits_does_not_share_with_itself() -> None:
    """Two ran at once of late: when one that has waited goes on, one more is expected beside it, and no two."""
    house = House(a=BudgetConfig(tokens_per_minute=3_200))
    first, second = await let_in(house.ask(tokens=400)), await let_in(house.ask(tokens=2_600))
    house.settle(first, 500)
    waiting = house.ask(tokens=4_096, named=False)
    await turns_of_the_loop()
    assert not waiting.done()
    house.settle(second, 0)
    assert (await let_in(waiting)).cap == 2_600 // 2


def test_what_is_not_cut_names_no_scope() -> None:
    assert Admitted(Reservation(1, "a", 5), 5).cut_by == ""


async def test_a_place_in_flight_is_waited_for_as_well() -> None:
    house = House(a=BudgetConfig(max_in_flight=1))
    first = await let_in(house.ask())
    waiting = house.ask()
    await turns_of_the_loop()
    assert not waiting.done()
    house.settle(first, 100)
    assert (await let_in(waiting)).cap == 400


STEPS = st.lists(
    st.tuples(st.sampled_from("aab"), st.integers(0, 900), st.booleans(), st.floats(0, 1)),
    min_size=1,
    max_size=25,
)


@settings(max_examples=60, deadline=None)
@given(STEPS, st.randoms(use_true_random=False))
def test_in_any_order_no_limit_is_crossed_and_nothing_is_left_reserved(steps: list[Any], chance) -> None:
    """Ask, settle, give up and let time pass at will: the windows hold, and at the end everything is free again."""

    async def live() -> None:
        shared = SharedBudgets({}, {}, SharedBudgetConfig(tokens_per_minute=1_500))
        limits = {"a": BudgetConfig(tokens_per_minute=1_000), "b": BudgetConfig(tokens_per_minute=900)}
        house = House(seconds=0.02, shared=shared, **limits)
        tasks: list[asyncio.Task[Admitted | Refused]] = []
        running: list[Admitted] = []
        for name, tokens, named, what in steps:
            tasks.append(house.ask(name, tokens, named=named))
            if what < 0.2:
                chance.choice(tasks).cancel()
            elif what < 0.3:
                house.clock.advance(20)
            await turns_of_the_loop()
            for task in [each for each in tasks if each.done()]:
                tasks.remove(task)
                if not task.cancelled() and isinstance(got := task.result(), Admitted):
                    running.append(got)
            if running and what > 0.5:
                done = running.pop(chance.randrange(len(running)))
                house.settle(done, chance.randint(0, done.reservation.tokens))
            for scope, limit in (("a", 1_000), ("b", 900), ("all", 1_500)):
                assert house.used(scope) <= limit
        ended = await asyncio.gather(*tasks, return_exceptions=True)
        running += [got for got in ended if isinstance(got, Admitted)]
        for admitted in running:
            house.settle(admitted, 0)
        assert house.budgets.in_flight("all") == 0
        house.clock.advance(100)
        assert house.used("all") == 0

    asyncio.run(live())
