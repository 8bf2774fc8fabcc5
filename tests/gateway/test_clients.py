"""Standard clients, unmodified: what they read through the gateway is what they read without it."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import venv
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anthropic
import ollama
import openai
import pytest
from gateway_world import World, world
from model_server import TEXT, TOOL, ModelServer, model_server
from patience import PATIENCE_SECONDS

from epad.configuration.schema import BudgetConfig, UpstreamConfig
from epad.ledger.record import Outcome
from statemachine.containment import Rung

ASK = [{"role": "user", "content": "say something"}]
LONG = [{"role": "user", "content": "say something " * 50}]
SCHEMA = {"type": "object", "properties": {"city": {"type": "string"}}}
FUNCTION = {"name": "weather", "description": "the weather", "parameters": SCHEMA}
CHAT_TOOL = {"type": "function", "function": FUNCTION}
IMAGE = [
    {"role": "user", "content": [{"type": "image_url", "image_url": {"url": "data:image/png;base64,aGk="}}]}
]
FORMAT = {"type": "json_schema", "json_schema": {"name": "s", "schema": SCHEMA}}
BUDGET = {"writer": BudgetConfig(tokens_per_hour=1_000_000)}


@asynccontextmanager
async def in_front(
    directory: Path, kind: str = "vllm", **budgets: BudgetConfig
) -> AsyncIterator[tuple[World, ModelServer, str]]:
    """A gateway before a server of every dialect, and that server's own URL."""
    async with model_server() as (server, direct):
        upstream = UpstreamConfig(
            url=direct, dialects=("openai", "ollama", "anthropic"), context_tokens=8_192, server=kind
        )
        async with world(directory, budgets=budgets or BUDGET, upstreams={"real": upstream}) as w:
            yield w, server, direct


@asynccontextmanager
async def client_of(kind: str, url: str, key: str) -> AsyncIterator[Any]:
    """A client as its manual says to make it."""
    if kind == "openai":
        async with openai.AsyncOpenAI(base_url=url + "/v1", api_key=key) as client:
            yield client
    elif kind == "anthropic":
        async with anthropic.AsyncAnthropic(base_url=url, api_key=key) as client:
            yield client
    else:
        local = ollama.AsyncClient(host=url, headers={"Authorization": f"Bearer {key}"})
        yield local
        await local._client.aclose()  # it has no public way


async def every(stream: Any) -> list[Any]:
    return [event async for event in await stream]


