"""The honest workloads of bench/containment.py: what runs on a workstation, each some hundred requests.

Each is a function from how many requests it makes to its row. Nothing is random but for a seed of its name.
"""

from __future__ import annotations

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
def _(rng: random.Random, n: int) -> Sequence[Client]:
    asks = []
    for job in range(max(1, n // 25)):
        messages: list[dict[str, Any]] = [
            {"role": "user", "content": f"Run job {job} and tell me when it is done."}
        ]
        for poll in range(25):
            reply = Reply(tool='{"job": %d}' % job) if poll < 24 else Reply("It is done.")
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


@row("an agent that calls one tool with many arguments")
def _(rng: random.Random, n: int) -> Sequence[Client]:
    asks = []
    for _ in range(max(1, n // 20)):
        messages: list[dict[str, Any]] = [{"role": "user", "content": f"Clean up: {shapes.sentence(rng)}"}]
        for step in range(20):
            reply = Reply(tool='{"path": "src/%s.py"}' % rng.choice(shapes.WORDS))
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


@row("a health check every ten seconds")
def _(rng: random.Random, n: int) -> Sequence[Client]:
    return [Client([Ask(chat("ping", max_tokens=1, temperature=0), 9.8, Reply("pong", 0.2))] * n)]


@row("the same question once an hour, all day", seldom=True, after=1.0)
def _(rng: random.Random, n: int) -> Sequence[Client]:
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
