"""Keys of the model servers: each finds its own in the header that it looks at, and no other server's."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from aiohttp import web
from gateway_world import StubUpstream, serving, world
from multidict import CIMultiDict
from patience import PATIENCE_SECONDS

from epad.configuration.schema import DialectName, UpstreamConfig
from epad.gateway.upstream_key import key_fields

KEY = "sk-upstream"


class KeyedServer(StubUpstream):
    """Answers whoever shows the key where this kind of server looks for it; remembers what it was shown."""

    def __init__(self, header: str, value: str) -> None:
        super().__init__()
        self.header, self.value = header, value
        self.shown: list[tuple[str, CIMultiDict[str]]] = []

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        self.shown.append((request.method, request.headers.copy()))
        if request.headers.get(self.header) != self.value:
            return web.json_response({"type": "error"}, status=401)
        if request.path == "/v1/messages":
            usage = {"input_tokens": 3, "output_tokens": 2}
            content = [{"type": "text", "text": "hello"}]
            return web.json_response({"type": "message", "content": content, "usage": usage})
        return await super().handle(request)


@pytest.mark.parametrize("dialects", [("anthropic",), ("anthropic", "openai")])
async def test_anthropic_is_shown_its_key_where_it_looks(
    tmp_path: Path, dialects: tuple[DialectName, ...]
) -> None:
    """Messages and the list of models; the key of the client goes no further; each has a version, the client's."""
    key_file = tmp_path / "key"
    key_file.write_text(KEY)
    server = KeyedServer("x-api-key", KEY)
    async with serving(server) as base:
        config = {"claude": UpstreamConfig(url=base, dialects=dialects, api_key_file=str(key_file))}
        async with world(tmp_path, upstreams=config) as w:
            assert (await w.post("/v1/messages", max_tokens=9))[0] == 200
            newer = {**w.headers(), "Anthropic-Version": "2099-01-01"}
            ask = {"model": "tiny", "messages": [], "max_tokens": 9}
            async with w.http.post(w.url + "/v1/messages?beta=true", json=ask, headers=newer) as response:
                assert response.status == 200
            headers = {**w.headers(), "anthropic-version": "2023-06-01"}
            async with w.http.get(w.url + "/v1/models", headers=headers) as response:
                assert response.status == 200
            async with asyncio.timeout(PATIENCE_SECONDS):
                while sum(method == "GET" for method, _ in server.shown) < 2:  # the look at it is one
                    await asyncio.sleep(0.01)
    for _, shown in server.shown:
        assert shown.get("Authorization") == (None if dialects == ("anthropic",) else f"Bearer {KEY}")
    asked = [shown.getall("anthropic-version") for method, shown in server.shown if method == "POST"]
    assert asked == [["2023-06-01"], ["2099-01-01"]]
    looked = [shown["anthropic-version"] for method, shown in server.shown if method == "GET"]
    assert set(looked) == {"2023-06-01"}


async def test_everyone_else_is_shown_a_bearer_token(tmp_path: Path) -> None:
    """And no header of a dialect that it does not speak."""
    key_file = tmp_path / "key"
    key_file.write_text(KEY)
    server = KeyedServer("Authorization", f"Bearer {KEY}")
    async with serving(server) as base:
        config = {"vllm": UpstreamConfig(url=base, dialects=("openai",), api_key_file=str(key_file))}
        async with world(tmp_path, upstreams=config) as w:
            assert (await w.chat())[0] == 200
            async with w.http.get(w.url + "/v1/models", headers=w.headers()) as response:
                assert response.status == 200
    for _, shown in server.shown:
        assert "x-api-key" not in shown
        assert "anthropic-version" not in shown


def test_a_server_of_several_dialects_is_shown_both_where_both_may_be_meant() -> None:
    """Its chat is OpenAI's alone; without a key there is none to show."""

    def shown(key: str, dialects: set[str], path: str) -> set[str]:
        return {name.decode().lower() for name, _ in key_fields(key, frozenset(dialects), path)}

    both = {"anthropic", "openai"}
    assert shown(KEY, both, "/v1/messages") == {"authorization", "x-api-key"}
    assert shown(KEY, both, "/v1/chat/completions") == {"authorization"}
    assert shown(KEY, {"anthropic"}, "/v1/messages/count_tokens") == {"x-api-key"}
    assert shown("", {"anthropic"}, "/v1/messages") == set()
    assert shown("", {"anthropic"}, "/v1/models") == {"anthropic-version"}
