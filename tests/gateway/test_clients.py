"""Standard clients, unmodified: they work, and they read refusals as they are meant."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import ollama
import openai
import pytest
from gateway_world import World, world

from epad.config import BudgetConfig
from epad.ledger.record import Outcome
from statemachine.containment import Rung

TEXT = "one two three vier füünf"
ASK = [{"role": "user", "content": "say something"}]


def openai_client(w: World, name: str = "writer") -> openai.AsyncOpenAI:
    return openai.AsyncOpenAI(base_url=w.url + "/v1", api_key=w.keys[name])


@asynccontextmanager
async def ollama_client(w: World) -> AsyncIterator[ollama.AsyncClient]:
    client = ollama.AsyncClient(host=w.url, headers=w.headers())
    yield client
    await client._client.aclose()  # it has no public way


async def test_openai_plain_streaming_and_models(tmp_path: Path) -> None:
    """The newest OpenAI client: an answer, a stream, a stream with usage, the list of models."""
    async with world(tmp_path) as w, openai_client(w) as client:
        answer = await client.chat.completions.create(model="tiny", messages=ASK)
        assert answer.choices[0].message.content == TEXT
        assert answer.usage.total_tokens == 12
        stream = await client.chat.completions.create(model="tiny", messages=ASK, stream=True)
        chunks = [chunk async for chunk in stream]
        assert "".join(chunk.choices[0].delta.content for chunk in chunks) == TEXT
        stream = await client.chat.completions.create(
            model="tiny", messages=ASK, stream=True, stream_options={"include_usage": True}
        )
        assert [chunk async for chunk in stream][-1].usage.completion_tokens == 5
        assert [model.id async for model in client.models.list()] == ["tiny"]
        assert [turn.charged_tokens for turn in await w.closings(3)] == [12, 12, 12]


async def test_ollama_plain_streaming_and_tags(tmp_path: Path) -> None:
    """The Ollama client: an answer, a stream, the list of models."""
    async with world(tmp_path) as w, ollama_client(w) as client:
        answer = await client.chat("tiny", ASK)
        assert (answer.message.content, answer.eval_count) == (TEXT, 5)
        parts = [part async for part in await client.chat("tiny", ASK, stream=True)]
        assert "".join(part.message.content for part in parts) == TEXT
        assert [model.model for model in (await client.list()).models] == ["tiny:latest"]
        assert [turn.charged_tokens for turn in await w.closings(2)] == [12, 12]


async def test_permanent_refusals_are_asked_for_once(tmp_path: Path) -> None:
    """Default retries on, yet a quarantined, oversized, unknown or unmetered request arrives a single time."""
    budgets = {"writer": BudgetConfig(tokens_per_minute=300), "reader": BudgetConfig(tokens_per_minute=5_000)}
    async with (
        world(tmp_path, budgets=budgets) as w,
        openai_client(w) as client,
        openai_client(w, "reader") as other,
        ollama_client(w) as local,
    ):
        with pytest.raises(openai.BadRequestError, match="this request never fits"):
            await client.chat.completions.create(model="tiny", messages=ASK, max_tokens=999)
        with pytest.raises(openai.PermissionDeniedError, match="not metered"):
            await client.embeddings.create(model="tiny", input="x")
        w.access.hold("writer", Rung.BLOCK, "it loops")
        with pytest.raises(openai.PermissionDeniedError) as refused:
            await client.chat.completions.create(model="tiny", messages=ASK)
        assert refused.value.code == "subsystem_quarantined"
        with pytest.raises(ollama.ResponseError, match="it loops") as told:
            await local.chat("tiny", ASK)
        assert told.value.status_code == 403
        assert len(w.recorder.refusals) == 4
        answer = await other.chat.completions.create(model="tiny", messages=ASK)
        assert answer.choices[0].message.content == TEXT


async def test_retries_are_counted_and_reserved_anew(tmp_path: Path) -> None:
    """An upstream's 503 is repeated by the client; the gateway sees which attempt it is."""
    async with world(tmp_path) as w, openai_client(w) as client:
        w.stub.status = 503
        with pytest.raises(openai.InternalServerError):
            await client.chat.completions.create(model="tiny", messages=ASK)
        assert [event.retry for event in w.recorder.admissions] == [0, 1, 2]
        assert len({turn.turn for turn in await w.closings(3)}) == 3


async def test_a_severed_stream_raises_in_both_clients(tmp_path: Path) -> None:
    """Neither takes the end for a normal one."""
    async with world(tmp_path) as w, openai_client(w) as client, ollama_client(w) as local:
        for _ in range(2):
            w.stub.gate, w.stub.words_before_gate = asyncio.Event(), 1
            stream = await client.chat.completions.create(model="tiny", messages=ASK, stream=True)
            assert (await anext(stream)).choices[0].delta.content == "one"
            w.access.sever("writer")
            with pytest.raises(openai.APIError) as cut:
                await anext(stream)
            assert cut.value.code == "subsystem_quarantined"
        lines = await local.chat("tiny", ASK, stream=True)
        assert (await anext(lines)).message.content == "one"
        w.access.sever("writer")
        with pytest.raises(ollama.ResponseError, match="severed"):
            await anext(lines)
        assert {turn.outcome for turn in await w.closings(3)} == {Outcome.CUT}
