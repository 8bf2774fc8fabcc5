"""The client against a real server: concurrency found by measuring, long prompts refused, waiting bounded."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from aiohttp import web
from wargame_world import LIMITS, client_of

from runners.wargame.endpoint.client import ModelClient
from runners.wargame.endpoint.question import Question
from runners.wargame.outcomes import CallOutcome

QUESTION = Question("m", [{"role": "user", "content": "hello " * 50}], 16)
PATIENT = replace(LIMITS, call_seconds=20.0, round_seconds=60.0)


class Server:
    """An endpoint of either dialect that counts how many calls it has at once."""

    def __init__(self, answer: Callable[[], Any], seconds: float = 0.0) -> None:
        self.answer = answer
        self.seconds = seconds
        self.at_once = self.most_at_once = 0

    async def chat(self, _: web.Request) -> web.Response:
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        await asyncio.sleep(self.seconds)
        self.at_once -= 1
        return web.json_response(self.answer())


def openai(tokens: int = 5) -> dict[str, Any]:
    choice = {"message": {"role": "assistant", "content": "yes"}, "finish_reason": "stop"}
    return {"choices": [choice], "usage": {"prompt_tokens": tokens, "completion_tokens": 3}}


def ollama(tokens: int = 5) -> dict[str, Any]:
    message = {"role": "assistant", "content": "yes"}
    return {"message": message, "done_reason": "stop", "prompt_eval_count": tokens, "eval_count": 3}


async def ask_many(client: ModelClient, number: int) -> set[CallOutcome]:
    deadline = asyncio.get_running_loop().time() + 60
    replies = await asyncio.gather(*(client.ask(QUESTION, deadline) for _ in range(number)))
    return {reply.outcome for reply in replies}


async def test_calls_go_out_in_parallel_up_to_the_ceiling_and_never_above() -> None:
    """A hundred questions at once reach the server sixteen at a time once it has shown that it can."""
    server = Server(openai, seconds=0.02)
    async with client_of(server.chat, PATIENT, max_in_flight=16) as client:
        assert await ask_many(client, 200) == {CallOutcome.OK}
    assert server.most_at_once == 16


async def test_no_more_than_the_ceiling_even_from_the_start() -> None:
    """The start is a guess, the ceiling is an order: epad's own cap on a subsystem, say."""
    server = Server(openai, seconds=0.01)
    async with client_of(server.chat, PATIENT, max_in_flight=2, start_in_flight=64) as client:
        await ask_many(client, 20)
    assert server.most_at_once == 2


async def test_a_prompt_that_ollama_would_cut_is_not_sent() -> None:
    """It drops the front, with the defender's orders, and answers 200 OK (ollama#4967)."""
    server = Server(ollama)
    async with client_of(server.chat, PATIENT, dialect="ollama", context_tokens=64) as client:
        assert await ask_many(client, 1) == {CallOutcome.CONTEXT_TRUNCATED}
    assert server.most_at_once == 0


async def test_a_context_that_came_back_full_is_no_answer() -> None:
    """What we guessed to fit did not."""
    async with client_of(
        Server(lambda: ollama(tokens=509)).chat, PATIENT, dialect="ollama", context_tokens=512
    ) as client:
        assert await ask_many(client, 1) == {CallOutcome.CONTEXT_TRUNCATED}
    async with client_of(
        Server(lambda: ollama(tokens=100)).chat, PATIENT, dialect="ollama", context_tokens=512
    ) as client:
        assert await ask_many(client, 1) == {CallOutcome.OK}


@pytest.mark.usefixtures("virtual_time")
async def test_waiting_for_a_place_ends_with_the_deadline() -> None:
    """A server that is busy with others' calls must not hold a round beyond its time."""
    server = Server(openai, seconds=0.3)
    async with client_of(server.chat, PATIENT, max_in_flight=1) as client:
        loop = asyncio.get_running_loop()
        first = asyncio.create_task(client.ask(QUESTION, loop.time() + 10))
        await asyncio.sleep(0)
        late = await client.ask(QUESTION, loop.time() + 0.02)
        assert (late.outcome, late.detail) == (CallOutcome.DEADLINE, "no place in time")
        assert late.queue_seconds > 0
        assert (await first).outcome is CallOutcome.OK


