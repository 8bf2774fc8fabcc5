"""epad before a real model server: the same answers as without it, and charged what the server says it made.

Nothing here downloads a model. Start a server, name it, and run this folder:

    tests/real/serve_transformers.sh MODEL                      # or:
    llama-server -m MODEL.gguf --port 18080 -c 16384 -np 4 -t 1 --poll 0 --alias small --metrics --jinja   # or:
    vllm serve MODEL --served-model-name small --max-model-len 2048 --port 18082

    EPAD_REAL_OPENAI_URL=http://127.0.0.1:18080/v1 EPAD_REAL_MODEL=small \
        .venv/bin/python -m pytest -m slow tests/real

llama-server and vLLM count what they made at /metrics, and are held to it. Any other server is held to its usage.
Use a small model: SmolLM2-135M-Instruct answers all of this on two cores in a minute or two. Nobody else may
ask the server meanwhile.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from installed import QUICK, Installation, installation
from real_server import Answer, Made, ask, made_by, sum_of

URL = os.environ.get("EPAD_REAL_OPENAI_URL", "")
MODEL = os.environ.get("EPAD_REAL_MODEL", "")

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(900),
    pytest.mark.skipif(
        not (URL and MODEL),
        reason="no real model server: set EPAD_REAL_OPENAI_URL and EPAD_REAL_MODEL, see tests/real/test_real_server.py",
    ),
]

CONFIG = f"""
[upstreams.real]
url = "{URL}"
dialects = ["openai"]
models = ["*"]
free = true
[subsystems.asker]
kind = "client"
budget = {{ tokens_per_hour = 200000 }}
[subsystems.small]
kind = "client"
budget = {{ tokens_per_day = 1500 }}
[subsystems.many]
kind = "client"
budget = {{ tokens_per_minute = 20000 }}
"""

CITY = {"type": "object", "properties": {"city": {"type": "string", "maxLength": 12}}, "required": ["city"]}
TOOL = {"type": "function", "function": {"name": "weather", "description": "of a city", "parameters": CITY}}
CHAT, TEXT, RESPONSES = "/chat/completions", "/completions", "/responses"
USAGE = {"include_usage": True}

# name: path, what is asked beside the model and the question, and whether it counts several answers
ASKED: dict[str, tuple[str, dict[str, Any]]] = {
    "chat": (CHAT, {"max_tokens": 12}),
    "chat, no maximum": (CHAT, {"stop": ["."]}),
    "chat, streamed": (CHAT, {"max_tokens": 12, "stream": True}),
    "chat, streamed, with its usage": (CHAT, {"max_tokens": 12, "stream": True, "stream_options": USAGE}),
    "chat, a tool": (CHAT, {"max_tokens": 48, "tools": [TOOL], "tool_choice": "required"}),
    "chat, a tool, streamed": (
        CHAT,
        {"max_tokens": 48, "tools": [TOOL], "tool_choice": "required", "stream": True},
    ),
    "chat, log probabilities": (CHAT, {"max_tokens": 5, "logprobs": True, "top_logprobs": 2}),
    "chat, three answers": (CHAT, {"max_tokens": 8, "n": 3}),
    "chat, three answers, streamed": (CHAT, {"max_tokens": 8, "n": 3, "stream": True}),
    "text": (TEXT, {"max_tokens": 8}),
    "text, streamed": (TEXT, {"max_tokens": 8, "stream": True}),
    "text, no maximum": (TEXT, {"stop": ["."]}),
    "response": (RESPONSES, {"max_output_tokens": 12}),
    "response, streamed": (RESPONSES, {"max_output_tokens": 12, "stream": True}),
    "a wrong type": (CHAT, {"max_tokens": 4, "temperature": "hot"}),
}


@pytest.fixture(scope="module")
def before() -> Iterator[Installation]:
    """A daemon before the real server."""
    with installation(QUICK + CONFIG) as one:
        one.start()
        yield one
        assert one.stop() == 0


def body_of(path: str, name: str, wanted: dict[str, Any]) -> dict[str, Any]:
    """A request of its own for each name: the same prompt again and again is an anomaly of its own."""
    question = f"({name}) What is the capital of France? Answer in one sentence."
    asked: dict[str, Any] = {"messages": [{"role": "user", "content": question}]}
    if path != CHAT:
        asked = {"prompt" if path == TEXT else "input": question}
    steady = {"temperature": 0} if path == RESPONSES else {"temperature": 0, "seed": 7}
    return {"model": MODEL, **asked, **steady, **wanted}


def through(house: Installation, who: str, path: str, body: dict[str, Any]) -> Answer:
    key = (house.state / f"keys/{who}.key").read_text().strip()
    return ask(house.status()["gateway"]["url"] + "/v1", path, body, key)


def turns(house: Installation) -> dict[str, dict[str, Any]]:
    """The closed record of each turn."""
    records = [json.loads(line) for line in house.ctl("ledger", "export").stdout.splitlines()]
    return {r["turn"]: r for r in records if r["kind"] == "closed"}


def charged(house: Installation, answer: Answer) -> int:
    """The tokens that a turn was charged; none where the gateway refused it."""
    if not answer.turn:
        return 0
    house.wait(lambda: answer.turn in turns(house), "the turn to be closed", 60)
    tokens: int = turns(house)[answer.turn]["charged_tokens"]
    return tokens


def made(house: Installation) -> Made | None:
    """What the server says that it has read and made so far, once it is at rest; None where it does not say."""
    if made_by(URL) is None:
        return None
    house.wait(lambda: (so_far := made_by(URL)) is not None and not so_far.busy, "the server to rest", 300)
    return made_by(URL)


def told(answer: Answer) -> int:
    """What the server's usage comes to."""
    usage = answer.usage()
    prompt = usage.get("prompt_tokens", usage.get("input_tokens", 0))
    written = usage.get("completion_tokens", usage.get("output_tokens", 0))
    return int(prompt + written)


