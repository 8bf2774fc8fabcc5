"""More runaways of bench/containment.py: too much, too many, hammering, answers in a circle, and crash loops.

They are rows of `_containment_runaway.RUNAWAYS` like the others; importing this adds them.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable, Iterator, Sequence

import _containment_shapes as shapes
from _containment_honest import chat
from _containment_runaway import GATHER, HAMMER, VERSE, again, loop, runaway
from _containment_world import Ask, Change, Client, Manner, Reply

DAY = "[subsystems.agent.budget]\ntokens_per_day = {}"


@runaway("a context that grows for ever, nothing said twice", "burn_rate", 20, toml=DAY.format(3_000_000))
def _(rng: random.Random) -> Sequence[Client]:
    def asks() -> Iterator[Ask]:
        for n in itertools.count():
            yield Ask(
                chat(f"{n}: {shapes.prose(rng, 3)}"),
                0.2,
                Reply(shapes.sentence(rng), 3.0, input_tokens=2_000 + 300 * n),
            )

    return [loop(asks())]


@runaway("an expensive model in a tight loop, all different", "", 6, toml=DAY.format(3_000_000))
def _(rng: random.Random) -> Sequence[Client]:
    return [
        loop(
            Ask(
                chat(shapes.prose(rng, 4), max_tokens=2_000),
                0.5,
                Reply(shapes.sentence(rng), 9.0, input_tokens=15_000, output_tokens=1_000),
            )
            for _ in itertools.count()
        )
    ]


def _usual_then(rng: random.Random, pace: float) -> Sequence[Client]:
    """An hour and a half of a question a minute, then so many times as many."""
    usual = [
        Ask(
            chat(shapes.sentence(rng), max_tokens=100),
            58.0,
            Reply(shapes.sentence(rng), 2.0, output_tokens=80),
        )
        for _ in range(90)
    ]
    burning = (
        Ask(
            chat(shapes.sentence(rng), max_tokens=100),
            60.0 / pace - 2.0,
            Reply(shapes.sentence(rng), 2.0, output_tokens=80),
        )
        for _ in itertools.count()
    )
    return [loop(itertools.chain(usual, burning), most=2_000)]


@runaway(
    "twenty times the usual, all night, a budget of the day",
    "",
    600,
    onset=5_400.0,
    seldom=True,
    limit=20_000.0,
    toml=DAY.format(600_000),
)
def _(rng: random.Random) -> Sequence[Client]:
    return _usual_then(rng, 20.0)


@runaway(
    "twenty times the usual, no budget, busy_cusum contains", "busy_cusum", 600, onset=5_400.0, seldom=True,
    limit=6_000.0, enforce={"busy_cusum": "contain"},
)  # fmt: skip
def _(rng: random.Random) -> Sequence[Client]:
    return _usual_then(rng, 20.0)


@runaway("a fan-out of two hundred workers", "pile_up", 600, counts="requests")
def _(rng: random.Random) -> Sequence[Client]:
    manner = Manner(retries=0, obeys=False, pause=0.1, insists=True)
    return [
        loop(
            (
                Ask(chat(shapes.prose(rng, 3)), 0.0, Reply(shapes.sentence(rng), 6.0))
                for _ in itertools.count()
            ),
            manner,
            60,
            start=0.02 * k,
        )
        for k in range(200)
    ]


@runaway(
    "every answer begets three more questions, a budget of the day",
    "",
    180,
    toml=DAY.format(400_000),
)
def _(rng: random.Random) -> Sequence[Client]:
    clients = []
    for depth in range(4):
        clients += [
            loop(
                (Ask(chat(shapes.prose(rng, 2)), 0.0, Reply(shapes.sentence(rng), 5.0)) for _ in range(40)),
                Manner(retries=0, obeys=False, pause=0.5, insists=True),
                start=6.0 * depth,
            )
            for _ in range(3**depth)
        ]
    return clients


@runaway(
    "hammering at the cap of turns in flight",
    "",
    180,
    like=GATHER,
    counts="requests",
    toml="[subsystems.agent.budget]\nmax_in_flight = 2",
)
def _(rng: random.Random) -> Sequence[Client]:
    return [
        loop(
            (
                Ask(chat(shapes.prose(rng, 2)), 0.0, Reply(shapes.sentence(rng), 20.0))
                for _ in itertools.count()
            ),
            HAMMER,
            20,
            start=0.01 * k,
        )
        for k in range(60)
    ]


@runaway(
    "hammering a spent budget",
    "hard_limit",
    30,
    counts="requests",
    toml="[subsystems.agent.budget]\ntokens_per_minute = 3000",
)
def _(rng: random.Random) -> Sequence[Client]:
    return [
        loop(
            (
                Ask(chat(shapes.prose(rng, 2)), 0.0, Reply(shapes.sentence(rng), 1.0))
                for _ in itertools.count()
            ),
            HAMMER,
            40,
            start=0.01 * k,
        )
        for k in range(4)
    ]


@runaway(
    "hammering a spent budget of the day, ten times a second",
    "",
    30,
    counts="requests",
    toml="[subsystems.agent.budget]\ntokens_per_day = 3000",
)
def _(rng: random.Random) -> Sequence[Client]:
    return [
        loop(
            (
                Ask(chat(shapes.prose(rng, 2)), 0.05, Reply(shapes.sentence(rng), 1.0))
                for _ in itertools.count()
            ),
            HAMMER,
            40,
        )
    ]


@runaway(
    "a retry storm without a pause at a server that fails",
    "",
    30,
    counts="requests",
    changes=(Change(0.0, "status", 500),),
    limit=120.0,
    rests=True,
)
def _(rng: random.Random) -> Sequence[Client]:
    return [loop(again((chat(shapes.prose(rng, 2)), Reply())), HAMMER, 3, start=0.01 * k) for k in range(4)]


@runaway("a wrong key, a hundred times a second", "", 100, counts="answers", rests=True)
def _(rng: random.Random) -> Sequence[Client]:
    manner = Manner(retries=0, obeys=False, pause=0.01, insists=True)
    return [
        loop((Ask(chat(shapes.sentence(rng)), 0.0) for _ in itertools.count()), manner, 1, key="epad-nobody")
    ]


@runaway(
    "work that burns tokens and gets no further", "progress", 55, limit=3_000.0,
    says={0.0: "READY=1\nX_EPAD_PROGRESS=4/100", 5.0: "X_EPAD_PROGRESS=5/100"},
)  # fmt: skip
def _(rng: random.Random) -> Sequence[Client]:
    return [
        loop(
            (
                Ask(chat(shapes.prose(rng, 3)), 8.0, Reply(shapes.prose(rng, 2), 3.0, output_tokens=300))
                for _ in itertools.count()
            ),
            start=10.0,
        )
    ]


def _stream(
    text: Callable[[random.Random], str], seconds: float
) -> Callable[[random.Random], Sequence[Client]]:
    def make(rng: random.Random) -> Sequence[Client]:
        said = shapes.sentence(rng) + " " + text(rng)
        return [
            loop(
                (
                    Ask(chat(shapes.sentence(rng), stream=True, max_tokens=8_000), 1.0, Reply(said, seconds))
                    for _ in itertools.count()
                ),
                most=3,
            )
        ]

    return make


runaway("an answer that repeats one sentence", "looping_output", 120, counts="streamed", like=VERSE)(
    _stream(shapes.circle, 400.0)
)
for _what, _shape, _least in (("two words", shapes.stutter, 120), ("itself, drifting", shapes.drift, 240)):
    runaway(f"an answer that repeats {_what}", "", _least, counts="streamed", like=VERSE)(
        _stream(_shape, 400.0)
    )


@runaway("an answer that never ends, four tokens a second", "", 7_200, counts="streamed", limit=7_200.0)
def _(rng: random.Random) -> Sequence[Client]:
    return [
        loop(
            iter(
                [
                    Ask(
                        chat("Tell me everything.", stream=True, max_tokens=16_000),
                        0.0,
                        Reply(shapes.prose(rng, 80), 600.0, endless=True),
                    )
                ]
            )
        )
    ]


AN_HOUR = 3_660.0
"""A third life of 20 minutes ends in it, back-off included."""


def _crashes(
    name: str, lives: str, starts: int, code: int = 1, restart: str = "", *, seldom: bool = True
) -> None:
    """A process that is started again and again, beside somebody who asks now and then.

    Of those that die often the restart policy sees enough within the hour by itself.
    """

    def make(rng: random.Random) -> Sequence[Client]:
        return [Client([Ask(chat(shapes.sentence(rng)), 60.0) for _ in range(120)], "bystander-two")]

    often = min(map(float, lives.split(","))) < 400 and "," not in lives
    runaway(
        name, "" if often else "cascade", starts, counts="starts", limit=AN_HOUR, seldom=seldom,
        toml=f'[subsystems.short]\ncommand = ["lives", "{lives}", "{code}"]\n{restart}',
    )(make)  # fmt: skip


_ALWAYS = '[subsystems.short.restart]\npolicy = "always"'
for _life, _starts in (
    (1.0, 5),
    (5.0, 5),
    (33.0, 5),
    (45.0, 5),
    (300.0, 5),
    (420.0, 5),
    (1_140.0, 3),
    (1_200.0, 3),
):
    _crashes(
        f"a process that crashes after {_life:g} s, again and again", f"{_life}", _starts, seldom=_life > 60
    )
_crashes("a process that crashes after 5 s and after 19 min in turn", "1140,5", 5)
_crashes("a process that crashes after 7 min, 33 s and 12 min in turn", "420,33,720", 5)
_crashes("a service that ends with 0 after 33 s and is always restarted", "33", 5, 0, _ALWAYS, seldom=False)
_crashes("a service that ends with 0 after 19 min and is always restarted", "1140", 3, 0, _ALWAYS)
