"""Models by the gateway: asked with a key that is lent for the request, and each odd answer told in words."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator

import pytest
from aiohttp import web

from epad.gate.tiers import Tier
from epad.tools.own import OwnCall, OwnToolError
from epad.tools.own_models import Models
from epad.tools.sessions import Session

WHOLE = {
    "choices": [{"message": {"content": "hello"}}],
    "usage": {"prompt_tokens": 3, "completion_tokens": 2},
}


class Gateway:
    """Answers as it is told to, and holds the keys that are lent."""

    def __init__(self) -> None:
        self.status, self.body = 200, "{}"
        self.keys: set[str] = set()
        self.seen: list[tuple[str, bool]] = []
        self.url = ""

    def lend(self, subsystem: str) -> str:
        key = f"epad-{subsystem}-{len(self.seen)}"
        self.keys.add(key)
        return key

    def take_back(self, key: str) -> None:
        self.keys.remove(key)

    async def answer(self, request: web.BaseRequest) -> web.Response:
        await request.read()
        key = request.headers["Authorization"].removeprefix("Bearer ")
        self.seen.append((f"{request.method} {request.path}", key in self.keys))
        return web.Response(status=self.status, text=self.body, headers={"X-Epad-Turn": "t1"})


@pytest.fixture
async def gateway() -> AsyncIterator[Gateway]:
    made = Gateway()
    runner = web.ServerRunner(web.Server(made.answer))
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    made.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    yield made
    await runner.cleanup()


def call(**arguments: object) -> OwnCall:
    return OwnCall(Session("s", "chat", Tier.READER), "t", arguments)


def models(gateway: Gateway) -> Models:
    return Models(gateway, lambda: gateway.url)


ASKED = {"model": "m", "prompt": "hi", "max_tokens": 4}


async def test_an_answer_has_the_text_the_counts_and_the_turn(gateway: Gateway) -> None:
    """And the key is worthless afterwards."""
    gateway.body = web.json_response(WHOLE).text or ""
    said = await models(gateway).generate(call(**ASKED))
    assert (said.text, said.input_tokens, said.output_tokens, said.turn) == ("hello", 3, 2, "t1")
    assert gateway.seen == [("POST /v1/chat/completions", True)]
    assert gateway.keys == set()


async def test_models_are_named(gateway: Gateway) -> None:
    gateway.body = '{"data": [{"id": "a"}, {"id": "b", "object": "model"}]}'
    assert (await models(gateway).list(call())).models == ["a", "b"]


@pytest.mark.parametrize(
    ("status", "body", "says"),
    [
        (429, '{"error": {"message": "budget spent"}}', "answered 429: budget spent"),
        (400, '{"error": "no such model"}', "answered 400: no such model"),
        (502, "<html>bad</html>", "answered 502: <html>bad</html>"),
        (500, "[]", "answered 500: []"),
        (200, "not JSON", "cannot be read"),
        (200, '{"choices": 5}', "cannot be read"),
    ],
)
async def test_whatever_is_no_answer_is_told(gateway: Gateway, status: int, body: str, says: str) -> None:
    """With a hint; and the key is taken back."""
    gateway.status, gateway.body = status, body
    with pytest.raises(OwnToolError, match=re.escape(says)) as failed:
        await models(gateway).generate(call(**ASKED))
    assert failed.value.hint
    assert gateway.keys == set()


async def test_an_answer_without_text_or_counts_is_an_empty_one(gateway: Gateway) -> None:
    """As of a model that only called a tool."""
    gateway.body = '{"choices": [{"message": {"content": null}}]}'
    said = await models(gateway).generate(call(**ASKED))
    assert (said.text, said.output_tokens) == ("", 0)


async def test_a_gateway_that_is_gone_is_told() -> None:
    """Nothing listens."""
    gone = Gateway()
    gone.url = "http://127.0.0.1:9"
    with pytest.raises(OwnToolError, match="gave no answer"):
        await models(gone).list(call())
    assert gone.keys == set()
