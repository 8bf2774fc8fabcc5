"""Honest work of every kind that repeats itself, hundreds of turns of each: nobody is accused of anything."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest
from turn_streams import Ask, Client, Players, Refused, Wait

from probes.blame import Fault
from probes.turns import Last

RATIOS = {"error_ratio", "retry_ratio"}
"""Whose fault a failure is, is tested beside them."""

LONG = 200
"""Tokens of an answer in sentences; the labels and votes below have 1 to 30."""


def draws(
    questions: int, k: int, *, same: bool = False, tokens: int = LONG, seeds: bool = False, drawn: bool = True
) -> Client:
    """Self-consistency, best of n, epochs one question after the other: each prompt k times, then the next."""
    for question in range(questions):
        for draw in range(k):
            reply = f"{question}" if same else f"{question}.{draw}"
            sampling = f"seed {draw}" if seeds else "t" if drawn else ""
            yield Ask(f"q{question}", reply, tokens=tokens, drawn=drawn, sampling=sampling)


def in_order(questions: int, epochs: int, *, greedy: bool, same: bool) -> Client:
    """Epochs of an evaluation, all questions before the first comes again."""
    for epoch in range(epochs):
        for question in range(questions):
            yield Ask(
                f"q{question}",
                f"{question}" if same else f"{question}.{epoch}",
                greedy=greedy,
                drawn=not greedy,
            )


def shuffled(questions: int, epochs: int, seed: int) -> Client:
    """Epochs in any order."""
    order = [question for question in range(questions) for _ in range(epochs)]
    random.Random(seed).shuffle(order)
    for draw, question in enumerate(order):
        yield Ask(f"q{question}", f"{question}.{draw}", drawn=True)


def of_many(prompts: list[str], *, tokens: int = 2, labels: int = 2, greedy: bool = True) -> Client:
    """One prompt after the other, each answered by a label."""
    for prompt in prompts:
        yield Ask(prompt, f"label {hash(prompt) % labels}", tokens=tokens, greedy=greedy)


def batch(n: int, texts: int, seed: int, hot: float = 0.0) -> Client:
    """Labels for texts of which many come twice, some often."""
    rng = random.Random(seed)
    prompts = [f"text {0 if rng.random() < hot else rng.randrange(1, texts)}" for _ in range(n)]
    return of_many(prompts)


def yes_and_no(turns: int, answers: Callable[[int], str]) -> Client:
    """Questions in one growing conversation, each answered by a word."""
    for turn in range(turns):
        yield Ask(
            f"p{turn}", answers(turn), tokens=2, prompt_tokens=200 + 30 * turn, conversation="c",
            message=f"record {turn}", messages=2 * turn + 1, greedy=True,
        )  # fmt: skip


def polls(turns: int, pause: float, name: str = "c", tokens: int = 20) -> Client:
    """An agent that looks whether something is done: the same call, the same result, a pause between."""
    for turn in range(turns):
        yield Ask(
            f"{name}{turn}", "still running?", tokens=tokens, prompt_tokens=500 + 40 * turn, conversation=name,
            message="yes, it runs", messages=2 * turn + 1, greedy=True,
        )  # fmt: skip
        yield Wait(pause)


def health(turns: int, pause: float, tokens: int = 2) -> Client:
    """The same question at temperature 0, on a timer."""
    for _ in range(turns):
        yield Ask("are you well?", "yes", tokens=tokens, greedy=True)
        yield Wait(pause)


def chat(turns: int, *, message: str = "", pause: float = 0.3) -> Client:
    """A conversation that gets somewhere."""
    for turn in range(turns):
        yield Ask(
            f"p{turn}", f"chapter {turn}", tokens=LONG, prompt_tokens=500 + 250 * turn, conversation="c",
            message=message or f"message {turn}", shape="message 0", messages=2 * turn + 1, drawn=True,
        )  # fmt: skip
        yield Wait(pause)


def by_hand(scripts: int, runs: int) -> Client:
    """A person who runs one script after the other ten times, now sooner and now later."""
    rng = random.Random(1)
    for script in range(scripts):
        for _ in range(runs):
            yield Ask(f"script {script}", f"paragraph {script}", tokens=80, greedy=True)
            yield Wait(rng.uniform(4.0, 12.0))


def reports(turns: int) -> Client:
    """Readings of a sensor, each with a report by a schema: the numbers are all that is new."""
    for turn in range(turns):
        yield Ask(f"reading {turn}", "{all is well}", tokens=40, shape="reading 0", greedy=True, data=True)


def mending(failures: int, error: str, last: Last) -> Client:
    """An agent that tries one thing after the other, and hears the same of each until it passes."""
    for job in range(20):
        for turn in range(failures + 1):
            yield Ask(
                f"j{job}.{turn}", f"patch {job}.{turn}", tokens=LONG, prompt_tokens=500 + 200 * turn,
                conversation=f"c{job}", message=error if 0 < turn < failures else f"job {job}.{turn}",
                messages=2 * turn + 1, last=last, drawn=True,
            )  # fmt: skip
            yield Wait(0.5)


def given_up(turns: int) -> Client:
    """Every third prompt is asked three times: the client's own time-out is shorter than the server is slow."""
    for turn in range(turns):
        for _ in range(3 if turn % 3 == 0 else 0):
            yield Ask(f"q{turn}", seconds=5.0, outcome="cut", fault=Fault.CLIENT, greedy=True)
        yield Ask(f"q{turn}", f"a{turn}", greedy=True)


