"""Rows of bench/containment.py of kinds that were thought of after the detectors were made.

They are rows of `_containment_honest.ROWS` and `_containment_runaway.RUNAWAYS`; importing this adds them.
"""

from __future__ import annotations

import itertools
import json
import random
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import _containment_shapes as shapes
from _containment_honest import TOOLS, chat, row, split
from _containment_runaway import COLUMN, HAMMER, VERSE, again, loop, runaway
from _containment_world import Ask, Change, Client, Manner, Reply

REPORT = '{"anomaly": false, "severity": "none", "causes": [], "explanation": null, "needs_review": false}'


@row("a chat front-end: after each answer a title, tags and three suggestions for the same talk")
def _(rng: random.Random, n: int) -> Sequence[Client]:
    asks: list[Ask] = []
    said: list[str] = []
    for number in range(max(1, n // 4)):
        said = [*said, shapes.sentence(rng)][-8:] if number % 6 else [shapes.sentence(rng)]
        asks.append(Ask(chat(*said), 6.0, Reply(shapes.prose(rng, 3), 3.0)))
        tasks = ("Give this chat a title.", "Give this chat three tags.", "Suggest three questions.")
        bodies = [chat(*said[:-1], f"{said[-1]}\n\n{task}", temperature=0) for task in tasks]
        asks += [Ask(body, 0.05, Reply("River, stone", 0.4)) for body in bodies]
    return [Client(asks)]


@row("pairwise judgements in both orders, A or B, temperature 0")
def _(rng: random.Random, n: int) -> Sequence[Client]:
    asks = []
    for _ in range(max(1, n // 2)):
        one, other = shapes.prose(rng, 2), shapes.prose(rng, 2)
        for first, second in ((one, other), (other, one)):
            body = chat(f"Which is better?\nA: {first}\nB: {second}", temperature=0, max_tokens=1)
            asks.append(Ask(body, 0.1, Reply(rng.choice("AB"), 0.3)))
    return split(asks, 3)


@row("a game whose figures ask what to do each tick; most wait")
def _(rng: random.Random, n: int) -> Sequence[Client]:
    asks = [
        Ask(chat(f"Tick {k}, you are at {k % 9},{k % 7}, health {90 + k % 10}. What do you do?", temperature=0), 0.9,
            Reply("wait" if rng.random() < 0.9 else "walk", 0.3))
        for k in range(n)
    ]  # fmt: skip
    return [Client(asks)]


@row("readings of a sensor each second, a report by a schema, nearly always the same")
def _(rng: random.Random, n: int) -> Sequence[Client]:
    asks = []
    for k in range(n):
        body = chat(f"Reading {k}: {rng.uniform(20, 24):.2f} C, {rng.randint(990, 1020)} hPa.", temperature=0)
        body["response_format"] = {"type": "json_schema", "json_schema": {"name": "report", "schema": {}}}
        report = REPORT if rng.random() < 0.97 else REPORT.replace("none", "low")
        asks.append(Ask(body, 0.6, Reply(report, 0.4, output_tokens=38)))
    return [Client(asks)]


@row("each request sent twice, the slower one dropped (hedging)")
def _(rng: random.Random, n: int) -> Sequence[Client]:
    fast, slow = [], []
    for _ in range(n // 2):
        body = chat(shapes.prose(rng, 2))
        fast.append(Ask(body, 1.0, Reply(shapes.sentence(rng), 2.0)))
        slow.append(Ask(body, 1.0, Reply(shapes.sentence(rng), 9.0), gives_up_after=2.0))
    once = Manner(retries=0, retries_own_timeout=False, pause=0.0)
    return [Client(fast), Client(slow, manner=once)]


@row("six agents that begin with the same words and go different ways")
def _(rng: random.Random, n: int) -> Sequence[Client]:
    clients = []
    for agent in range(6):
        asks, said = [], ["You work on the task list. Begin."]
        for _ in range(max(2, n // 6)):
            reply = shapes.sentence(rng)
            asks.append(Ask(chat(*said[:1], *said[1:][-20:]), 1.0, Reply(reply, 2.0)))
            said += [reply, f"Done: {shapes.sentence(rng)}"]
        clients.append(Client(asks, start=0.1 * agent))
    return clients


@row("a person who stops most streams after some seconds and asks otherwise")
def _(rng: random.Random, n: int) -> Sequence[Client]:
    asks = [
        Ask(chat(shapes.sentence(rng), stream=True), rng.uniform(2, 9), Reply(shapes.prose(rng, 9), 20.0),
            gives_up_after=5.0 if rng.random() < 0.7 else 0.0)
        for _ in range(n // 2)
    ]  # fmt: skip
    return [Client(asks, manner=Manner(retries=0, retries_own_timeout=False))]


@row("a burst of the same spam, forty times, six at once, in a stream of messages that are checked")
def _(rng: random.Random, n: int) -> Sequence[Client]:
    spam = "Win a bridge! " + shapes.sentence(rng)
    texts = [spam if 60 <= k < 100 else shapes.sentence(rng) for k in range(max(n, 150))]
    fields = {"temperature": 0, "max_tokens": 4}
    asks = [Ask(chat(f"Spam? {t}", **fields), 0.3, Reply("yes" if t == spam else "no", 0.5)) for t in texts]
    return split(asks, 6)


@row("a cloud that says 429 without Retry-After for five minutes; back-off, six retries",
     changes=(Change(30.0, "status", 429), Change(330.0, "ok")), after=60.0)  # fmt: skip
def _(rng: random.Random, n: int) -> Sequence[Client]:
    manner = Manner(retries=6, first_wait=1.0, most_wait=32.0, pause=10.0)
    asks = [Ask(chat(shapes.sentence(rng)), 0.5, Reply(shapes.sentence(rng))) for _ in range(n)]
    return [Client(client.asks, manner=manner) for client in split(asks, 3)]


@row("an agent that runs its tests between edits: failed, edit, failed, edit, passed")
def _(rng: random.Random, n: int) -> Sequence[Client]:
    asks = []
    for _ in range(max(1, n // 24)):
        messages: list[dict[str, Any]] = [{"role": "user", "content": f"Mend: {shapes.sentence(rng)}"}]
        for step in range(24):
            tests = step % 2 == 1
            arguments = '{"run": "pytest -q"}' if tests else json.dumps({"edit": shapes.sentence(rng)})
            body = {"model": "m", "max_tokens": 300, "messages": list(messages), "tools": TOOLS}
            asks.append(Ask(body, 0.5, Reply(tool=arguments, seconds=2.0, output_tokens=60)))
            call = {
                "id": f"c{step}",
                "type": "function",
                "function": {"name": "tool", "arguments": arguments},
            }
            messages.append({"role": "assistant", "content": None, "tool_calls": [call]})
            said = "1 failed, 7 passed" if tests else "ok"
            messages.append({"role": "tool", "tool_call_id": f"c{step}", "content": said})
    return [Client(asks)]


def _tools(calls: Callable[[int], str], result: Callable[[int], str], wait: float) -> Iterator[Ask]:
    messages: list[dict[str, Any]] = [{"role": "user", "content": "Put the file right."}]
    for n in itertools.count():
        arguments = calls(n)
        body = {"model": "m", "max_tokens": 200, "messages": list(messages), "tools": TOOLS}
        yield Ask(body, wait, Reply(tool=arguments, output_tokens=40))
        call = {"id": f"c{n}", "type": "function", "function": {"name": "tool", "arguments": arguments}}
        messages.append({"role": "assistant", "content": None, "tool_calls": [call]})
        messages.append({"role": "tool", "tool_call_id": f"c{n}", "content": result(n)})


@runaway("an agent that edits a file to one thing and back for ever", "", 12)
def _(_: random.Random) -> Sequence[Client]:
    return [
        loop(
            _tools(lambda n: json.dumps({"write": "tabs" if n % 2 else "blanks"}), lambda _: "ok", 0.3),
            most=150,
        )
    ]


@runaway("one call of a tool, and the same error with another time in it", "", 6)
def _(_: random.Random) -> Sequence[Client]:
    return [
        loop(
            _tools(lambda _: '{"get": "/"}', lambda n: f"10:{n // 60:02}:{n % 60:02} error: refused", 0.3),
            most=150,
        )
    ]


@runaway("a summary of the summary of the summary, which changes no more", "", 6)
def _(rng: random.Random) -> Sequence[Client]:
    text = shapes.prose(rng, 4)
    first = [
        Ask(chat(f"Shorten: {shapes.prose(rng, 9 - k)}", temperature=0), 0.1, Reply(text)) for k in range(4)
    ]
    return [loop(itertools.chain(first, again((chat(f"Shorten: {text}", temperature=0), Reply(text, 2.0)))))]


@runaway("one prompt with a longer row of dots each time, the same answer", "", 6)
def _(rng: random.Random) -> Sequence[Client]:
    text, answer = shapes.prose(rng, 5), shapes.prose(rng, 3)
    return [
        loop(Ask(chat(text + "." * n, temperature=0), 0.1, Reply(answer, 1.0)) for n in itertools.count())
    ]


@runaway("three texts embedded in turn for ever", "", 9, like=COLUMN)
def _(rng: random.Random) -> Sequence[Client]:
    bodies = [({"model": "m", "input": shapes.prose(rng, 4)}, Reply(seconds=0.2)) for _ in range(3)]
    return [loop(again(*bodies, path="/v1/embeddings"))]


@runaway(
    "a client that gives up after a second and asks again, a server that takes five",
    "",
    42,
    counts="requests",
)
def _(rng: random.Random) -> Sequence[Client]:
    ask = Ask(chat(shapes.prose(rng, 5)), 0.0, Reply(shapes.prose(rng, 3), 5.0), gives_up_after=1.0)
    return [Client([ask], manner=Manner(retries=400, obeys=False, first_wait=0.1, most_wait=0.1))]


@runaway("a model that is not there, asked for twenty times a second", "", 30, counts="answers", rests=True)
def _(rng: random.Random) -> Sequence[Client]:
    asks = (Ask({**chat(shapes.sentence(rng)), "model": "not-there"}, 0.05) for _ in itertools.count())
    return [loop(asks, HAMMER, 1)]


@runaway("an answer that goes round a list of five sentences", "", 240, counts="streamed", like=VERSE)
def _(rng: random.Random) -> Sequence[Client]:
    text = (shapes.prose(rng, 5) + " ") * 80
    body = chat("Tell me all.", stream=True, max_tokens=8_000)
    return [loop(iter([Ask(body, 1.0, Reply(text, 400.0))] * 3), most=3)]
