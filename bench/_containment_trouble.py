"""Honest workloads before what goes wrong without their doing: outages, limits, restarts, a laptop's lid.

They are rows of `_containment_honest.ROWS` like the others; importing this adds them.
"""

from __future__ import annotations

import random
from collections.abc import Sequence

import _containment_shapes as shapes
from _containment_honest import PATIENT, chat, row, split
from _containment_world import Ask, Change, Client, Manner, Reply


def _steady(rng: random.Random, n: int, wait: float = 2.0, workers: int = 1) -> list[Client]:
    """A plain agent: one new question after the other, on to the next when one fails."""
    asks = [Ask(chat(shapes.sentence(rng)), wait, Reply(shapes.sentence(rng), 1.0)) for _ in range(n)]
    return split(asks, workers)


def _two(rng: random.Random, n: int, wait: float = 2.0) -> list[Client]:
    """Two subsystems of the stock library."""
    return [Client(client.asks, name) for name in ("one", "two") for client in _steady(rng, n // 2, wait)]


for _seconds in (1.0, 40.0, 120.0, 600.0):

    @row(
        f"two stock clients, the server gone for {_seconds:g} s",
        changes=(Change(60.0, "down"), Change(60.0 + _seconds, "up")),
        after=180.0,
    )
    def _(rng: random.Random, n: int, seconds: float = _seconds) -> Sequence[Client]:
        return _two(rng, max(n, int(seconds)))


for _status, _what in (
    (401, "epad's key is wrong"),
    (403, "epad's key may not"),
    (404, "the model is not there"),
    (500, "it fails"),
):

    @row(
        f"two stock clients, the server says {_status} for five minutes: {_what}",
        changes=(Change(40.0, "status", _status), Change(340.0, "ok")),
        after=180.0,
    )
    def _(rng: random.Random, n: int) -> Sequence[Client]:
        return _two(rng, max(n, 200))


@row(
    "a server that limits its rate: 429 with Retry-After for two minutes",
    changes=(Change(30.0, "retry-after", 20.0), Change(150.0, "ok")),
    after=120.0,
)
def _(rng: random.Random, n: int) -> Sequence[Client]:
    return _two(rng, n)


@row(
    "a server that loads for 90 s: 503", changes=(Change(0.0, "status", 503), Change(90.0, "ok")), after=120.0
)
def _(rng: random.Random, n: int) -> Sequence[Client]:
    return _two(rng, n)


@row(
    "a server that crashes once in the middle of answers", changes=(Change(47.3, "down"), Change(50.3, "up"))
)
def _(rng: random.Random, n: int) -> Sequence[Client]:
    return _steady(rng, n, 0.1, 4)


@row(
    "a server that is restarted every ten minutes",
    changes=tuple(
        Change(600.0 * k + 15.0 * up, "up" if up else "down") for k in range(1, 5) for up in (0, 1)
    ),
)
def _(rng: random.Random, n: int) -> Sequence[Client]:
    return _steady(rng, max(n, 150), 12.0)


@row("a server that answers 429 with Retry-After now and then")
def _(rng: random.Random, n: int) -> Sequence[Client]:
    asks = [
        Ask(
            chat(shapes.sentence(rng)),
            0.5,
            Reply(status=429, retry_after=7.0, seconds=0.1) if rng.random() < 0.1 else Reply(),
        )
        for _ in range(n)
    ]
    return split(asks, 4)


@row("a server that fails one request in twenty")
def _(rng: random.Random, n: int) -> Sequence[Client]:
    return split(
        [
            Ask(chat(shapes.sentence(rng)), 0.5, Reply(status=500 if rng.random() < 0.05 else 200))
            for _ in range(n)
        ],
        4,
    )


@row(
    "a laptop that sleeps for eight hours in the middle of a batch",
    changes=(Change(50.0, "suspend", 28_800.0), Change(110.0, "suspend", 3_600.0)),
)
def _(rng: random.Random, n: int) -> Sequence[Client]:
    return _steady(rng, n, 1.0, 3)


@row("a small budget that is spent each minute", toml="[subsystems.agent.budget]\ntokens_per_minute = 4000")
def _(rng: random.Random, n: int) -> Sequence[Client]:
    return [Client(c.asks, manner=PATIENT) for c in _steady(rng, n, 0.2, 2)]


@row(
    "two small budgets that are spent each minute",
    toml="\n".join(f"[subsystems.{name}.budget]\ntokens_per_minute = 3000" for name in ("one", "two")),
)
def _(rng: random.Random, n: int) -> Sequence[Client]:
    return _two(rng, n, 0.2)


@row("sixteen workers at a cap of four turns", toml="[subsystems.agent.budget]\nmax_in_flight = 4")
def _(rng: random.Random, n: int) -> Sequence[Client]:
    return _steady(rng, n, 0.05, 16)


@row(
    "eight short questions at once, no maximum, a budget of 20,000 a minute",
    toml="[subsystems.agent.budget]\ntokens_per_minute = 20000",
)
def _(rng: random.Random, n: int) -> Sequence[Client]:
    asks = []
    for _ in range(n // 3):
        body = chat(shapes.sentence(rng))
        del body["max_tokens"]
        asks.append(Ask(body, 5.0, Reply("Yes.", 2.0)))
    return split(asks, 8)


@row("a client that gives up after 20 s and tries once more, a slow server")
def _(rng: random.Random, n: int) -> Sequence[Client]:
    asks = [
        Ask(
            chat(shapes.sentence(rng)),
            1.0,
            Reply(shapes.sentence(rng), rng.choice([2.0, 3.0, 30.0])),
            gives_up_after=20.0,
        )
        for _ in range(n // 2)
    ]
    return [Client(c.asks, manner=Manner(retries=1)) for c in split(asks, 3)]


@row("a client that gives up after 10 s, a server that takes 40 s for ten minutes")
def _(rng: random.Random, n: int) -> Sequence[Client]:
    asks = [
        Ask(
            chat(shapes.sentence(rng)),
            1.0,
            Reply(shapes.sentence(rng), 40.0 if k < 20 else 1.0),
            gives_up_after=10.0,
        )
        for k in range(n // 3)
    ]
    return [Client(asks, manner=Manner(retries=2))]


@row(
    "two processes that crash once each, and heal",
    toml="\n".join(
        f'[subsystems.{name}]\ncommand = ["lives-once", "{seconds}", "1"]'
        for name, seconds in (("first", 40), ("second", 55))
    ),
    after=200.0,
)
def _(rng: random.Random, n: int) -> Sequence[Client]:
    return _steady(rng, n // 3)


def _process(lives: str) -> str:
    return f'[subsystems.short]\ncommand = ["lives-once", "{lives}", "1"]'


@row("a service that crashes three times in a day", toml=_process("10800,18000,25200"), seldom=True)
def _(rng: random.Random, _: int) -> Sequence[Client]:
    return _steady(rng, 24, 3_500.0)


@row(
    "a service that crashes three times in the 70 minutes after its first start",
    toml=_process("300,1700,2000"),
    seldom=True,
)
def _(rng: random.Random, _: int) -> Sequence[Client]:
    return _steady(rng, 24, 300.0)


_BY_HAND = tuple(Change(20.0 + 12.0 * k, what) for k, what in enumerate(["restart", "asked"] * 4))


@row(
    "a service that its developer restarts eight times in two minutes", toml=_process("1e9"), changes=_BY_HAND
)
def _(rng: random.Random, n: int) -> Sequence[Client]:
    return _steady(rng, n, 1.0)


_LID = tuple(
    change for k in range(1, 5)
    for change in (Change(600.0 * k, "suspend", 300.0), Change(600.0 * k + 4.0, "dies", 1.0))
)  # fmt: skip


@row("a laptop whose lid is closed four times in an hour, and a service that loses its GPU by it", toml=_process("1e9"),
     changes=_LID, after=300.0, seldom=True)  # fmt: skip
def _(rng: random.Random, n: int) -> Sequence[Client]:
    return _steady(rng, max(n, 240), 10.0)


@row("three hundred requests at once, two retries, a cap of eight turns (asyncio.gather)")
def _(rng: random.Random, n: int) -> Sequence[Client]:
    return _steady(rng, max(n, 300), 0.0, 300)


@row(
    "six retries with doubling pauses at a budget that is spent each minute",
    toml="[subsystems.agent.budget]\ntokens_per_minute = 4000",
)
def _(rng: random.Random, n: int) -> Sequence[Client]:
    manner = Manner(retries=6, obeys=False, first_wait=1.0, most_wait=32.0, pause=5.0)
    return [Client(client.asks, manner=manner) for client in _steady(rng, n, 0.2, 4)]