def outage(turns: int) -> Client:
    """The server is gone, and the client asks until it is back."""
    for turn in range(turns):
        down = 20 <= turn % 100 < 80
        if down:
            yield Ask(
                "q", seconds=0.1, outcome="failed", fault=Fault.UPSTREAM, status=502, tokens=0, greedy=True
            )
            yield Wait(1.0)
        else:
            yield Ask(f"q{turn}", f"a{turn}", greedy=True)


def votes(rounds: int) -> Client:
    """The wargame: five defenders vote on one conversation, each try with its mark; the verdicts are alike."""
    for number in range(rounds):
        for vote in range(5):
            yield Ask(f"round {number}", "attack", tokens=30, greedy=True, attempt=f"{number}/{vote}")


def vectors(turns: int) -> Client:
    """Embeddings: nothing is said, and texts come again."""
    for turn in range(turns):
        yield Ask(f"text {turn % 12}", tokens=0, seconds=0.05)


def patient(workers: int, turns: int) -> list[Client]:
    """Forty workers of which eight are let in: the others wait for the second that they are told, and come back."""
    in_flight: set[int] = set()

    def worker(number: int) -> Client:
        for turn in range(turns):
            while len(in_flight) >= 8:
                yield Refused(1.0)
                yield Wait(1.0)
            in_flight.add(number)
            yield Ask(f"w{number}.{turn}", f"{number}.{turn}", seconds=1.5, drawn=True)
            in_flight.remove(number)

    return [worker(number) for number in range(workers)]


def continued(message: str, name: str, *, last: Last = Last.SAID) -> Client:
    """A conversation that goes on by the same word each time, and each answer is another: a novel, a row of files."""
    for turn in range(95):
        yield Ask(
            f"{name}{turn}", f"part {turn}", tokens=300, prompt_tokens=500 + 320 * turn, conversation=name,
            message=message, messages=2 * turn + 1, drawn=True, last=last,
        )  # fmt: skip