Call = Callable[[Any], Coroutine[Any, Any, Any]]
OPENAI: dict[str, tuple[Call, int]] = {
    "chat": (lambda c: c.chat.completions.create(model="tiny", messages=ASK), 12),
    "chat tools": (lambda c: c.chat.completions.create(model="tiny", messages=ASK, tools=[CHAT_TOOL]), 12),
    "chat image": (lambda c: c.chat.completions.create(model="tiny", messages=IMAGE), 12),
    "chat n": (lambda c: c.chat.completions.create(model="tiny", messages=ASK, n=3, seed=7), 12),
    "chat schema": (
        lambda c: c.chat.completions.create(model="tiny", messages=ASK, response_format=FORMAT),
        12,
    ),
    "chat stream": (lambda c: every(c.chat.completions.create(model="tiny", messages=ASK, stream=True)), 12),
    "chat usage": (
        lambda c: every(
            c.chat.completions.create(
                model="tiny", messages=ASK, stream=True, stream_options={"include_usage": True}
            )
        ),
        12,
    ),
    "completion": (lambda c: c.completions.create(model="tiny", prompt="say"), 12),
    "completion stream": (lambda c: every(c.completions.create(model="tiny", prompt="say", stream=True)), 12),
    "embedding": (lambda c: c.embeddings.create(model="tiny", input=["a", "b"], encoding_format="float"), 7),
    "response": (lambda c: c.responses.create(model="tiny", input="say"), 12),
    "response tools": (
        lambda c: c.responses.create(
            model="tiny", input=ASK, tools=[{"type": "function", "strict": None, **FUNCTION}]
        ),
        12,
    ),
    "response stream": (lambda c: every(c.responses.create(model="tiny", input="say", stream=True)), 12),
    "models": (lambda c: every(asyncio.sleep(0, c.models.list())), 0),
    "model": (lambda c: c.models.retrieve("tiny"), 0),
}
OLLAMA: dict[str, tuple[Call, int]] = {
    "chat": (lambda c: c.chat("tiny", ASK), 12),
    "chat tools": (lambda c: c.chat("tiny", ASK, tools=[CHAT_TOOL], format=SCHEMA), 12),
    "chat image": (lambda c: c.chat("tiny", [{"role": "user", "content": "?", "images": [b"hi"]}]), 12),
    "chat stream": (lambda c: every(c.chat("tiny", ASK, stream=True)), 12),
    "generate": (lambda c: c.generate("tiny", "say", options={"temperature": 0.5}), 12),
    "generate stream": (lambda c: every(c.generate("tiny", "say", stream=True)), 12),
    "embed": (lambda c: c.embed("tiny", ["a", "b"]), 7),
    "list": (lambda c: c.list(), 0),
    "show": (lambda c: c.show("tiny"), 0),
    "ps": (lambda c: c.ps(), 0),
}
MESSAGE: dict[str, Any] = {"model": "tiny", "messages": ASK, "max_tokens": 50}
ANTHROPIC: dict[str, tuple[Call, int]] = {
    "message": (lambda c: c.messages.create(**MESSAGE), 12),
    "message tools": (
        lambda c: c.messages.create(**MESSAGE, tools=[{"name": "weather", "input_schema": SCHEMA}]),
        12,
    ),
    "message stream": (lambda c: every(c.messages.create(**MESSAGE, stream=True)), 12),
    "message beta": (lambda c: c.beta.messages.create(**MESSAGE), 12),
    "count": (lambda c: c.messages.count_tokens(model="tiny", messages=ASK), 0),
    "models": (lambda c: every(asyncio.sleep(0, c.models.list())), 0),
}
CALLS = [
    (kind, name)
    for kind, calls in (("openai", OPENAI), ("ollama", OLLAMA), ("anthropic", ANTHROPIC))
    for name in calls
]


@pytest.mark.parametrize(("kind", "name"), CALLS)
async def test_a_client_reads_through_the_gateway_what_it_reads_directly(
    tmp_path: Path, kind: str, name: str
) -> None:
    """The same values, of the same types, tools, images and schemas included; and the turn is charged."""
    call, charged = {"openai": OPENAI, "ollama": OLLAMA, "anthropic": ANTHROPIC}[kind][name]
    async with (
        in_front(tmp_path) as (w, server, direct),
        client_of(kind, w.url, w.keys["writer"]) as through,
        client_of(kind, direct, "none") as straight,
    ):
        if (kind, name) == ("openai", "model"):
            assert (await call(through)).id == "tiny"
            return
        got, had = await call(through), await call(straight)
        if (kind, name) == ("anthropic", "models"):
            assert [(model.id, model.type) for model in got] == [(model.id, "model") for model in had]
            return
        assert repr(got).replace("_request_id='r1'", "") == repr(had).replace("_request_id='r1'", "")
        turns = await w.closings(1) if charged or name == "count" else []
        assert [turn.charged_tokens for turn in turns] == [charged] * len(turns)
        assert [turn.outcome for turn in turns] == [Outcome.DONE] * len(turns)
        if len(server.requests) == 2:
            sent, had_sent = map(json.loads, server.requests)
            assert {**sent, **had_sent, "options": 0, "stream_options": 0} == {
                **sent, "options": 0, "stream_options": 0,
            }  # fmt: skip


async def test_tools_arrive_as_calls(tmp_path: Path) -> None:
    """In each client's own shape."""
    async with in_front(tmp_path) as (w, _, _), client_of("openai", w.url, w.keys["writer"]) as client:
        answer = await client.chat.completions.create(model="tiny", messages=ASK, tools=[CHAT_TOOL])
        [call] = answer.choices[0].message.tool_calls
        assert json.loads(call.function.arguments) == TOOL["arguments"]
        response = await client.responses.create(model="tiny", input="say")
        assert (response.output_text, response.usage.output_tokens_details.reasoning_tokens) == (TEXT, 2)
        async with client_of("anthropic", w.url, w.keys["writer"]) as other:
            message = await other.messages.create(
                **MESSAGE, tools=[{"name": "weather", "input_schema": SCHEMA}]
            )
            assert message.content[0].input == TOOL["arguments"]
            async with other.messages.stream(**MESSAGE) as stream:
                assert "".join([text async for text in stream.text_stream]) == TEXT


