"""Runaways of every kind, each found within so many turns of its onset; and what of them is no other's finding."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import pytest
from turn_streams import Ask, Client, Heard, Players, Refused, Wait

from probes.blame import Fault
from probes.turns import Last
from statemachine.rung import Rung

LONG = 120


def tight(*, greedy: bool = False, drawn: bool = False, tokens: int = LONG, pause: float = 0.05) -> Client:
    """One prompt, one answer."""
    while True:
        yield Ask(
            "again", "the same", tokens=tokens, greedy=greedy, drawn=drawn, sampling="t" if drawn else ""
        )
        yield Wait(pause)


def warm() -> Client:
    """One prompt, at a temperature: the answers differ in their words."""
    for turn in itertools.count():
        yield Ask("again", f"words {turn}", drawn=True, sampling="t")


def cycle(prompts: int, *, greedy: bool = True) -> Client:
    """A few prompts in turn, each with its answer."""
    for turn in itertools.count():
        yield Ask(f"p{turn % prompts}", f"r{turn % prompts}", greedy=greedy)


def appending(*, same: bool, drawn: bool = True, pause: float = 0.2, last: Last = Last.RESULT) -> Client:
    """The same message on a prompt that grows: a tool that fails, a step that is not taken."""
    for turn in itertools.count():
        yield Ask(
            f"p{turn}", "call the tool" if same else f"try {turn}", tokens=40, prompt_tokens=1_000 + 200 * turn,
            conversation="c", message="it came back", messages=2 * turn + 1, drawn=drawn, last=last,
        )  # fmt: skip
        yield Wait(pause)


def politeness(seconds: float = 3.0) -> Client:
    """Two agents that thank each other for ever: each waits for the other, and for nothing else."""
    for turn in itertools.count():
        for one, (heard, said) in enumerate(
            (("you are welcome", "thank you"), ("thank you", "you are welcome"))
        ):
            yield Ask(
                f"{one}:{turn}", said, seconds=seconds, tokens=12, prompt_tokens=500 + 30 * turn,
                conversation=f"c{one}", message=heard, messages=2 * turn + 1, drawn=True,
            )  # fmt: skip


def counting(*, grows: bool = False) -> Client:
    """A prompt with a counter in it: no two are alike, and the answer is."""
    for turn in itertools.count():
        yield Ask(
            f"try {turn}", "I will try once more.", tokens=60, prompt_tokens=1_000 + (90 * turn if grows else 0),
            conversation="c" if grows else f"c{turn}", message=f"try {turn}", shape="try 0",
            messages=2 * turn + 1 if grows else 1,
        )  # fmt: skip


def circling() -> Client:
    """A growing conversation whose long answers go round, whatever is asked, without any hurry."""
    for turn in itertools.count():
        yield Ask(
            f"p{turn}", ("A", "B")[turn % 2], seconds=3.0, tokens=300, prompt_tokens=1_000 + 400 * turn,
            conversation="c", message=f"m{turn}", messages=2 * turn + 1,
        )  # fmt: skip
        yield Wait(17.0)


def storming(workers: int = 40) -> list[Client]:
    """Workers that ask again at once, whatever they are told."""

    def worker(number: int) -> Client:
        for turn in itertools.count():
            if turn % 40 == 0 and number < 8:
                yield Ask(f"w{number}.{turn}", f"{number}.{turn}", drawn=True)
            yield Refused(1.0)
            yield Wait(0.1)

    return [worker(number) for number in range(workers)]


def at_once(workers: int) -> list[Client]:
    """Several workers in the same loop."""
    return [tight(greedy=True) for _ in range(workers)]


RUNAWAYS: dict[str, tuple[Callable[[], list[Client]], int, str]] = {
    "one prompt at temperature 0": (lambda: [tight(greedy=True)], 8, "identical_prompts"),
    "one prompt, nothing said of sampling": (lambda: [tight()], 14, "identical_prompts"),
    "one prompt, an answer of a word": (lambda: [tight(tokens=3)], 26, "identical_prompts"),
    "one prompt, six workers": (lambda: at_once(6), 60, "identical_prompts"),
    "one prompt, the answers differ": (lambda: [warm()], 201, "sampled_prompts"),
    "two prompts in turn": (lambda: [cycle(2)], 12, "duplicate_prompts"),
    "three prompts in turn": (lambda: [cycle(3)], 17, "duplicate_prompts"),
    "five prompts in turn": (lambda: [cycle(5)], 27, "duplicate_prompts"),
    "five prompts in turn, nothing said": (lambda: [cycle(5, greedy=False)], 50, "duplicate_prompts"),
    "the same call, the same result": (lambda: [appending(same=True)], 8, "loop"),
    "the same call, a tool that takes 3 s": (lambda: [appending(same=True, pause=3.0)], 60, "appended_loop"),
    "the same message, other answers": (lambda: [appending(same=False)], 100, "appended_loop"),
    "the same error, other answers": (lambda: [appending(same=False, last=Last.ERROR)], 9, "appended_loop"),
    "the same call, the same error": (lambda: [appending(same=True, last=Last.ERROR)], 6, "loop"),
    "the same words, the same answer": (lambda: [appending(same=True, last=Last.SAID)], 6, "loop"),
    "one prompt every ten seconds, a paragraph": (
        lambda: [tight(greedy=True, pause=9.0)],
        8,
        "identical_prompts",
    ),
    "two agents that are polite": (lambda: [politeness()], 24, "appended_loop"),
    "a counter in the prompt": (lambda: [counting()], 14, "renumbered_prompts"),
    "a counter in a growing prompt": (lambda: [counting(grows=True)], 14, "loop"),
    "answers that go round": (lambda: [circling()], 14, "loop"),
    "workers that do not wait": (storming, 200, "pile_up"),
}


def found(clients: list[Client]) -> Heard:
    return Players(max_in_flight=8).play(*clients, most_turns=1_000, stop=True)


@pytest.mark.parametrize("name", RUNAWAYS)
def test_a_runaway_is_found_soon_and_slowed_first(name: str) -> None:
    """By the detector that says what it is; certainty is not needed for a throttle."""
    clients, turns, detector = RUNAWAYS[name]
    heard = found(clients())
    assert detector in heard.detectors
    assert heard.at_turn is not None
    assert heard.at_turn <= turns
    assert heard.bad[0].rung is Rung.THROTTLE


@pytest.mark.parametrize(
    "name", ["one prompt at temperature 0", "two prompts in turn", "the same call, the same result"]
)
def test_what_goes_on_under_its_throttle_is_frozen(name: str) -> None:
    """One request in ten seconds is let through, and each says the same: after two minutes that is enough."""
    clients, _, _ = RUNAWAYS[name]
    players = Players()

    def slowed(client: Client) -> Client:
        for step in client:
            yield step
            if players.heard.bad and isinstance(step, Ask):
                yield Refused(10.0, "subsystem_throttled", "")
                yield Wait(10.0)

    heard = players.play(*(slowed(client) for client in clients()), most_turns=60)
    frozen = [f for f in heard.bad if f.rung is Rung.FREEZE]
    assert frozen
    assert frozen[0].probe == "token_burn"
    assert 120 <= frozen[0].at - heard.at_seconds <= 150
    assert "still so after" in frozen[0].reason


def test_a_throttled_client_that_does_other_work_is_not_frozen() -> None:
    players = Players()

    def client() -> Client:
        for _ in range(12):
            yield Ask("again", "the same", greedy=True)
        for turn in range(200):
            yield Ask(f"other {turn}", f"{turn}", greedy=True)
            yield Wait(10.0)

    heard = players.play(client())
    assert {f.rung for f in heard.bad} == {Rung.THROTTLE}
    assert max(f.at for f in heard.bad) < 60


def test_a_prompt_that_is_given_up_again_and_again_is_found_and_said_to_be() -> None:
    """A time-out that is too short for the model, and no end of trying; the words are about that."""

    def client() -> Client:
        while True:
            yield Ask("slow", seconds=2.0, outcome="cut", fault=Fault.CLIENT, drawn=True)

    heard = found([client()])
    assert heard.at_turn is not None
    assert heard.at_turn <= 52
    assert "gave up before the answer" in heard.bad[0].reason


def test_work_that_moves_on_is_no_loop() -> None:
    """The prompt is the same and so is the answer; what it is asked for gets done all the same."""
    players = Players()
    players.progress = players.clock.monotonic

    def client() -> Client:
        for _ in range(200):
            yield Ask("next", "done", greedy=True)

    assert players.play(client()).bad == []


def test_what_burns_says_that_its_prompts_grow() -> None:
    """No two messages are alike, so there is only the spending, and what it comes from."""
    players = Players(tokens_per_day=2_000_000)

    def client() -> Client:
        for turn in itertools.count():
            yield Ask(
                f"p{turn}", f"r{turn}", seconds=4.0, prompt_tokens=1_000 + 400 * turn, conversation="c",
                message=f"m{turn}", messages=2 * turn + 1, drawn=True,
            )  # fmt: skip

    heard = players.play(client(), most_turns=200, stop=True)
    assert heard.detectors == {"burn_rate"}
    assert "its prompts grow: from 1000 to" in heard.bad[0].reason


SLOWER: dict[str, tuple[Callable[[], Client], int]] = {
    "a paragraph every six seconds": (
        lambda: tight(greedy=True, tokens=60, pause=6.0), 26,
    ),
    "one text embedded without end": (
        lambda: (Ask("a text", tokens=0, seconds=0.05) for _ in itertools.count()), 25,
    ),
    "a hundred choices each time": (
        lambda: (
            Ask("again", "all of them", drawn=True, choices=100) for _ in itertools.count()
        ), 4,
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", SLOWER)
def test_what_costs_more_than_it_looks_is_found_too(name: str) -> None:
    client, turns = SLOWER[name]
    heard = found([client()])
    assert heard.at_turn is not None
    assert heard.at_turn <= turns
