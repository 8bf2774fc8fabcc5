"""A chat client that behaves, until a file tells it not to; its misbehaviour is bounded and curable."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from itertools import islice
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web
from patience import PATIENCE_SECONDS

from runners.chat.__main__ import Chat, Manners, main
from runners.chat.client import Turn, TurnOutcome, read_turn, wait_seconds
from runners.chat.questions import questions
from runners.contract import Contract

ANSWER = {"choices": [{"message": {"content": "Use sorted()."}}], "usage": {"total_tokens": 9}}


@asynccontextmanager
async def gateway(answer: Callable[[int], web.Response]) -> AsyncIterator[tuple[str, list[str]]]:
    """A gateway that answers request number n as told, and remembers what was asked."""
    asked: list[str] = []

    async def chat(request: web.Request) -> web.Response:
        asked.append((await request.json())["messages"][0]["content"])
        return answer(len(asked))

    application = web.Application()
    application.router.add_post("/v1/chat/completions", chat)
    runner = web.AppRunner(application, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}/v1", asked
    finally:
        await runner.cleanup()


async def chat(url: str, manners: Manners) -> Chat:
    """Run a client to its end."""
    async with aiohttp.ClientSession() as session:
        client = Chat(session, url, "key", manners, Contract())
        await client.run(questions(1))
    return client


def test_no_question_is_asked_twice_in_a_row() -> None:
    """The gateway takes five identical requests for a loop; a well-behaved client never sends two."""
    asked = list(islice(questions(1), 500))
    assert len(set(asked)) == 500
    assert asked == list(islice(questions(1), 500))


@pytest.mark.parametrize(
    ("turn", "seconds"),
    [
        (Turn(TurnOutcome.OK), 2.0),
        (Turn(TurnOutcome.REFUSED, 403), 5.0),
        (Turn(TurnOutcome.REFUSED, 429, retry_after_seconds=17.0), 17.0),
        (Turn(TurnOutcome.REFUSED, 429, retry_after_seconds=0.5), 2.0),
        (Turn(TurnOutcome.REFUSED, 429, retry_after_seconds=9_999.0), 60.0),
        (Turn(TurnOutcome.FAILED), 5.0),
    ],
)
def test_how_long_it_stays_quiet(turn: Turn, seconds: float) -> None:
    """Retry-After is honoured, a quarantine waited out, nothing hammered."""
    assert wait_seconds(turn, interval_seconds=2.0) == seconds


@pytest.mark.parametrize(
    ("status", "headers", "body", "outcome"),
    [
        (200, {}, ANSWER, TurnOutcome.OK),
        (200, {}, {"choices": []}, TurnOutcome.FAILED),
        (200, {}, None, TurnOutcome.FAILED),
        (402, {}, None, TurnOutcome.REFUSED),
        (403, {}, None, TurnOutcome.REFUSED),
        (429, {"Retry-After": "3"}, None, TurnOutcome.REFUSED),
        (503, {"Retry-After": "3"}, None, TurnOutcome.REFUSED),
        (500, {}, None, TurnOutcome.FAILED),
    ],
)
def test_what_an_answer_is(status: int, headers: dict[str, str], body: object, outcome: TurnOutcome) -> None:
    """Refusals are the gateway's, failures everybody else's."""
    assert read_turn(status, headers, body).outcome is outcome


async def test_it_asks_its_turns_and_ends(capsys: pytest.CaptureFixture[str]) -> None:
    """One line a turn, with the counters, and no more turns than asked for."""
    async with gateway(lambda _: web.json_response(ANSWER)) as (url, asked):
        client = await chat(url, Manners("m", 0.0, turns=3))
    lines = capsys.readouterr().out.splitlines()
    assert len(asked) == len(set(asked)) == 3
    assert client.counts.ok == 3
    assert len(lines) == 3
    assert "tokens=9 ok=3 refused=0 failed=0 'Use sorted().'" in lines[-1]


async def test_while_the_file_exists_it_repeats_one_request_through_refusals(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A planted runaway: the same question, refusals ignored; gone with the file."""
    file = tmp_path / "loop"
    file.touch()

    def answer(number: int) -> web.Response:
        if number == 12:
            file.unlink()
        return web.json_response(ANSWER) if number in {1, 2, 13} else web.Response(status=429)

    manners = Manners("m", 0.0, 3, loop_while=file, loop_requests_per_second=500.0, loop_repeats=True)
    async with gateway(answer) as (url, asked):
        client = await chat(url, manners)
    assert len(asked) == 13
    assert len(set(asked[:12])) == 1
    assert (client.counts.ok, client.counts.refused) == (3, 10)
    lines = capsys.readouterr().out.splitlines()
    assert ["LOOPING" in line for line in lines] == [True] * 12 + [False]


async def test_a_waiting_client_notices_the_file(tmp_path: Path) -> None:
    """An operator who plants a loop does not wait out the client's interval."""
    file = tmp_path / "loop"
    asked_twice = asyncio.Event()

    def answer(number: int) -> web.Response:
        file.touch()
        if number == 2:
            asked_twice.set()
        return web.json_response(ANSWER)

    async with gateway(answer) as (url, _):
        task = asyncio.create_task(chat(url, Manners("m", 3_600.0, loop_while=file)))
        await asyncio.wait_for(asked_twice.wait(), PATIENCE_SECONDS)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task


def test_without_a_gateway_it_says_what_is_missing(monkeypatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Exit 2, naming the option and the variable."""
    monkeypatch.delenv("EPAD_GATEWAY_URL", raising=False)
    assert main([]) == 2
    assert "EPAD_GATEWAY_URL" in capsys.readouterr().err


async def test_as_a_process_under_epads_environment(tmp_path: Path) -> None:
    """Gateway and key come from the environment, the key goes out as a bearer; SIGTERM ends it with 0."""
    async with gateway(lambda _: web.json_response(ANSWER)) as (url, asked):
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "runners.chat", "--interval", "0.01"),
            env={
                "PYTHONPATH": ":".join(sys.path),
                "PATH": os.environ["PATH"],
                "EPAD_GATEWAY_URL": url.removesuffix("/v1"),
                "EPAD_GATEWAY_KEY": "epad-chat-secret",
            },
            stdout=asyncio.subprocess.PIPE,
        )
        assert process.stdout is not None
        line = (await process.stdout.readline()).decode()
        assert re.match(r"turn 1 ok status=200 tokens=9 ok=1 refused=0 failed=0 ", line)
        process.send_signal(signal.SIGTERM)
        await process.communicate()
        assert process.returncode == 0
        assert asked
