"""The runaways of bench/containment.py, and which detector each is there for.

An oracle holds a runaway at the least at which the pattern is decidable beside the honest rows. In turns, each at the
cost of this runaway's first ones:
- one question, the same answer, one after the other, in no conversation: the second repetition, 3 turns (retries of a
  client are no turn of their own);
- a cycle of p questions: the second repetition of the whole, 3 p;
- a conversation that goes in circles: 6 turns, since plain answers come twice and thrice in honest ones;
- one question at a temperature: 42 turns, since forty draws are honest (self-consistency with k = 40);
- an answer that repeats itself: 120 tokens of its circle, 240 of one that drifts, since refrains and rows of zeros are
  honest;
- too much, of whatever content: 3 % of the day's budget within five minutes; where there is none, half an hour at
  twenty times the usual pace, since an honest batch is as busy for as long;
- no progress: ten minutes of it;
- refusals that are hammered against: 30 requests, or three of each line where there are more, since whoever is refused
  may come back twice;
- a process that crashes again and again: five lives, or an hour, whichever is sooner.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import _containment_shapes as shapes
from _containment_honest import TOOLS, chat
from _containment_world import Ask, Client, Manner, Reply, Workload

RUNAWAYS: dict[str, Callable[[], Workload]] = {}
DETECTOR: dict[str, str] = {}
"""By runaway: the one detector that is to see it; empty where it is several, or a limit alone."""

LOOSE = Manner(retries=0, obeys=False, pause=0.0)
HAMMER = Manner(retries=0, obeys=False, pause=0.05, insists=True)
LIMIT = 500
"""Turns of a loop that nobody stops: enough for every detector, and an end."""


PLANTS: dict[str, str] = {
    **{name: f'[probes.token_burn.enforce]\n{name} = "observe"' for name in (
        "hard_limit", "burn_rate", "busy_cusum", "identical_prompts", "duplicate_prompts", "sampled_prompts",
        "renumbered_prompts", "appended_loop", "error_ratio", "pile_up", "looping_output",
    )},
    "loop": '[probes.conversation.enforce]\nloop = "observe"',
    "progress": '[probes.progress.enforce]\nprogress = "observe"',
    "memory": '[probes.memory.enforce]\nmemory = "observe"',
    "cascade": '[probes.cascade.enforce]\ncascade = "observe"',
}  # fmt: skip
"""By detector: the configuration that lets it only tell."""


def runaway(name: str, detector: str, oracle: float, **fields: Any) -> Callable[..., Any]:
    """Register a runaway: the function makes its clients from a generator of its own."""

    def register(make: Callable[[random.Random], Sequence[Client]]) -> Any:
        DETECTOR[name] = detector
        RUNAWAYS[name] = lambda: Workload(
            name, make(random.Random(name)), runaway=True, oracle_turns=oracle, **fields
        )
        return make

    return register


def loop(asks: Iterator[Ask], manner: Manner = LOOSE, most: int = LIMIT, **more: Any) -> Client:
    return Client(itertools.islice(asks, most), manner=manner, **more)


def again(
    *pairs: tuple[dict[str, Any], Reply], wait: float = 0.05, path: str = "/v1/chat/completions"
) -> Iterator[Ask]:
    return itertools.cycle([Ask(body, wait, reply, path) for body, reply in pairs])


@runaway("one prompt in a tight loop, temperature 0", "identical_prompts", 3)
def _(rng: random.Random) -> Sequence[Client]:
    return [loop(again((chat(shapes.prose(rng, 9), temperature=0), Reply("I cannot.", 1.0))))]


@runaway("one prompt every ten seconds, temperature 0, the same long answer", "", 3)
def _(rng: random.Random) -> Sequence[Client]:
    return [
        loop(again((chat(shapes.prose(rng, 9), temperature=0), Reply(shapes.prose(rng, 6), 4.0)), wait=6.0))
    ]


LETTERS = "twenty draws of one letter each, no temperature given (self-consistency without thinking)"
DRAWS = "pass@k: two hundred draws of each prompt, ten at once"
COLUMN = "embeddings of a column, row by row, twenty equal values after each other, or a few in any order"
EPOCHS = "evaluation harness, {} samples, five epochs in turn, temperature 0"
GATHER = "three hundred requests at once, two retries, a cap of eight turns (asyncio.gather)"
VERSE = "streams of verse and lists"


@runaway("one prompt in a tight loop, no temperature given, the same answer", "", 3, like=LETTERS)
def _(rng: random.Random) -> Sequence[Client]:
    return [loop(again((chat(shapes.prose(rng, 9)), Reply("I cannot.", 1.0))))]


@runaway("one prompt in a tight loop at a temperature", "sampled_prompts", 42, like=DRAWS)
def _(rng: random.Random) -> Sequence[Client]:
    body = chat(shapes.prose(rng, 9), temperature=0.8)
    return [loop(Ask(body, 0.05, Reply(shapes.sentence(rng), 1.0)) for _ in itertools.count())]


@runaway("one prompt, each time with another seed, for ever", "", 42, like=DRAWS)
def _(rng: random.Random) -> Sequence[Client]:
    text = shapes.prose(rng, 9)
    return [
        loop(
            Ask(chat(text, temperature=0.8, seed=n), 0.05, Reply(shapes.sentence(rng), 1.0))
            for n in itertools.count()
        )
    ]


@runaway("one prompt with a hundred choices (n = 100)", "", 3)
def _(rng: random.Random) -> Sequence[Client]:
    return [
        loop(again((chat(shapes.prose(rng, 3), n=100, max_tokens=40), Reply("I cannot.", 4.0)), wait=0.5))
    ]


@runaway("one completion, again and again", "", 3)
def _(rng: random.Random) -> Sequence[Client]:
    body = {"model": "m", "prompt": shapes.prose(rng, 6), "max_tokens": 60, "temperature": 0}
    return [loop(again((body, Reply("x = 1", 0.5)), path="/v1/completions"))]


@runaway("one text embedded again and again", "", 3, like=COLUMN)
def _(rng: random.Random) -> Sequence[Client]:
    return [
        loop(
            again(({"model": "m", "input": shapes.prose(rng, 9)}, Reply(seconds=0.2)), path="/v1/embeddings")
        )
    ]


@runaway("one prompt under five names of the model", "", 3)
def _(rng: random.Random) -> Sequence[Client]:
    text = shapes.prose(rng, 9)
    return [
        loop(
            again(
                *(
                    (chat(text, temperature=0) | {"model": f"m-{n}"}, Reply("I cannot.", 1.0))
                    for n in range(5)
                )
            )
        )
    ]


for _period in (2, 3, 5):

    @runaway(
        f"{_period} prompts in turn, temperature 0", "duplicate_prompts", 3 * _period,
        like=EPOCHS.format({3: "three", 5: "five"}[_period]) if _period > 2 else "",
    )  # fmt: skip
    def _(rng: random.Random, period: int = _period) -> Sequence[Client]:
        return [
            loop(
                again(
                    *(
                        (chat(shapes.prose(rng, 5), temperature=0), Reply(shapes.sentence(rng), 1.0))
                        for _ in range(period)
                    )
                )
            )
        ]


def _marked(mark: Callable[[int], str]) -> Callable[[random.Random], Sequence[Client]]:
    def make(rng: random.Random) -> Sequence[Client]:
        text, answer = shapes.prose(rng, 6), shapes.prose(rng, 3)
        return [
            loop(
                Ask(chat(f"{mark(n)} {text}", temperature=0), 0.1, Reply(answer, 1.0))
                for n in itertools.count()
            )
        ]

    return make


runaway("one prompt with a counter in it", "renumbered_prompts", 6)(_marked(lambda n: f"Attempt {n}:"))
runaway("one prompt with the time in it", "", 6)(
    _marked(lambda n: f"It is 2026-01-01T00:{n // 60 % 60:02}:{n % 60:02}Z.")
)
runaway("one prompt with an id in it", "", 6)(
    _marked(lambda n: f"[{random.Random(n).getrandbits(128):032x}]")
)


def _talk(message: Callable[[int], str], reply: Callable[[int], Reply], wait: float = 0.3) -> Iterator[Ask]:
    said = ["Repair the build."]
    for n in itertools.count():
        answer = reply(n)
        yield Ask(chat(*said[:1], *said[1:][-60:]), wait, answer)
        said += [answer.text, message(n)]


@runaway("one error of a tool, appended again and again", "appended_loop", 6)
def _(rng: random.Random) -> Sequence[Client]:
    return [
        loop(_talk(lambda _: "error: no such file", lambda _: Reply(shapes.sentence(rng), 2.0)), most=150)
    ]


@runaway("a conversation that answers A, B, A, B", "loop", 6)
def _(rng: random.Random) -> Sequence[Client]:
    both = shapes.prose(rng, 6), shapes.prose(rng, 6)
    return [loop(_talk(lambda _: shapes.sentence(rng), lambda n: Reply(both[n % 2], 2.0), 5.0), most=150)]


@runaway("two agents that tell each other the same for ever", "", 6)
def _(_: random.Random) -> Sequence[Client]:
    return [
        loop(_talk(lambda _: "After you.", lambda _: Reply("No, after you.", 1.0)), start=float(k), most=150)
        for k in (0, 1)
    ]


@runaway("one call of a tool with the same result for ever", "", 6)
def _(_: random.Random) -> Sequence[Client]:
    def asks() -> Iterator[Ask]:
        messages: list[dict[str, Any]] = [{"role": "user", "content": "Read the file."}]
        for n in itertools.count():
            reply = Reply(tool='{"path": "/etc/passwd"}')
            yield Ask(
                {"model": "m", "max_tokens": 200, "messages": list(messages), "tools": TOOLS}, 0.2, reply
            )
            call = {"id": f"c{n}", "type": "function", "function": {"name": "tool", "arguments": reply.tool}}
            messages.append({"role": "assistant", "content": None, "tool_calls": [call]})
            messages.append({"role": "tool", "tool_call_id": f"c{n}", "content": "permission denied"})

    return [loop(asks(), most=150)]
