"""The embedded model server speaks both dialects to the clients that people really use."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import ollama
import openai
import pytest

from runners.model.catalogue import embedded_engines
from runners.model.engine import OWNER
from runners.model.listening import ListenError, listening
from runners.model.server import ModelServer, Pace
from runners.model.tokens import count

CHAT = "embedded-markov-chat"
ASK = [{"role": "user", "content": "How do I sort a list of numbers?"}]


@pytest.fixture(scope="module")
def server() -> ModelServer:
    return ModelServer(embedded_engines(), Pace())


@pytest.fixture
async def url(server: ModelServer) -> AsyncIterator[str]:
    async with listening(server, "127.0.0.1:0") as address:
        yield f"http://{address}"


@pytest.fixture
async def openai_client(url: str) -> AsyncIterator[openai.AsyncOpenAI]:
    async with openai.AsyncOpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0) as client:
        yield client


@pytest.fixture
async def ollama_client(url: str) -> AsyncIterator[ollama.AsyncClient]:
    client = ollama.AsyncClient(host=url)
    yield client
    await client._client.aclose()


async def test_every_model_is_listed_as_no_llm(openai_client, ollama_client) -> None:
    """Whoever lists the models learns from either dialect that there is no language model among them."""
    listed = (await openai_client.models.list()).data
    tagged = (await ollama_client.list()).models
    assert {model.owned_by for model in listed} == {OWNER}
    assert {model.id for model in listed} == {model.model for model in tagged}
    assert {model.details.family for model in tagged} == {OWNER}


async def test_openai_usage_is_what_was_read_and_written(openai_client) -> None:
    """The plain answer's counts are the tokenizer's on the very texts."""
    answer = await openai_client.chat.completions.create(model=CHAT, messages=ASK)
    assert answer.usage.prompt_tokens == count(f"user: {ASK[0]['content']}\n")
    assert answer.usage.completion_tokens == count(answer.choices[0].message.content)
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + answer.usage.completion_tokens
    assert answer.choices[0].finish_reason == "stop"


async def test_openai_stream_is_the_plain_answer_token_by_token(openai_client) -> None:
    """As many chunks with text as tokens charged, and the same text as without streaming."""
    plain = await openai_client.chat.completions.create(model=CHAT, messages=ASK)
    stream = await openai_client.chat.completions.create(
        model=CHAT, messages=ASK, stream=True, stream_options={"include_usage": True}
    )
    chunks = [chunk async for chunk in stream]
    tokens = [c.choices[0].delta.content for c in chunks if c.choices and c.choices[0].delta.content]
    assert "".join(tokens) == plain.choices[0].message.content
    assert len(tokens) == chunks[-1].usage.completion_tokens == plain.usage.completion_tokens
    assert [c.usage for c in chunks[:-1]] == [None] * (len(chunks) - 1)
    assert chunks[-1].choices == []


async def test_openai_stream_without_include_usage_has_none(openai_client) -> None:
    """A client that did not ask for usage gets no chunk it does not expect."""
    stream = await openai_client.chat.completions.create(model=CHAT, messages=ASK, stream=True)
    chunks = [chunk async for chunk in stream]
    assert all(chunk.usage is None and chunk.choices for chunk in chunks)
    assert chunks[-1].choices[0].finish_reason == "stop"


@pytest.mark.parametrize("name", ["max_tokens", "max_completion_tokens"])
async def test_openai_length_is_respected_and_said(openai_client, name: str) -> None:
    """A cut answer has exactly the tokens allowed, and says that it was cut."""
    answer = await openai_client.chat.completions.create(model=CHAT, messages=ASK, **{name: 5})
    assert answer.choices[0].finish_reason == "length"
    assert answer.usage.completion_tokens == count(answer.choices[0].message.content) == 5


async def test_openai_n_choices_are_all_charged(openai_client) -> None:
    """Three choices cost three answers, on one prompt."""
    answer = await openai_client.chat.completions.create(model=CHAT, messages=ASK, n=3)
    assert len(answer.choices) == 3
    assert answer.usage.completion_tokens == sum(count(c.message.content) for c in answer.choices)


async def test_ollama_streams_by_default_and_counts_alike(ollama_client, url: str) -> None:
    """NDJSON unless told otherwise; counts in the last line alone, equal to the lines with text."""
    stream = await ollama_client.chat(model=CHAT, messages=ASK, stream=True)
    lines = [line async for line in stream]
    plain = await ollama_client.chat(model=CHAT, messages=ASK, stream=False)
    tokens = [line.message.content for line in lines[:-1]]
    assert "".join(tokens) == plain.message.content
    assert lines[-1].eval_count == len(tokens) == plain.eval_count
    assert lines[-1].prompt_eval_count == plain.prompt_eval_count == count(f"user: {ASK[0]['content']}\n")
    assert lines[-1].done
    assert lines[-1].done_reason == "stop"
    async with aiohttp.ClientSession() as session:
        reply = await session.post(f"{url}/api/chat", json={"model": CHAT, "messages": ASK})
        assert reply.content_type == "application/x-ndjson"
        assert len((await reply.text()).splitlines()) == len(lines)


async def test_ollama_num_predict_is_respected(ollama_client) -> None:
    """`num_predict` cuts and is said; a negative one is no wish."""
    cut = await ollama_client.chat(model=CHAT, messages=ASK, options={"num_predict": 4})
    free = await ollama_client.chat(model=CHAT, messages=ASK, options={"num_predict": -1})
    assert (cut.eval_count, cut.done_reason) == (4, "length")
    assert free.done_reason == "stop"


async def test_an_unknown_model_is_404_in_each_dialect(openai_client, ollama_client) -> None:
    """Each client raises its own error for it, so each shape is right."""
    with pytest.raises(openai.NotFoundError) as refused:
        await openai_client.chat.completions.create(model="gpt-none", messages=ASK)
    assert refused.value.code == "model_not_found"
    with pytest.raises(ollama.ResponseError) as told:
        await ollama_client.chat(model="gpt-none", messages=ASK)
    assert told.value.status_code == 404


@pytest.mark.parametrize(
    ("body", "place"),
    [
        ("{", "body"),
        ("[]", "body"),
        ('{"messages": []}', "model"),
        ('{"model": "m"}', "messages"),
        ('{"model": "m", "messages": [1]}', "messages[0]"),
        ('{"model": "m", "messages": [{"role": "user", "content": 7}]}', "messages[0].content"),
        (
            '{"model": "m", "messages": [{"role": "user", "content": [{"type": "image"}]}]}',
            "messages[0].content[0].type",
        ),
        ('{"model": "m", "messages": [{"role": "user", "content": ""}], "stream": "yes"}', "stream"),
    ],
)
@pytest.mark.parametrize("path", ["/v1/chat/completions", "/api/chat"])
async def test_a_malformed_body_is_400_and_names_the_place(
    url: str, path: str, body: str, place: str
) -> None:
    """The message begins with where the trouble is, in both dialects."""
    async with aiohttp.ClientSession() as session, session.post(url + path, data=body) as reply:
        error = (await reply.json())["error"]
        message = error["message"] if isinstance(error, dict) else error
        assert reply.status == 400
        assert message.startswith(place + ":")


@pytest.mark.parametrize("fields", [{"max_tokens": 0}, {"n": 17}, {"n": True}, {"seed": "x"}])
async def test_values_out_of_range_are_400(url: str, fields: dict[str, object]) -> None:
    """A limit that makes no sense is refused, not interpreted."""
    async with aiohttp.ClientSession() as session:
        reply = await session.post(
            f"{url}/v1/chat/completions", json={"model": CHAT, "messages": ASK, **fields}
        )
        assert reply.status == 400
        await reply.read()


async def test_a_prompt_beyond_the_context_is_refused_not_cut(url: str) -> None:
    """Ollama cuts silently with 200; here the client is told."""
    long = [{"role": "user", "content": "word " * 40_000}]
    async with aiohttp.ClientSession() as session:
        reply = await session.post(f"{url}/v1/chat/completions", json={"model": CHAT, "messages": long})
        assert reply.status == 400
        assert (await reply.json())["error"]["code"] == "context_length_exceeded"


async def test_listens_on_a_unix_socket_and_replaces_a_stale_one(server: ModelServer) -> None:
    """A socket left by a killed server is taken over; a living server's is not."""
    with tempfile.TemporaryDirectory() as directory:
        path = str(Path(directory) / "m.sock")
        with socket.socket(socket.AF_UNIX) as dead:
            dead.bind(path)
        async with listening(server, f"unix:{path}"):
            connector = aiohttp.UnixConnector(path=path)
            async with aiohttp.ClientSession(connector=connector) as session:
                reply = await session.get("http://model/v1/models")
                assert (await reply.json())["data"]
            with pytest.raises(ListenError, match="another server"):
                async with listening(server, f"unix:{path}"):
                    pass


