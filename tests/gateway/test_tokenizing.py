"""A prompt is counted by its server's own tokenizer where its bytes are in the way, and only there."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from gateway_world import World, serving, world

from epad.configuration.schema import BudgetConfig, UpstreamConfig
from epad.gateway.errors import GatewayError
from epad.gateway.tokenizing import SLACK_TOKENS, load_tokenizers

TEXT = "many words that are few tokens " * 40
TOKENS = 60


class TokenizingServer:
    """Answers chats, and counts as vLLM or llama.cpp do."""

    def __init__(self, *, broken: bool = False) -> None:
        self.turns: list[dict[str, Any]] = []
        self.counted: list[tuple[str, dict[str, Any]]] = []
        self.broken = broken

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        if request.method == "GET":
            return web.json_response({"object": "list", "data": [{"id": "tiny", "object": "model"}]})
        body = json.loads(await request.read())
        match request.path:
            case "/tokenize" | "/apply-template" | "/v1/messages/count_tokens":
                self.counted.append((request.path, body))
                if self.broken:
                    return web.json_response({"error": "no such route"}, status=404)
                ids = list(range(TOKENS))
                said = {"count": TOKENS, "tokens": ids, "prompt": "rendered", "input_tokens": TOKENS}
                return web.json_response(said)
        self.turns.append(body)
        message = {"role": "assistant", "content": "hi"}
        usage = {"prompt_tokens": TOKENS, "completion_tokens": 2, "total_tokens": TOKENS + 2}
        choice = {"index": 0, "message": message, "finish_reason": "stop"}
        return web.json_response({"object": "chat.completion", "choices": [choice], "usage": usage})


@asynccontextmanager
async def before(
    tmp_path: Path, kind: str, stub: TokenizingServer, limit: int = 600, **keys: Any
) -> AsyncIterator[World]:
    async with serving(stub) as url:
        upstreams = {"real": UpstreamConfig(url=url, dialects=("openai",), server=kind, **keys)}
        budgets = {"writer": BudgetConfig(tokens_per_minute=limit), "reader": BudgetConfig()}
        async with world(tmp_path, budgets=budgets, upstreams=upstreams) as w:
            yield w


async def ask(w: World, name: str = "writer", **fields: Any) -> int:
    status, _, _ = await w.chat(name, messages=[{"role": "user", "content": TEXT}], **fields)
    return status


@pytest.mark.parametrize(
    ("kind", "paths"), [("vllm", ["/tokenize"]), ("llama.cpp", ["/apply-template", "/tokenize"])]
)
async def test_a_prompt_whose_bytes_do_not_fit_is_counted(
    tmp_path: Path, kind: str, paths: list[str]
) -> None:
    """Its 1,240 bytes are more than the budget has; its 60 tokens are not, and they are what is reserved."""
    stub = TokenizingServer()
    async with before(tmp_path, kind, stub) as w:
        assert await ask(w, tools=[], max_tokens=50) == 200
        assert [path for path, _ in stub.counted] == paths
        assert stub.counted[0][1]["messages"] == [{"role": "user", "content": TEXT}]
        [opened] = w.ledger.opened
        assert opened.prompt_bound == TOKENS + SLACK_TOKENS
        assert await ask(w, tools=[], max_tokens=50) == 200
        assert len(stub.counted) == len(paths), "the same prompt is counted once"


async def test_what_fits_by_its_bytes_is_not_counted(tmp_path: Path) -> None:
    """No request is asked twice for nothing: neither with room enough, nor without a budget."""
    stub = TokenizingServer()
    async with before(tmp_path, "vllm", stub, limit=100_000) as w:
        assert await ask(w) == 200
        assert await ask(w, "reader") == 200
        assert stub.counted == []


async def test_where_counting_fails_the_bytes_bound(tmp_path: Path) -> None:
    """And for a while the server is not asked again."""
    stub = TokenizingServer(broken=True)
    async with before(tmp_path, "vllm", stub) as w:
        assert await ask(w) == 400
        assert await ask(w, seed=1) == 400
        assert len(stub.counted) == 1
        w.clock.advance(31)
        assert await ask(w) == 400
        assert len(stub.counted) == 2
        assert stub.turns == []


async def test_a_server_of_unknown_kind_is_not_asked(tmp_path: Path) -> None:
    stub = TokenizingServer()
    async with before(tmp_path, "generic", stub) as w:
        assert await ask(w) == 400
        assert stub.counted == []


async def test_a_context_that_the_bytes_overfill_is_measured(tmp_path: Path) -> None:
    """A cap beyond what its context leaves is refused by vLLM; 600 less 60 tokens leave enough for the default."""
    stub = TokenizingServer()
    async with before(tmp_path, "vllm", stub, limit=100_000, context_tokens=600) as w:
        assert await ask(w) == 200
        assert (
            stub.turns[0]["max_tokens" if "max_tokens" in stub.turns[0] else "max_completion_tokens"] == 100
        )


def test_a_tokenizer_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    """The upstream, the file, and why."""
    upstreams = {
        "local": UpstreamConfig(url="http://x", dialects=("openai",), tokenizer=str(tmp_path / "t.json"))
    }
    with pytest.raises(GatewayError, match=r"\[upstreams\.local\] tokenizer: "):
        load_tokenizers(upstreams)
    assert load_tokenizers({"other": UpstreamConfig(url="http://x", dialects=("openai",))}) == {}