HONEST: dict[str, Callable[[], list[Client]]] = {
    "self-consistency, 40 draws one after the other": lambda: [draws(12, 40)],
    "self-consistency, 40 draws of one letter": lambda: [draws(12, 40, same=True, tokens=1)],
    "five draws, other seeds": lambda: [draws(60, 5, seeds=True)],
    "five draws, other seeds, one long answer": lambda: [draws(60, 5, seeds=True, same=True)],
    "pass@k, 200 draws": lambda: [draws(3, 200)],
    "best of 100 at the server's own temperature": lambda: [draws(4, 100, drawn=False)],
    "100 draws, eight at once": lambda: [draws(4, 25) for _ in range(8)],
    "epochs: 12 of each, nothing said of sampling": lambda: [draws(25, 12, drawn=False, same=True)],
    "epochs: 20 of each, one letter, nothing said": lambda: [draws(15, 20, drawn=False, same=True, tokens=1)],
    "epochs: five of each at temperature 0": lambda: [draws(60, 5, drawn=False, same=True, tokens=20)],
    "epochs in order, 20 questions at temperature 0": lambda: [in_order(20, 20, greedy=True, same=True)],
    "epochs in order, 5 questions, 100 times": lambda: [in_order(5, 100, greedy=False, same=False)],
    "epochs in order, 5 questions, short answers": lambda: [in_order(5, 60, greedy=False, same=True)],
    "epochs in any order": lambda: [shuffled(30, 10, seed) for seed in range(3)],
    "multiple choice": lambda: [of_many([f"q{n}" for n in range(400)], tokens=1, labels=4)],
    "one verdict on all of it": lambda: [of_many([f"q{n}" for n in range(400)], tokens=30, labels=1)],
    "labels, 30 texts": lambda: [batch(500, 30, seed) for seed in range(1)],
    "labels, 60 texts, four at once": lambda: [batch(200, 60, seed) for seed in range(4)],
    "labels, one text in six the same": lambda: [batch(600, 400, 7, hot=0.17)],
    "yes to every question of a conversation": lambda: [yes_and_no(300, lambda _: "yes")],
    "yes and no in turn": lambda: [yes_and_no(300, lambda turn: ("yes", "no")[turn % 2])],
    "novels by the word continue": lambda: [continued("continue", f"c{n}") for n in range(3)],
    "agents that write ninety-five files, each of which is ok": lambda: [
        continued("ok", f"c{n}", last=Last.RESULT) for n in range(3)
    ],
    "an agent that polls, 10 s": lambda: [polls(300, 10.0)],
    "an agent that polls, 5 s": lambda: [polls(300, 5.0)],
    "an agent that polls, 60 s": lambda: [polls(200, 60.0)],
    "three agents that poll at once": lambda: [polls(150, 10.0, f"c{n}") for n in range(3)],
    "a poll beside a batch": lambda: [polls(60, 10.0), *(draws(30, 8, drawn=True) for _ in range(2))],
    "a poll beside one slow answer after the other": lambda: [
        polls(60, 10.0), (Ask(f"essay {n}", f"{n}", seconds=120.0) for n in range(6)),
    ],
    "health checks, 5 s": lambda: [health(300, 5.0)],
    "a dashboard that asks each half minute, a paragraph": lambda: [health(200, 30.0, tokens=80)],
    "n = 10, twenty times over": lambda: [
        (Ask(f"q{n // 20}", f"{n}", drawn=True, choices=10) for n in range(400)),
    ],
    "health checks, a minute": lambda: [health(300, 60.0)],
    "a person who runs each script ten times": lambda: [by_hand(25, 10)],
    "readings of a sensor, one report": lambda: [reports(300)],
    "an agent that hears the same error eight times": lambda: [mending(9, "error: no such symbol", Last.ERROR)],
    "an agent whose tool says ok twelve times": lambda: [mending(13, "ok", Last.RESULT)],
    "a growing chat": lambda: [chat(200)],
    "continue, said by a person": lambda: [chat(60, message="continue", pause=8.0)],
    "retries of the client's own time-out": lambda: [given_up(200)],
    "an outage of the server": lambda: [outage(400)],
    "votes of a wargame": lambda: [votes(60)],
    "embeddings": lambda: [vectors(400)],
    "forty patient workers": lambda: patient(40, 10),
}  # fmt: skip


@pytest.mark.parametrize("name", HONEST)
def test_honest_work_is_not_accused(name: str) -> None:
    heard = Players(max_in_flight=8).play(*HONEST[name]())
    accused = [finding for finding in heard.bad if finding.evidence.get("detector") not in RATIOS]
    assert [(finding.evidence.get("detector"), finding.reason) for finding in accused][:1] == []
    assert heard.turns >= 200 or heard.seconds >= 480.0
