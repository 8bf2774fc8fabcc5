"""The health check of a model server: one token, asked for in the dialect of whoever serves the model."""

from __future__ import annotations

import json
from typing import Any, Self, cast

import pytest

from epad.gateway.errors import UpstreamError
from epad.gateway.inference_check import OneToken
from epad.gateway.upstream import Upstreams


class Server:
    """Stands for the upstreams: one, that speaks one dialect."""

    def __init__(self, dialect: str, status: int = 200) -> None:
        self.dialect = dialect
        self.status = status
        self.asked: list[tuple[str, dict[str, Any]]] = []
        self.name = "gpu"

    def routes(self, model: str, dialect: str) -> tuple[Server, ...]:
        return (self,) if dialect == self.dialect and model == "small" else ()

    async def post(self, _: object, path: str, body: bytes, __: object) -> Server:
        self.asked.append((path, json.loads(body)))
        if self.status == 0:
            raise UpstreamError("upstream gpu broke off")
        return self

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        return None

    async def read(self) -> bytes:
        return b""


async def ask(server: Server, model: str = "small") -> str:
    return await OneToken(cast("Upstreams", server)).ask(model)


@pytest.mark.parametrize(
    ("dialect", "path", "limit"),
    [
        ("openai", "/v1/chat/completions", {"max_tokens": 1}),
        ("ollama", "/api/chat", {"options": {"num_predict": 1}, "stream": False}),
        ("anthropic", "/v1/messages", {"max_tokens": 1}),
    ],
)
async def test_each_dialect_is_asked_for_one_token(dialect: str, path: str, limit: dict[str, Any]) -> None:
    """The limit stands in the dialect's own words."""
    server = Server(dialect)
    assert await ask(server) == ""
    (asked,) = server.asked
    assert asked[0] == path
    assert limit.items() <= asked[1].items()


@pytest.mark.parametrize(
    ("status", "said"), [(503, "gpu answered 503 for small"), (0, "upstream gpu broke off")]
)
async def test_a_failure_is_said(status: int, said: str) -> None:
    """A server that answers with an error, or not at all, is not well."""
    assert await ask(Server("openai", status)) == said


async def test_a_model_nobody_serves_is_named() -> None:
    """A typing error in the configuration is not a broken server."""
    assert await ask(Server("openai"), "smal") == "no upstream serves smal"
