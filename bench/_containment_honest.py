"""The honest workloads of bench/containment.py: what runs on a workstation, each some hundred requests.

Each is a function from how many requests it makes to its row. Nothing is random but for a seed of its name.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import _containment_shapes as shapes
from _containment_world import Ask, Client, Manner, Reply, Workload

Make = Callable[[int], Workload]
ROWS: dict[str, Make] = {}
PATIENT = Manner(pause=5.0)
"""On to the next request five seconds after one that failed for good."""


def row(name: str, **fields: Any) -> Callable[[Callable[..., Sequence[Client]]], Any]:
    """Register a workload: the function makes its clients from a generator of its own and how many requests."""

    def register(make: Callable[[random.Random, int], Sequence[Client]]) -> Any:
        ROWS[name] = lambda n: Workload(name, make(random.Random(name), n), **fields)
        return make

    return register


def chat(*said: str, **fields: Any) -> dict[str, Any]:
    """A body whose messages go user, assistant, user, ..."""
    roles = ("user", "assistant")
    messages = [{"role": roles[n % 2], "content": text} for n, text in enumerate(said)]
    return {"model": "m", "max_tokens": 400, "messages": messages, **fields}


def split(asks: Sequence[Ask], workers: int) -> list[Client]:
    """Deal requests out to so many workers, as a pool does."""
    return [Client(asks[n::workers], start=0.05 * n) for n in range(workers)]


def _answers(rng: random.Random, n: int, kinds: int = 4) -> Iterator[Reply]:
    """Answers to one question drawn at a temperature: few different results, worded differently."""
    for _ in range(n):
        yield Reply(
            f"{shapes.sentence(rng)} So the answer is {rng.randint(1, kinds)}.", rng.uniform(0.5, 3.0)
        )


def _sampled(
    rng: random.Random, n: int, k: int, workers: int, *, seeds: bool, wait: float = 0.1
) -> list[Client]:
    asks = []
    for question in range(max(1, n // k)):
        body = chat(f"Question {question}: {shapes.prose(rng, 2)}", temperature=0.7)
        for draw, reply in enumerate(_answers(rng, k)):
            asks.append(Ask({**body, "seed": draw} if seeds else body, wait, reply))
    return split(asks, workers)


@row("evaluation harness, epochs interleaved, ten at once")
def _(rng: random.Random, n: int) -> Sequence[Client]:
    samples = [chat(f"Solve: {shapes.sentence(rng)}", temperature=0.7) for _ in range(max(1, n // 4))]
    return split(
        [
            Ask(body, 0.05, reply)
            for _ in range(4)
            for body, reply in zip(samples, _answers(rng, n), strict=False)
        ],
        10,
    )


@row("evaluation harness, five epochs of a sample after each other, seeds")
def _(rng: random.Random, n: int) -> Sequence[Client]:
    return _sampled(rng, n, 5, 1, seeds=True)


@row("evaluation harness, epochs at temperature 0 (the harness's default)")
def _(rng: random.Random, n: int) -> Sequence[Client]:
    asks = []
    for question in range(max(1, n // 3)):
        body = chat(f"Solve {question}: {shapes.sentence(rng)}", temperature=0)
        asks += [Ask(body, 0.2, Reply(f"The answer is {question}.", 1.0))] * 3
    return split(asks, 4)


@row("log-likelihoods of four options (lm-eval)")
def _(rng: random.Random, n: int) -> Sequence[Client]:
    asks = []
    for _ in range(max(1, n // 4)):
        context = shapes.prose(rng, 5)
        for option in "ABCD":
            body = {
                "model": "m",
                "prompt": f"{context} Answer: {option}",
                "max_tokens": 1,
                "logprobs": 1,
                "temperature": 0,
            }
            asks.append(Ask(body, 0.02, Reply(option, 0.2), path="/v1/completions"))
    return split(asks, 4)


@row("multiple choice with log probabilities, one token")
def _(rng: random.Random, n: int) -> Sequence[Client]:
    fields = {"max_tokens": 1, "logprobs": True, "top_logprobs": 5, "temperature": 0}
    return split(
        [
            Ask(chat(f"{shapes.prose(rng, 3)} A, B, C or D?", **fields), 0.1, Reply(rng.choice("ABCD"), 0.3))
            for _ in range(n)
        ],
        2,
    )


for _k, _workers, _seeds in ((5, 1, False), (20, 8, False), (40, 1, True), (40, 4, False), (40, 1, False)):

    @row(f"self-consistency, k = {_k}, {_workers} at once, {'seeds' if _seeds else 'no seeds'}")
    def _(
        rng: random.Random, n: int, k: int = _k, workers: int = _workers, seeds: bool = _seeds
    ) -> Sequence[Client]:
        return _sampled(rng, max(n, 2 * k), k, workers, seeds=seeds)


@row("twenty draws of one letter each, no temperature given (self-consistency without thinking)")
def _(rng: random.Random, n: int) -> Sequence[Client]:
    asks = []
    for _ in range(max(1, n // 20)):
        body = chat(f"{shapes.prose(rng, 2)} A, B, C or D? Answer with the letter alone.")
        asks += [Ask(body, 0.1, Reply(rng.choice("ABCD"), 0.4))] * 20
    return [Client(asks)]


for _count, _samples in (("three", 3), ("five", 5)):

    @row(f"evaluation harness, {_count} samples, five epochs in turn, temperature 0")
    def _(rng: random.Random, n: int, samples: int = _samples) -> Sequence[Client]:
        asks = []
        for task in range(max(1, n // (5 * samples))):
            once = [
                Ask(
                    chat(f"Task {task}: {shapes.prose(rng, 3)}", temperature=0),
                    0.1,
                    Reply(shapes.sentence(rng), 1.0),
                )
                for _ in range(samples)
            ]
            asks += once * 5
        return [Client(asks)]


@row("pass@k: two hundred draws of each prompt, ten at once")
def _(rng: random.Random, n: int) -> Sequence[Client]:
    return _sampled(rng, max(n, 400), 200, 10, seeds=False)


@row("best of eight in one request (n = 8)")
def _(rng: random.Random, n: int) -> Sequence[Client]:
    return [
        Client(
            [Ask(chat(shapes.sentence(rng), n=8, temperature=1.0), 0.5, reply) for reply in _answers(rng, n)]
        )
    ]


@row("one prompt over a grid of temperatures and formats")
def _(rng: random.Random, n: int) -> Sequence[Client]:
    asks = []
    for _ in range(max(1, n // 12)):
        text = shapes.prose(rng, 2)
        for step in range(12):
            body = chat(text, temperature=step / 10, top_p=0.9, max_tokens=100 + 10 * step)
            asks.append(Ask(body, 1.0, Reply(shapes.sentence(rng), 1.0)))
    return [Client(asks)]


@row("labels for a batch, a third of it duplicates")
def _(rng: random.Random, n: int) -> Sequence[Client]:
    texts = [shapes.sentence(rng) for _ in range(max(1, 2 * n // 3))]
    labels = {text: rng.choice(["good", "bad", "neither"]) for text in texts}
    chosen = texts + [rng.choice(texts) for _ in range(n - len(texts))]
    rng.shuffle(chosen)
    return split(
        [
            Ask(chat(f"Label: {text}", temperature=0, max_tokens=5), 0.05, Reply(labels[text], 0.4))
            for text in chosen
        ],
        6,
    )


@row("labels for short messages, mostly the same few")
def _(rng: random.Random, n: int) -> Sequence[Client]:
    common = ["ok", "thanks", "yes", "no", "thank you!", "great", "hello"]
    texts = [rng.choice(common) if rng.random() < 0.6 else shapes.sentence(rng) for _ in range(n)]
    return split(
        [
            Ask(chat(f"Label: {text}", temperature=0, max_tokens=5), 0.1, Reply("neutral", 0.3))
            for text in texts
        ],
        4,
    )


@row("yes or no, asked in a growing conversation")
def _(rng: random.Random, n: int) -> Sequence[Client]:
    asks = []
    for _ in range(max(1, n // 30)):
        said: list[str] = []
        for _ in range(30):
            said.append(f"Is this so: {shapes.sentence(rng)}")
            reply = rng.choice(["No.", "No.", "No.", "Yes."])
            asks.append(Ask(chat(*said, temperature=0), 2.0, Reply(reply, 0.6)))
            said.append(reply)
    return [Client(asks)]


@row("questions about documents (RAG)")
def _(rng: random.Random, n: int) -> Sequence[Client]:
    return [
        Client(
            [
                Ask(chat(f"{shapes.prose(rng, 12)}\n\nWhat follows?"), 2.0, Reply(shapes.prose(rng, 2), 2.0))
                for _ in range(n)
            ]
        )
    ]


@row("one question asked of many chunks (RAG), most say: not found")
def _(rng: random.Random, n: int) -> Sequence[Client]:
    asks = [
        Ask(chat(f"{shapes.prose(rng, 8)}\n\nWho signed?"), 0.2, Reply("Not found.", 0.7)) for _ in range(n)
    ]
    return split(asks, 4)


@row("an agent that polls a tool: still running")
def _(_: random.Random, n: int) -> Sequence[Client]:
    asks = []
    for job in range(max(1, n // 25)):
        messages: list[dict[str, Any]] = [
            {"role": "user", "content": f"Run job {job} and tell me when it is done."}
        ]
        for poll in range(25):
            reply = Reply(tool=json.dumps({"job": job})) if poll < 24 else Reply("It is done.")
            asks.append(
                Ask(
                    {"model": "m", "max_tokens": 200, "messages": list(messages), "tools": TOOLS}, 15.0, reply
                )
            )
            call = {
                "id": f"c{poll}",
                "type": "function",
                "function": {"name": "tool", "arguments": reply.tool},
            }
            messages.append({"role": "assistant", "content": None, "tool_calls": [call]})
            messages.append({"role": "tool", "tool_call_id": f"c{poll}", "content": "still running"})
    return [Client(asks)]


TOOLS = [
    {"type": "function", "function": {"name": "tool", "parameters": {"type": "object", "properties": {}}}}
]


def _working(
    rng: random.Random, n: int, results: Callable[[int], str], turns: int, wait: float
) -> list[Client]:
    """An agent that calls a tool so many times for each job, each time with something else in mind."""
    asks = []
    for _ in range(max(1, n // turns)):
        messages: list[dict[str, Any]] = [{"role": "user", "content": f"Mend this: {shapes.sentence(rng)}"}]
        for step in range(turns):
            reply = Reply(tool=json.dumps({"patch": shapes.sentence(rng)}), seconds=3.0, output_tokens=150)
            asks.append(
                Ask(
                    {"model": "m", "max_tokens": 400, "messages": list(messages), "tools": TOOLS}, wait, reply
                )
            )
            call = {
                "id": f"c{step}",
                "type": "function",
                "function": {"name": "tool", "arguments": reply.tool},
            }
            messages.append({"role": "assistant", "content": None, "tool_calls": [call]})
            messages.append({"role": "tool", "tool_call_id": f"c{step}", "content": results(step)})
    return [Client(asks)]


@row("an agent whose build fails with the same error seven times, and then passes")
def _(rng: random.Random, n: int) -> Sequence[Client]:
    return _working(
        rng, n, lambda step: "error: undefined reference" if step < 7 else "the build passes", 10, 0.5
    )


@row("an agent whose tool says nothing but ok, twelve times in a row")
def _(rng: random.Random, n: int) -> Sequence[Client]:
    return _working(rng, n, lambda step: "ok" if step < 12 else shapes.sentence(rng), 16, 0.3)


@row("an agent that calls one tool with many arguments")
def _(rng: random.Random, n: int) -> Sequence[Client]:
    asks = []
    for _ in range(max(1, n // 20)):
        messages: list[dict[str, Any]] = [{"role": "user", "content": f"Clean up: {shapes.sentence(rng)}"}]
        for step in range(20):
            reply = Reply(tool=json.dumps({"path": f"src/{rng.choice(shapes.WORDS)}.py"}))
            asks.append(
                Ask({"model": "m", "max_tokens": 200, "messages": list(messages), "tools": TOOLS}, 1.5, reply)
            )
            call = {
                "id": f"c{step}",
                "type": "function",
                "function": {"name": "tool", "arguments": reply.tool},
            }
            messages.append({"role": "assistant", "content": None, "tool_calls": [call]})
            messages.append(
                {
                    "role": "tool",
                    "tool_call_id": f"c{step}",
                    "content": rng.choice(["ok", "ok", shapes.sentence(rng)]),
                }
            )
    return [Client(asks)]


@row("chats that grow")
def _(rng: random.Random, n: int) -> Sequence[Client]:
    clients = []
    for person in range(3):
        asks, said = [], []
        for _ in range(max(1, n // 3)):
            said.append(rng.choice(["continue", "go on", shapes.sentence(rng), shapes.sentence(rng)]))
            reply = shapes.prose(rng, 3)
            asks.append(Ask(chat(*said[-15:]), rng.uniform(5, 40), Reply(reply, 3.0)))
            said.append(reply)
        clients.append(Client(asks, start=7.0 * person))
    return clients
