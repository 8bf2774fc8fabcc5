"""More honest workloads of bench/containment.py: streams of every shape, and what runs beside people all day.

They are rows of `_containment_honest.ROWS` like the others; importing this adds them.
"""

from __future__ import annotations

import random
from collections.abc import Sequence

import _containment_shapes as shapes
from _containment_honest import chat, row, split
from _containment_world import Ask, Client, Manner, Reply

for _family, _shapes in shapes.FAMILIES.items():

    @row(f"streams of {_family}")
    def _(rng: random.Random, n: int, chosen: Sequence[shapes.Shape] = _shapes) -> Sequence[Client]:
        asks = []
        for number in range(max(len(chosen), n // 3)):
            shape = chosen[number % len(chosen)]
            body = chat(
                f"Write {shape.__name__} no. {number} about {shapes.sentence(rng)}",
                stream=True,
                max_tokens=4_000,
            )
            asks.append(Ask(body, 2.0, Reply(shape(rng), 20.0)))
        return split(asks, 2)


@row("a small model whose poems stick now and then", may_be_cut=True)
def _(rng: random.Random, n: int) -> Sequence[Client]:
    asks = []
    for number in range(max(10, n // 4)):
        text = shapes.poem_that_sticks(rng) if number % 8 == 3 else shapes.prose(rng, 8)
        asks.append(
            Ask(
                chat(f"Write a poem about {shapes.sentence(rng)}", stream=True, max_tokens=2_000),
                3.0,
                Reply(text, 15.0),
            )
        )
    return [Client(asks)]


@row("embeddings of a library")
def _(rng: random.Random, n: int) -> Sequence[Client]:
    asks = [
        Ask(
            {"model": "m", "input": [shapes.sentence(rng) for _ in range(8)]},
            0.05,
            Reply(seconds=0.2),
            "/v1/embeddings",
        )
        for _ in range(n)
    ]
    return split(asks, 4)


@row("embeddings of a library that is indexed anew each half hour")
def _(rng: random.Random, n: int) -> Sequence[Client]:
    texts = [{"model": "m", "input": shapes.sentence(rng)} for _ in range(max(1, n // 3))]
    asks = [
        Ask(body, 1_700.0 if turn and not number else 0.1, Reply(seconds=0.1), "/v1/embeddings")
        for turn in range(3)
        for number, body in enumerate(texts)
    ]
    return [Client(asks)]


@row("embeddings of a column, row by row, twenty equal values after each other, or a few in any order")
def _(rng: random.Random, n: int) -> Sequence[Client]:
    asks = []
    for _ in range(max(1, n // 64)):
        few = [rng.choice(["yes", "no", "unknown"]) for _ in range(24)]
        values = ["n/a"] * 20 + [shapes.sentence(rng) for _ in range(20)] + few
        asks += [Ask({"model": "m", "input": v}, 0.02, Reply(seconds=0.2), "/v1/embeddings") for v in values]
    return [Client(asks)]


@row("a working day under a budget of the day, mornings and afternoons busier than the rest", seldom=True,
     toml="[subsystems.agent.budget]\ntokens_per_day = 600000")  # fmt: skip
def _(rng: random.Random, _: int) -> Sequence[Client]:
    asks = []
    for hour in range(10):
        busy = hour in {1, 2, 6, 7}
        asks += [
            Ask(
                chat(shapes.prose(rng, 4), max_tokens=1_200),
                66.0 if busy else 350.0,
                Reply(shapes.prose(rng, 3), 4.0, output_tokens=900),
            )
            for _ in range(51 if busy else 10)
        ]
    return [Client(asks)]


@row("a batch of translations")
def _(rng: random.Random, n: int) -> Sequence[Client]:
    system = {"role": "system", "content": "Translate into German."}
    asks = []
    for _ in range(n):
        messages = [system, {"role": "user", "content": shapes.sentence(rng)}]
        asks.append(
            Ask(
                {"model": "m", "max_tokens": 200, "messages": messages, "temperature": 0},
                0.1,
                Reply(shapes.sentence(rng), 1.0),
            )
        )
    return split(asks, 6)


@row("code completion at typing speed, most of it given up")
def _(rng: random.Random, n: int) -> Sequence[Client]:
    asks, typed = [], ""
    for number in range(n):
        typed = typed + rng.choice("abcdefg_ (") if number % 30 else f"def {rng.choice(shapes.WORDS)}("
        body = {"model": "m", "prompt": typed, "suffix": "\n    return 1", "max_tokens": 64, "stream": False}
        gives_up = 0.15 if rng.random() < 0.8 else 0.0
        asks.append(Ask(body, 0.1, Reply("x = 1", 0.4), "/v1/completions", gives_up))
    return [Client(asks, manner=Manner(retries=0, retries_own_timeout=False, pause=0.0))]


@row("summaries of parts, and of the summaries")
def _(rng: random.Random, n: int) -> Sequence[Client]:
    asks = []
    for _ in range(max(1, n // 11)):
        parts = [shapes.prose(rng, 2) for _ in range(10)]
        asks += [Ask(chat(f"Summarise: {shapes.prose(rng, 10)}"), 0.1, Reply(part, 2.0)) for part in parts]
        asks.append(Ask(chat("Summarise: " + " ".join(parts)), 0.1, Reply(shapes.prose(rng, 2), 3.0)))
    return split(asks, 4)


@row("two agents in a conversation that ends")
def _(rng: random.Random, n: int) -> Sequence[Client]:
    asks = []
    for _ in range(max(1, n // 20)):
        said = [shapes.sentence(rng)]
        for _ in range(20):
            reply = shapes.sentence(rng)
            asks.append(Ask(chat(*said), 1.0, Reply(reply, 2.0)))
            said = [*said, reply][-12:]
    return [Client(asks)]


@row("a developer's tests at temperature 0, run again and again")
def _(rng: random.Random, n: int) -> Sequence[Client]:
    cases = [(chat(shapes.sentence(rng), temperature=0), Reply(shapes.sentence(rng), 0.8)) for _ in range(8)]
    return [
        Client(
            [
                Ask(body, 45.0 if turn and not number else 0.2, reply)
                for turn in range(max(2, n // 8))
                for number, (body, reply) in enumerate(cases)
            ]
        )
    ]


@row("a dashboard that asks the same each half minute, temperature 0, the same long answer")
def _(rng: random.Random, n: int) -> Sequence[Client]:
    ask = Ask(chat(shapes.prose(rng, 20), temperature=0), 27.0, Reply(shapes.prose(rng, 8), 3.0))
    return [Client([ask] * n)]


@row("a health check every ten seconds")
def _(_: random.Random, n: int) -> Sequence[Client]:
    return [Client([Ask(chat("ping", max_tokens=1, temperature=0), 9.8, Reply("pong", 0.2))] * n)]


@row("the same question once an hour, all day", seldom=True, after=1.0)
def _(rng: random.Random, _: int) -> Sequence[Client]:
    return [
        Client([Ask(chat("What is new?", temperature=0), 3_598.0, Reply(shapes.prose(rng, 3), 2.0))] * 24)
    ]


@row("a batch after a quiet night", seldom=True)
def _(rng: random.Random, n: int) -> Sequence[Client]:
    asks = [Ask(chat(shapes.prose(rng, 4)), 0.1, Reply(shapes.prose(rng, 2), 1.5)) for _ in range(n)]
    return [
        Client([Ask(chat(shapes.sentence(rng)), 20.0) for _ in range(20)]),
        *(Client(c.asks, start=28_800.0 + c.start) for c in split(asks, 8)),
    ]


@row("an hour and a half of chat, then a batch", seldom=True)
def _(rng: random.Random, n: int) -> Sequence[Client]:
    usual = [
        Ask(chat(shapes.sentence(rng), max_tokens=100), 58.0, Reply(shapes.sentence(rng), 2.0))
        for _ in range(90)
    ]
    batch = [Ask(chat(shapes.prose(rng, 4)), 0.1, Reply(shapes.prose(rng, 2), 3.0)) for _ in range(n)]
    return [Client(usual), *(Client(c.asks, start=5_500.0 + c.start) for c in split(batch, 4))]


@row("rounds of a wargame: one attack, five defenders, votes of a schema")
def _(rng: random.Random, n: int) -> Sequence[Client]:
    clients: list[list[Ask]] = [[] for _ in range(5)]
    for number in range(max(1, n // 6)):
        attack = f"Round {number}: {shapes.prose(rng, 2)}"
        clients[0].append(Ask(chat(f"Attack: {attack}", temperature=1.0), 1.0, Reply(attack, 2.0)))
        for defender in range(5):
            body = chat(
                f"Defender {defender}, is this an attack? {attack}",
                response_format={"type": "json_object"},
                seed=defender,
            )
            clients[defender].append(
                Ask(body, 0.5, Reply(rng.choice(['{"verdict": "attack"}', '{"verdict": "benign"}']), 2.0))
            )
    return [Client(asks, start=0.1 * k) for k, asks in enumerate(clients)]


@row("a council that votes: one question, seven voters, temperature 0.7")
def _(rng: random.Random, n: int) -> Sequence[Client]:
    clients: list[list[Ask]] = [[] for _ in range(7)]
    for _ in range(max(1, n // 7)):
        body = chat(shapes.prose(rng, 3), temperature=0.7)
        for voter in clients:
            voter.append(Ask(body, 2.0, Reply(rng.choice(["yes", "no"]), rng.uniform(1, 3))))
    return [Client(asks) for asks in clients]


@row("a first try: the same hello, ten times")
def _(rng: random.Random, n: int) -> Sequence[Client]:
    trials = [Ask(chat("Hello!"), 4.0, Reply(shapes.sentence(rng), 1.0)) for _ in range(10)]
    return [Client(trials + [Ask(chat(shapes.sentence(rng)), 10.0) for _ in range(n // 3)])]