REFUSED: dict[str, tuple[str, Call, type[Exception], str]] = {
    "openai too large": ("openai", lambda c: c.chat.completions.create(model="tiny", messages=LONG, max_tokens=9),
                         openai.BadRequestError, "never fits"),
    "openai unmetered": ("openai", lambda c: c.moderations.create(input="x"),
                         openai.PermissionDeniedError, "not metered"),
    "openai background": ("openai", lambda c: c.responses.create(model="tiny", input="x", background=True),
                          openai.BadRequestError, "background"),
    "openai server tool": ("openai", lambda c: c.responses.create(
        model="tiny", input="x", tools=[{"type": "web_search"}]), openai.BadRequestError, "web_search"),
    "openai delete": ("openai", lambda c: c.models.delete("tiny"), openai.PermissionDeniedError, "denied"),
    "openai model": ("openai", lambda c: c.models.retrieve("gpt"), openai.NotFoundError, "gpt"),
    "ollama pull": ("ollama", lambda c: c.pull("tiny"), ollama.ResponseError, "denied"),
    "ollama push": ("ollama", lambda c: c.push("tiny"), ollama.ResponseError, "denied"),
    "ollama create": ("ollama", lambda c: c.create("tiny", from_="x"), ollama.ResponseError, "denied"),
    "ollama copy": ("ollama", lambda c: c.copy("tiny", "x"), ollama.ResponseError, "denied"),
    "ollama delete": ("ollama", lambda c: c.delete("tiny"), ollama.ResponseError, "denied"),
    "anthropic too large": ("anthropic", lambda c: c.messages.create(**{**MESSAGE, "messages": LONG}),
                            anthropic.BadRequestError, "never fits"),
    "anthropic batch": ("anthropic", lambda c: c.messages.batches.create(requests=[]),
                        anthropic.PermissionDeniedError, "not metered"),
    "anthropic server tool": ("anthropic", lambda c: c.messages.create(
        **MESSAGE, tools=[{"type": "web_search_20250305", "name": "s"}]), anthropic.BadRequestError, "web_search"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
async def test_permanent_refusals_are_asked_for_once(tmp_path: Path, name: str) -> None:
    """Default retries on, yet a request that can never pass arrives a single time, and reads as what it is."""
    kind, call, error, words = REFUSED[name]
    async with (
        in_front(tmp_path, "generic", writer=BudgetConfig(tokens_per_hour=500)) as (w, server, _),
        client_of(kind, w.url, w.keys["writer"]) as client,
    ):
        with pytest.raises(error, match=words):
            await call(client)
        assert len(w.recorder.refusals) == 1
        assert server.requests == []


@pytest.mark.parametrize("kind", ["openai", "ollama", "anthropic"])
async def test_a_quarantined_subsystem_is_told_once(tmp_path: Path, kind: str) -> None:
    """And a wrong key too: neither 401 nor 403 is asked again."""
    calls = {"openai": OPENAI["chat"][0], "ollama": OLLAMA["chat"][0], "anthropic": ANTHROPIC["message"][0]}
    errors = (openai.PermissionDeniedError, ollama.ResponseError, anthropic.PermissionDeniedError)
    strangers = (openai.AuthenticationError, ollama.ResponseError, anthropic.AuthenticationError)
    async with in_front(tmp_path) as (w, _, _):
        w.access.hold("writer", Rung.BLOCK, "it loops")
        async with client_of(kind, w.url, w.keys["writer"]) as client:
            with pytest.raises(errors, match="it loops") as told:
                await calls[kind](client)
            assert isinstance(told.value, errors)
            assert told.value.status_code == 403
        async with client_of(kind, w.url, "wrong") as client:
            with pytest.raises(strangers) as unknown:
                await calls[kind](client)
            assert isinstance(unknown.value, strangers)
            assert unknown.value.status_code == 401
        assert len(w.recorder.refusals) == 1


@pytest.mark.parametrize("kind", ["openai", "anthropic"])
async def test_retries_are_counted_and_reserved_anew(tmp_path: Path, kind: str) -> None:
    """An upstream's 503 is repeated by the client; the gateway sees which attempt it is."""
    call = OPENAI["chat"][0] if kind == "openai" else ANTHROPIC["message"][0]
    async with in_front(tmp_path) as (w, server, _), client_of(kind, w.url, w.keys["writer"]) as client:
        server.status = 503
        with pytest.raises((openai.InternalServerError, anthropic.InternalServerError)):
            await call(client)
        assert [event.retry for event in w.recorder.admissions] == [0, 1, 2]
        assert len({turn.turn for turn in await w.closings(3)}) == 3


CUTS: dict[str, tuple[str, Call, type[Exception]]] = {
    "chat": ("openai", OPENAI["chat stream"][0], openai.APIError),
    "completion": ("openai", OPENAI["completion stream"][0], openai.APIError),
    "response": ("openai", OPENAI["response stream"][0], openai.APIError),
    "local chat": ("ollama", OLLAMA["chat stream"][0], ollama.ResponseError),
    "local generate": ("ollama", OLLAMA["generate stream"][0], ollama.ResponseError),
    "message": ("anthropic", ANTHROPIC["message stream"][0], anthropic.APIStatusError),
}


@pytest.mark.parametrize("name", CUTS)
async def test_a_severed_stream_raises_in_every_client(tmp_path: Path, name: str) -> None:
    """None of them takes the end for a normal one."""
    kind, call, error = CUTS[name]
    async with in_front(tmp_path) as (w, server, _), client_of(kind, w.url, w.keys["writer"]) as client:
        server.gate, server.words_before_gate = asyncio.Event(), 1
        reading = asyncio.create_task(call(client))
        async with asyncio.timeout(PATIENCE_SECONDS):
            while not any(turn.meter and turn.meter.chunks for turn in w.in_flight()):
                await asyncio.sleep(0.001)
        w.access.hold("writer", Rung.BLOCK, "it loops")
        w.access.sever("writer")
        with pytest.raises(error, match="it loops"):
            await reading
        [closed] = await w.closings(1)
        assert closed.outcome is Outcome.CUT


OLD_SCRIPT = """
import sys, openai
assert openai.__version__.startswith("1."), openai.__version__
client = openai.OpenAI(base_url=sys.argv[1] + "/v1", api_key=sys.argv[2])
ask = dict(model="tiny", messages=[{"role": "user", "content": "hi"}])
assert client.chat.completions.create(**ask).choices[0].message.content == sys.argv[3]
chunks = list(client.chat.completions.create(**ask, stream=True))
assert "".join(chunk.choices[0].delta.content for chunk in chunks) == sys.argv[3]
assert client.completions.create(model="tiny", prompt="x").choices[0].text == sys.argv[3]
assert client.embeddings.create(model="tiny", input="x", encoding_format="float").data[0].embedding == [0.25, -1.5]
assert client.responses.create(model="tiny", input="x").output_text == sys.argv[3]
try:
    client.moderations.create(input="x")
except openai.PermissionDeniedError:
    pass
else:
    raise SystemExit("not refused")
"""


@pytest.fixture(scope="session")
def old_openai(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Python with openai 1.x, in an environment of its own."""
    directory = tmp_path_factory.mktemp("openai1")
    venv.create(directory, with_pip=True)
    python = directory / "bin" / "python"
    try:
        subprocess.run(
            [python, "-m", "pip", "install", "-q", "openai<2"],
            check=True,
            capture_output=True,
            timeout=PATIENCE_SECONDS,
        )
    except (subprocess.SubprocessError, OSError):
        pytest.skip("openai 1.x cannot be installed here")
    return python


@pytest.mark.slow
async def test_openai_1_works_too(tmp_path: Path, old_openai: Path) -> None:
    """The major version that most frameworks still pin."""
    async with in_front(tmp_path) as (w, _, _):
        child = await asyncio.create_subprocess_exec(
            old_openai, "-c", OLD_SCRIPT, w.url, w.keys["writer"], TEXT,
            stderr=asyncio.subprocess.PIPE, env={"PATH": str(Path(sys.executable).parent)},
        )  # fmt: skip
        _, error = await child.communicate()
        assert child.returncode == 0, error.decode()
        assert len(w.ledger.opened) == 5
        assert len(w.recorder.refusals) == 1