@pytest.mark.parametrize("name", ASKED)
def test_an_answer_is_the_same_as_without_epad(before: Installation, name: str) -> None:
    path, wanted = ASKED[name]
    body = body_of(path, name, wanted)
    direct = ask(URL, path, body)
    answer = through(before, "asker", path, body)
    if direct.status >= 500:  # its own text may be no JSON
        assert (answer.status, answer.body) == (direct.status, direct.body)
        return
    expected, got = sum_of(direct), sum_of(answer)
    for sums in (expected[1], got[1]):  # how much of a prompt was in the server's cache differs each time
        sums.others = {k: v for k, v in sums.others.items() if "cache" not in k}
    assert got == expected


@pytest.mark.parametrize("name", ASKED)
def test_what_is_charged_is_what_was_made(before: Installation, name: str) -> None:
    """By the server's own counters, else by its usage."""
    path, wanted = ASKED[name]
    start = made(before)
    answer = through(before, "asker", path, body_of(path, f"charged: {name}", wanted))
    end = made(before)
    if answer.status >= 500:
        return  # what it made before it broke down is not told: its bound is charged
    if start is None or end is None:
        tokens = told(answer) if answer.status == 200 else 0
        # without counters nobody knows of how many answers its usage is
        assert tokens <= charged(before, answer) <= tokens * wanted.get("n", 1)
    else:
        assert charged(before, answer) == end.since(start, wanted.get("n", 1))


def test_short_questions_at_once_that_name_no_maximum_are_all_answered(before: Installation) -> None:
    def one(number: int) -> int:
        question = f"Say the number {number} in one word."
        body = {"model": MODEL, "messages": [{"role": "user", "content": question}], "stop": ["."]}
        return through(before, "many", CHAT, body).status

    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(one, range(8))) == [200] * 8


def test_a_budget_is_never_overrun_by_the_servers_own_count(before: Installation) -> None:
    """Long stories until nothing is left: no more is made than the budget, and little is left of it."""
    start = made(before)
    statuses = []
    for number in range(40):
        question = f"Write a long story about {number} whales."
        body = {"model": MODEL, "messages": [{"role": "user", "content": question}], "temperature": 1}
        statuses.append(through(before, "small", CHAT, body).status)
        if statuses[-1] != 200:
            break
    assert statuses[-1] == 429
    assert statuses.count(200) >= 1
    end = made(before)
    if start is not None and end is not None:
        assert end.since(start) <= 1500
    assert before.subsystem("small")["state"] == "running"
