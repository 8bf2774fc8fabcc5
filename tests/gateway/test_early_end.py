"""An answer that has caught itself in a loop is ended, as its dialect ends one that is long enough; nothing else is."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
from gateway_world import World, world
from model_server import ModelServer, model_server
from patience import PATIENCE_SECONDS

from epad.configuration.schema import DialectName, UpstreamConfig
from epad.gateway.dialects.ending import openai_chunk
from probes.token_burn import SubsystemBudget, TokenBurn, TokenBurnThresholds
from statemachine.clock import ManualClock
from statemachine.finding import Finding, Severity
from statemachine.rung import Rung

DIALECTS: tuple[DialectName, ...] = ("openai", "ollama", "anthropic")
TALKS = (
    "/v1/chat/completions", "/v1/completions", "/v1/responses", "/v1/messages", "/api/chat", "/api/generate",
)  # fmt: skip
LOOP = "and then the rain, the rain, "
WORDS = 600


def burn(heard: list[Finding]) -> TokenBurn:
    return TokenBurn(
        TokenBurnThresholds(), budget=lambda _: SubsystemBudget(), clock=ManualClock(), push=heard.append
    )


def looping(server: ModelServer) -> None:
    server.words = ["Rain: ", *[LOOP] * WORDS]
    server.word_by_word = True


def asked(path: str) -> dict[str, Any]:
    if path == "/v1/responses":
        return {"input": "write a poem", "max_output_tokens": 4_000}
    if path in {"/v1/completions", "/api/generate"}:
        return {"prompt": "write a poem", "max_tokens": 4_000}
    return {"messages": [{"role": "user", "content": "write a poem"}], "max_tokens": 4_000}


async def stream(w: World, path: str, **fields: Any) -> bytes:
    body = {"model": "tiny", "stream": True, **asked(path), **fields}
    async with w.http.post(w.url + path, json=body, headers=w.headers()) as response:
        assert response.status == 200
        return await response.read()


def events(data: bytes) -> list[dict[str, Any]]:
    """The JSON documents of a stream, in whatever form."""
    lines = [line.removeprefix(b"data: ") for line in data.split(b"\n")]
    return [json.loads(line) for line in lines if line.startswith(b"{")]


@pytest.mark.parametrize("path", TALKS)
async def test_a_looping_answer_is_ended_in_its_dialect(tmp_path: Path, path: str) -> None:
    """The server is hung up on, what it made is charged, the subsystem goes on, and somebody is told."""
    heard: list[Finding] = []
    async with model_server() as (server, base):
        upstreams = {"stub": UpstreamConfig(url=base, dialects=DIALECTS)}
        async with world(tmp_path, upstreams=upstreams, observer=burn(heard)) as w:
            looping(server)
            data = await stream(w, path)
            async with asyncio.timeout(PATIENCE_SECONDS):
                await server.hung_up.wait()
            [closing] = await w.closings(1)
            server.words, server.word_by_word = ["fine"], False
            assert (await w.post(path, **asked(path), stream=True))[0] == 200
    said = data.decode().count("the rain, the rain, ")
    assert 2_000 / len(LOOP) < said < WORDS / 2
    told = [event["epad"] for event in events(data) if "epad" in event]
    assert [one["code"] for one in told] == ["looping_output"]
    assert "repeats itself" in told[0]["message"]
    assert not any("error" in event and event["error"] for event in events(data))
    assert closing.outcome.value == "cut"
    assert 0 < closing.output_tokens < WORDS
    assert [(f.severity, f.evidence["detector"]) for f in heard] == [(Severity.WARNING, "looping_output")]


async def ended(tmp_path: Path, path: str, **fields: Any) -> list[dict[str, Any]]:
    async with model_server() as (server, base):
        upstreams = {"stub": UpstreamConfig(url=base, dialects=DIALECTS)}
        async with world(tmp_path, upstreams=upstreams, observer=burn([])) as w:
            looping(server)
            data = await stream(w, path, **fields)
    if path.startswith("/v1/ch") or path == "/v1/completions":
        assert data.endswith(b"data: [DONE]\n\n")
    return events(data)


@pytest.mark.parametrize("wanted", [False, True])
async def test_openai_ends_with_length_and_usage_where_it_was_asked_for(
    tmp_path: Path, *, wanted: bool
) -> None:
    got = await ended(tmp_path, "/v1/chat/completions", stream_options={"include_usage": wanted})
    last = next(event for event in got if "epad" in event)
    assert [choice["finish_reason"] for choice in last["choices"]] == ["length"]
    assert last["choices"][0]["delta"] == {}
    assert (last["id"], last["object"], last["model"]) == (got[0]["id"], got[0]["object"], got[0]["model"])
    assert bool(got[-1].get("usage")) is wanted
    if wanted:
        usage = got[-1]["usage"]
        assert usage["prompt_tokens"] + usage["completion_tokens"] == usage["total_tokens"]


async def test_a_completion_ends_with_length(tmp_path: Path) -> None:
    got = await ended(tmp_path, "/v1/completions")
    [choice] = next(event for event in got if "epad" in event)["choices"]
    assert (choice["text"], choice["finish_reason"]) == ("", "length")


async def test_anthropic_closes_the_block_and_the_message(tmp_path: Path) -> None:
    got = await ended(tmp_path, "/v1/messages")
    assert [event["type"] for event in got[-3:]] == ["content_block_stop", "message_delta", "message_stop"]
    assert got[-3]["index"] == 0
    assert got[-2]["delta"] == {"stop_reason": "max_tokens", "stop_sequence": None}
    assert got[-2]["usage"]["output_tokens"] > 0


@pytest.mark.parametrize("path", ["/api/chat", "/api/generate"])
async def test_ollama_says_that_it_is_done(tmp_path: Path, path: str) -> None:
    last = (await ended(tmp_path, path))[-1]
    assert (last["done"], last["done_reason"], last["model"]) == (True, "length", "tiny")
    assert last["eval_count"] > 0
    assert ("response" in last) is (path == "/api/generate")


async def test_a_response_is_incomplete(tmp_path: Path) -> None:
    got = await ended(tmp_path, "/v1/responses")
    assert got[-1]["type"] == "response.incomplete"
    response = got[-1]["response"]
    assert (response["status"], response["incomplete_details"]) == (
        "incomplete",
        {"reason": "max_output_tokens"},
    )
    numbers = [event["sequence_number"] for event in got if "sequence_number" in event]
    assert numbers == sorted(numbers)


@pytest.mark.parametrize("path", TALKS)
async def test_what_has_something_new_in_it_is_passed_on_whole(tmp_path: Path, path: str) -> None:
    heard: list[Finding] = []
    async with model_server() as (server, base):
        upstreams = {"stub": UpstreamConfig(url=base, dialects=DIALECTS)}
        async with world(tmp_path, upstreams=upstreams, observer=burn(heard)) as w:
            server.words = [f"row {n}, the rain, the rain\n" for n in range(WORDS)]
            data = await stream(w, path)
    assert data.decode().count("the rain, the rain") >= WORDS
    assert heard == []


async def test_many_such_answers_in_a_row_are_an_anomaly(tmp_path: Path) -> None:
    heard: list[Finding] = []
    async with model_server() as (server, base):
        upstreams = {"stub": UpstreamConfig(url=base, dialects=DIALECTS)}
        async with world(tmp_path, upstreams=upstreams, observer=burn(heard)) as w:
            looping(server)
            for number in range(5):
                await stream(w, "/api/chat", messages=[{"role": "user", "content": f"poem {number}"}])
    assert [f.severity for f in heard] == [Severity.WARNING] * 4 + [Severity.ANOMALY]
    assert heard[-1].rung is Rung.THROTTLE
    assert heard[-1].reason.startswith("5 answers in a row")


def test_a_chunk_without_an_envelope_has_an_empty_one() -> None:
    assert openai_chunk(b": nothing\n\n")["object"] == "chat.completion.chunk"
