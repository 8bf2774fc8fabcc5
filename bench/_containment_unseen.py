"""Rows of bench/containment.py that were written without a look at what the detectors do with them.

They are rows of `_containment_honest.ROWS` and `_containment_runaway.RUNAWAYS`; importing this adds them.
"""

from __future__ import annotations

import itertools
import json
import random
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import _containment_shapes as shapes
import _containment_sheets as sheets
from _containment_honest import TOOLS, chat, row, split
from _containment_runaway import again, loop, runaway
from _containment_world import Ask, Change, Client, Manner, Reply


@row("five models compared prompt by prompt, one letter each, temperature 0")
def _(rng: random.Random, n: int) -> Sequence[Client]:
    asks = []
    for _ in range(max(1, n // 5)):
        body = chat(f"{shapes.prose(rng, 3)} A, B, C or D?", temperature=0, max_tokens=1)
        letter = rng.choice("ABCD")
        asks += [Ask(body | {"model": f"m-{k}"}, 0.1, Reply(letter, 0.3)) for k in range(5)]
    return [Client(asks)]


@row("a query embedded for each of ten indexes, then an answer")
def _(rng: random.Random, n: int) -> Sequence[Client]:
    asks = []
    for _ in range(max(1, n // 11)):
        query = shapes.sentence(rng)
        one = Ask({"model": "m", "input": query}, 0.02, Reply(seconds=0.1), "/v1/embeddings")
        asks += [one] * 10
        asks.append(Ask(chat(f"{shapes.prose(rng, 9)} {query}"), 0.1, Reply(shapes.prose(rng, 2), 2.0)))
    return [Client(asks)]


NOVEL = "a novel by the word continue, forty times over"


@row(NOVEL)
def _(rng: random.Random, n: int) -> Sequence[Client]:
    asks: list[Ask] = []
    for _ in range(max(1, n // 40)):
        said = [f"Write a novel about {shapes.sentence(rng)}"]
        for _ in range(40):
            chapter = shapes.prose(rng, 8)
            asks.append(Ask(chat(*said[:1], *said[1:][-20:]), 0.5, Reply(chapter, 8.0)))
            said += [chapter, "continue"]
    return [Client(asks)]


def _tool_talk(
    task: str, calls: Callable[[int], str], result: Callable[[int], str], wait: float, seconds: float = 2.0
) -> Iterator[Ask]:
    """A talk in which each answer calls the tool, and the tool's result is appended."""
    messages: list[dict[str, Any]] = [{"role": "user", "content": task}]
    for n in itertools.count():
        arguments = calls(n)
        body = {"model": "m", "max_tokens": 300, "messages": list(messages), "tools": TOOLS}
        yield Ask(body, wait, Reply(tool=arguments, seconds=seconds, output_tokens=60))
        call = {"id": f"c{n}", "type": "function", "function": {"name": "tool", "arguments": arguments}}
        messages.append({"role": "assistant", "content": None, "tool_calls": [call]})
        messages.append({"role": "tool", "tool_call_id": f"c{n}", "content": result(n)})


def _jobs(n: int, steps: int, talk: Callable[[int], Iterator[Ask]]) -> list[Client]:
    return [Client([ask for job in range(max(1, n // steps)) for ask in itertools.islice(talk(job), steps)])]


@row("an agent that writes forty files, and whose tool says ok each time")
def _(rng: random.Random, n: int) -> Sequence[Client]:
    def write(k: int) -> str:
        return json.dumps({"path": f"src/{rng.choice(shapes.WORDS)}_{k}.py", "text": shapes.sentence(rng)})

    return _jobs(n, 40, lambda job: _tool_talk(f"Write package {job}.", write, lambda _: "ok", 0.2))


@row("an agent that waits for a build: sixty looks, twenty seconds apart")
def _(rng: random.Random, n: int) -> Sequence[Client]:
    def talk(job: int) -> Iterator[Ask]:
        arguments = json.dumps({"run": f"gh run view {job}{rng.randint(10, 99)}"})
        return _tool_talk(f"Wait for build {job}.", lambda _: arguments, lambda _: "in_progress", 18.0)

    return _jobs(n, 60, talk)


@row("an agent that looks at a job each five seconds, thirty times")
def _(_: random.Random, n: int) -> Sequence[Client]:
    def talk(job: int) -> Iterator[Ask]:
        arguments = json.dumps({"job": job})
        return _tool_talk(f"Run job {job}.", lambda _: arguments, lambda _: "running", 5.0, 1.0)

    return _jobs(n, 30, talk)


@row("an extraction by a schema; of every fifth document the same broken answer thrice, temperature 0")
def _(rng: random.Random, n: int) -> Sequence[Client]:
    asks = []
    for number in range(max(1, n // 2)):
        body = chat(f"Extract: {shapes.prose(rng, 6)}", temperature=0)
        broken = Ask(body, 0.1, Reply(f'{{"name": "{rng.choice(shapes.WORDS)}", "items": [', 1.5))
        asks += [broken] * 3 if number % 5 == 0 else []
        asks.append(Ask(body, 0.1, Reply(f'{{"name": "{shapes.sentence(rng)}"}}', 1.5)))
    return split(asks, 2)


@row("a log looked through line by line, nearly all of them normal")
def _(rng: random.Random, n: int) -> Sequence[Client]:
    asks = []
    for k in range(n):
        line = f"12:{k // 60 % 60:02}:{k % 60:02} GET /health 200 {rng.randint(1, 9)} ms"
        body = chat(f"Normal or not? {line}", temperature=0, max_tokens=3)
        asks.append(Ask(body, 0.02, Reply("normal" if rng.random() < 0.98 else "not", 0.2)))
    return [Client(asks)]


@row("whether a number is a prime, some hundred numbers, six at once")
def _(rng: random.Random, n: int) -> Sequence[Client]:
    asks = [
        Ask(chat(f"Is {rng.randrange(10**6, 10**7)} a prime? Answer yes or no.", temperature=0), 0.05,
            Reply("no" if rng.random() < 0.8 else "yes", 0.4))
        for _ in range(n)
    ]  # fmt: skip
    return split(asks, 6)


@row("mails summarised each ten minutes, and mostly the same forty as before")
def _(rng: random.Random, n: int) -> Sequence[Client]:
    mails = [(shapes.prose(rng, 5), shapes.sentence(rng)) for _ in range(40)]
    asks = []
    for turn in range(max(3, n // 40)):
        mails = [(shapes.prose(rng, 5), shapes.sentence(rng)), *mails[:39]]
        for number, (mail, gist) in enumerate(mails):
            wait = 0.1 if number or not turn else 500.0
            asks.append(Ask(chat(f"Summarise: {mail}", temperature=0), wait, Reply(gist, 1.0)))
    return split(asks, 2)


@row("games of chess, each of which ends by repetition")
def _(rng: random.Random, n: int) -> Sequence[Client]:
    asks = []
    for game in range(max(1, n // 26)):
        moves = [f"{rng.choice('abcdefgh')}{rng.randint(1, 8)}" for _ in range(20)]
        moves += ["Nf3", "Nf6", "Ng1", "Ng8"] * 3
        for k in range(0, len(moves), 2):
            board = f"Game {game}. {' '.join(moves[:k] if k < 20 else moves[:20] + moves[20:k][-4:])}"
            asks.append(
                Ask(chat(f"{board} Your move?", temperature=0, max_tokens=6), 1.0, Reply(moves[k], 1.0))
            )
    return [Client(asks)]


_FLAPS = tuple(
    change for k in range(30) for change in (Change(30.0 * k + 20.0, "down"), Change(30.0 * k + 30.0, "up"))
)


@row("a server that flaps: up for 20 s, down for 10 s, for a quarter of an hour", changes=_FLAPS, after=120.0)
def _(rng: random.Random, n: int) -> Sequence[Client]:
    asks = [
        Ask(chat(shapes.sentence(rng)), 2.0, Reply(shapes.sentence(rng), 1.0)) for _ in range(max(n, 400))
    ]
    return [Client(asks[k::2], name) for k, name in enumerate(("one", "two"))]


@row("a captive portal that says 511 for four minutes",
     changes=(Change(40.0, "status", 511), Change(280.0, "ok")), after=120.0)  # fmt: skip
def _(rng: random.Random, n: int) -> Sequence[Client]:
    asks = [
        Ask(chat(shapes.sentence(rng)), 2.0, Reply(shapes.sentence(rng), 1.0)) for _ in range(max(n, 200))
    ]
    return [Client(asks[k::2], name) for k, name in enumerate(("one", "two"))]


@row("a speed test: each prompt five times for each of four models, temperature 0")
def _(rng: random.Random, n: int) -> Sequence[Client]:
    asks = []
    for _ in range(max(1, n // 20)):
        body, reply = chat(shapes.prose(rng, 9), temperature=0), Reply(shapes.prose(rng, 5), 3.0)
        asks += [Ask(body | {"model": f"m-{k}"}, 0.0, reply) for k in range(4) for _ in range(5)]
    return [Client(asks)]


@row("a voice at home: the same few orders all day, up to six of a kind in a row")
def _(rng: random.Random, n: int) -> Sequence[Client]:
    orders = ("light on", "light off", "what time is it", "louder", "next song")
    asks: list[Ask] = []
    while len(asks) < n:
        order = rng.choice(orders)
        ask = Ask({**chat(order, temperature=0), "tools": TOOLS}, 2.0, Reply(tool=json.dumps({"do": order})))
        asks += [ask] * rng.randint(1, 6)
    return [Client(asks)]


@row("streams of music, patterns, plans and print")
def _(rng: random.Random, n: int) -> Sequence[Client]:
    asks = []
    for number in range(max(len(sheets.SHEETS), n // 3)):
        sheet = sheets.SHEETS[number % len(sheets.SHEETS)]
        body = chat(f"{sheet.__name__} no. {number}, {shapes.sentence(rng)}", stream=True, max_tokens=4_000)
        asks.append(Ask(body, 2.0, Reply(sheet(rng), 20.0)))
    return split(asks, 2)


@row("pass@100: a hundred draws of each prompt, one after the other")
def _(rng: random.Random, n: int) -> Sequence[Client]:
    asks = []
    for _ in range(max(2, n // 100)):
        body = chat(f"Write {shapes.sentence(rng)}", temperature=0.8)
        asks += [Ask(body, 0.05, Reply(shapes.sentence(rng), 1.0)) for _ in range(100)]
    return [Client(asks)]


@row("strings of a program put into eight languages, four at once")
def _(rng: random.Random, n: int) -> Sequence[Client]:
    common = ["OK", "Cancel", "Save", "Close", "Open", "Help"]
    tongues = ("German", "French", "Spanish", "Polish", "Dutch", "Czech", "Danish", "Italian")
    asks = []
    for k in range(max(1, n // 8)):
        text = rng.choice(common) if k % 2 else shapes.sentence(rng)
        for tongue in tongues:
            said = text if text == "OK" else f"{text[:3]}-{tongue}"
            asks.append(
                Ask(chat(f"Put into {tongue}, the text alone: {text}", temperature=0), 0.05, Reply(said, 0.5))
            )
    return split(asks, 4)


def _circle(said: Sequence[str], rng: random.Random, wait: float = 0.5) -> Iterator[Ask]:
    """A conversation whose answers come back in turn while the other side says something new each time."""
    talk = ["Let us decide."]
    for n in itertools.count():
        reply = said[n % len(said)]
        yield Ask(chat(*talk[:1], *talk[1:][-60:]), wait, Reply(reply, 2.0))
        talk += [reply, shapes.sentence(rng)]


@runaway("a conversation that answers A, B, C, A, B, C", "", 9)
def _(rng: random.Random) -> Sequence[Client]:
    return [loop(_circle([shapes.prose(rng, 4) for _ in range(3)], rng), most=150)]


@runaway("the word continue, said for ever by a program, each answer another sentence", "", 42, like=NOVEL)
def _(rng: random.Random) -> Sequence[Client]:
    def asks() -> Iterator[Ask]:
        said = ["Go on until you are done."]
        while True:
            reply = shapes.sentence(rng)
            yield Ask(chat(*said), 0.2, Reply(reply, 1.0))
            said += [reply, "continue"]

    return [loop(asks(), most=200)]


@runaway("one call of a tool, and the same error with another id in it", "", 6)
def _(rng: random.Random) -> Sequence[Client]:
    def error(_: int) -> str:
        return f"request {rng.getrandbits(128):032x} failed: permission denied"

    return [loop(_tool_talk("Fetch it.", lambda _: '{"get": "/"}', error, 0.2), most=150)]


@runaway("two agents that thank each other in four ways in turn for ever", "", 24)
def _(_: random.Random) -> Sequence[Client]:
    ways = ("Thank you!", "You are most welcome.", "It was a pleasure.", "Any time!")

    def talk(one: int) -> Iterator[Ask]:
        said = ["Say goodbye."]
        for n in itertools.count():
            reply = Reply(ways[(n + one) % 4], 1.0)
            yield Ask(chat(*said[:1], *said[1:][-60:]), 0.2, reply)
            said += [reply.text, ways[(n + one + 1) % 4]]

    return [loop(talk(k), start=float(k), most=150) for k in (0, 1)]


@runaway("an answer that writes the same twelve lines of code again and again", "", 240, counts="streamed")
def _(rng: random.Random) -> Sequence[Client]:
    block = (
        "\n".join(f"    self.{rng.choice(shapes.WORDS)} = {rng.randint(1, 99)}" for _ in range(12)) + "\n\n"
    )
    body = chat("Write the class.", stream=True, max_tokens=8_000)
    return [loop(iter([Ask(body, 1.0, Reply(block * 60, 400.0))] * 3), most=3)]


@runaway("search, open, back, and again, with the same results", "", 9)
def _(_: random.Random) -> Sequence[Client]:
    steps = (('{"search": "docs"}', "1 result"), ('{"open": 1}', "404 not found"), ('{"back": 1}', "ok"))
    return [loop(_tool_talk("Find it.", lambda n: steps[n % 3][0], lambda n: steps[n % 3][1], 0.3), most=150)]


@runaway("the same batch of eight texts embedded for ever", "", 3)
def _(rng: random.Random) -> Sequence[Client]:
    body = {"model": "m", "input": [shapes.sentence(rng) for _ in range(8)]}
    return [loop(again((body, Reply(seconds=0.2)), path="/v1/embeddings"))]


@runaway("a prompt that is too long, sent again five times a second as it grows", "", 30, counts="requests")
def _(rng: random.Random) -> Sequence[Client]:
    text = shapes.prose(rng, 20)
    asks = (Ask(chat(text + " more" * n), 0.2, Reply(status=400, seconds=0.02)) for n in itertools.count())
    return [loop(asks, Manner(retries=0, obeys=False, pause=0.0))]
