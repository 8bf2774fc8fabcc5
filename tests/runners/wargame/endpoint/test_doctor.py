"""The doctor tells a server that takes turns from one that works in parallel, and names the setting."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from aiohttp import web
from wargame_world import client_of, content, patient

from runners.wargame.cli import main
from runners.wargame.endpoint.doctor import Finding, examine

VERDICT = content('{"verdict":"attack","confidence":90,"category":"other","evidence_turn":3}')


class Server:
    """A chat server with so many slots."""

    def __init__(self, slots: int, answer: str = "") -> None:
        self._slots = asyncio.Semaphore(slots)
        self._answer = answer

    async def chat(self, request: web.Request) -> web.Response:
        async with self._slots:
            await asyncio.sleep(0.03)
        if self._answer:
            return content(self._answer)(request)
        return VERDICT(request)


async def findings(server: Server, judges: frozenset[str] = frozenset("m"), **endpoint: Any) -> list[Finding]:
    limits = patient(call_seconds=10.0)
    async with client_of(server.chat, limits, max_in_flight=64, **endpoint) as client:
        return [finding async for finding in examine(client, ["m"], judges)]


async def test_a_server_that_takes_turns_is_told_apart_from_one_that_does_not() -> None:
    """One slot is a warning with the setting in it; eight slots are well."""
    serial, parallel = await findings(Server(1)), await findings(Server(8))
    assert [finding.level for finding in serial] == ["warn", "ok", "warn"]
    assert "runs one call at a time" in serial[-1].text
    assert "OLLAMA_NUM_PARALLEL" in serial[-1].fix
    assert [finding.level for finding in parallel] == ["warn", "ok", "ok"]


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        ("I think that this is an attack.", "no verdict (not_json)"),
        ('{"verdict":"attack"}', "no verdict (missing_key)"),
    ],
)
async def test_a_judge_that_keeps_to_no_schema_is_named_with_what_it_said(answer: str, expected: str) -> None:
    """A night of invalid votes is foreseen; an attacker need not speak in verdicts."""
    found = (await findings(Server(8, answer)))[1]
    assert (found.level, expected in found.text) == ("warn", True)
    assert "structured" in found.fix
    assert (await findings(Server(8, answer), frozenset()))[1].level == "ok"


async def test_ollamas_silent_context_is_warned_of() -> None:
    """Unsaid, it is 4,096 tokens; said, there is nothing to warn of."""
    server = Server(8, "x")
    warned = await findings(server, frozenset(), dialect="ollama")
    assert warned[-1].fix == "set context_tokens = 8192"
    quiet = await findings(server, frozenset(), dialect="ollama", context_tokens=8192)
    assert quiet[-1].fix != "set context_tokens = 8192"


def test_an_endpoint_that_is_down_fails_the_command(capsys: pytest.CaptureFixture[str]) -> None:
    """Exit 1, with the model and the reason."""
    nobody = ["--base-url", "http://127.0.0.1:9/v1", "--defender-model", "m", "--attacker-model", "m"]
    assert main(["doctor", *nobody]) == 1
    assert "fail default: m: conn" in capsys.readouterr().out
    assert main(["doctor", "--json"]) == 0
    assert '"endpoint": "embedded"' in capsys.readouterr().out