class Scripted:
    """An endpoint that keeps what it was sent, and answers from a list; the last answer stays."""

    def __init__(self, *answers: tuple[int, dict[str, str]]) -> None:
        self.answers = list(answers)
        self.headers: list[dict[str, str]] = []

    async def chat(self, request: web.Request) -> web.Response:
        self.headers.append(dict(request.headers))
        status, headers = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        return web.json_response(
            openai() if status == 200 else {"error": "no"}, status=status, headers=headers
        )


async def test_every_try_of_a_call_is_marked_as_one() -> None:
    """The gateway of epad tells our own retries from a loop by it."""
    server = Scripted((500, {}), (500, {}), (200, {}))
    question = replace(QUESTION, idempotency_key="run:round-3:1:sentinel")
    async with client_of(server.chat, replace(PATIENT, backoff_seconds=0.0, retries=2)) as client:
        reply = await client.ask(question, asyncio.get_running_loop().time() + 60)
        await client.ask(QUESTION, asyncio.get_running_loop().time() + 60)
        await client.ask(QUESTION, asyncio.get_running_loop().time() + 60)
    assert (reply.outcome, reply.attempts) == (CallOutcome.OK, 3)
    marks = [headers["X-Epad-Attempt"].rpartition(".") for headers in server.headers]
    assert [number for _, _, number in marks] == ["1", "2", "3", "1", "1"]
    names = [name for name, _, _ in marks]
    assert len(set(names[:3])) == 1
    assert len(set(names)) == 3  # another call, another name, also where it has no key
    assert [headers["x-stainless-retry-count"] for headers in server.headers] == ["0", "1", "2", "0", "0"]
    assert all(len(headers["X-Epad-Attempt"]) <= 64 for headers in server.headers)


async def test_a_server_that_loads_is_left_alone_for_as_long_as_it_says() -> None:
    """Twenty failures before the run pauses would be four rounds lost to nothing."""
    server = Scripted((503, {"Retry-After": "7"}))
    async with client_of(server.chat, replace(PATIENT, pause_max_seconds=300.0)) as client:
        now = asyncio.get_running_loop().time()
        reply = await client.ask(QUESTION, now + 1.0)
        (breaker,) = client.down
        assert (reply.status, len(server.headers)) == (503, 1)  # seven seconds do not fit into the round
        assert 6.0 < breaker.retry_at - now < 9.0
        assert (await client.ask(QUESTION, now + 60)).outcome is CallOutcome.CIRCUIT_OPEN
        assert len(server.headers) == 1
        server.answers = [(503, {"Retry-After": "3"})]
        assert not await client.probe(breaker)
        assert breaker.retry_at - asyncio.get_running_loop().time() < 3.1
        server.answers = [(200, {})]
        assert await client.probe(breaker)
        assert client.down == []


async def test_nobody_there_pauses_the_run_after_its_own_retries() -> None:
    """It was there before; one that never was is somebody's mistake, and its rounds fail."""
    async with client_of(
        Scripted((200, {})).chat, replace(PATIENT, backoff_seconds=0.0, retries=2)
    ) as client:
        url, client._url = client._url, "http://127.0.0.1:1/v1/chat/completions"
        await client.ask(QUESTION, asyncio.get_running_loop().time() + 60)
        assert client.down == []
        client._url = url
        await client.ask(QUESTION, asyncio.get_running_loop().time() + 60)
        client._url = "http://127.0.0.1:1/v1/chat/completions"
        reply = await client.ask(QUESTION, asyncio.get_running_loop().time() + 60)
        assert (reply.outcome, reply.attempts) == (CallOutcome.CONNECTION, 3)
        assert len(client.down) == 1


@pytest.mark.usefixtures("virtual_time")
async def test_a_slow_answer_is_waited_for_twice_as_long_the_next_time() -> None:
    """Each call that is given up is charged, and the next is as slow."""
    server = Server(openai, seconds=0.5)
    limits = replace(PATIENT, call_seconds=0.3, backoff_seconds=0.0)
    async with client_of(server.chat, limits) as client:
        reply = await client.ask(QUESTION, asyncio.get_running_loop().time() + 60)
    assert (reply.outcome, reply.attempts) == (CallOutcome.OK, 2)