async def test_never_unlinks_what_is_no_socket(server: ModelServer, tmp_path: Path) -> None:
    """A mistyped path must not cost somebody a file."""
    precious = tmp_path / "thesis.txt"
    precious.write_text("years of work")
    with pytest.raises(ListenError, match="no socket"):
        async with listening(server, f"unix:{precious}"):
            pass
    assert precious.read_text() == "years of work"


def test_as_a_process_it_says_ready_and_stops_when_told() -> None:
    """The installed program: READY over the notify socket, an answer over HTTP, exit 0 on SIGTERM."""
    with (
        tempfile.TemporaryDirectory() as directory,
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as box,
    ):
        box.bind(f"{directory}/n.sock")
        box.settimeout(60)
        with subprocess.Popen(
            [sys.executable, "-m", "runners.model", "--listen", "127.0.0.1:0"],
            env={"NOTIFY_SOCKET": f"{directory}/n.sock", "PYTHONPATH": ":".join(sys.path)},
            stdout=subprocess.PIPE,
            text=True,
        ) as process:
            ready = box.recv(4096).decode()
            assert ready.startswith("READY=1\nSTATUS=serving on 127.0.0.1:")
            assert process.stdout is not None
            assert OWNER in process.stdout.readline()
            process.send_signal(signal.SIGTERM)
            assert process.wait(60) == 0
            said: list[str] = []
            while not any("STOPPING=1" in text for text in said):
                said.append(box.recv(4096).decode())
            assert "WATCHDOG=1" in said


def test_the_pace_is_a_function_of_the_tokens() -> None:
    """Zero means at once."""
    assert Pace(0.0, 50.0).seconds_for(100) == 2.0
    assert Pace().seconds_for(100) == 0.0
