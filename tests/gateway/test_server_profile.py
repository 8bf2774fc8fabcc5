"""What is known of an upstream's server: by looks and turns, through swaps, and through the gateway's own looks."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import pytest
from patience import PATIENCE_SECONDS
from server_answers import LLAMA_CPP, LM_STUDIO, LM_STUDIO_LOADED, LOOPBACK, OLLAMA_TAGS, SGLANG, VLLM

from epad.configuration.schema import DialectName, UpstreamConfig
from epad.configuration.server_kinds import GENERIC, SERVERS
from epad.gateway import health_check
from epad.gateway import looking as looking_module
from epad.gateway.server_detection import LOADED, MODELS, PROPS
from epad.gateway.server_profile import ServerProfile
from epad.gateway.upstream import Upstream, Upstreams
from statemachine.clock import ManualClock


def _looked(
    profile: ServerProfile, body: bytes, head: Mapping[str, str] | None = None, path: str = MODELS
) -> str:
    profile.looked(path, 200, head or {}, body)
    return profile.server.name


class TestProfile:
    def test_another_server_on_the_same_port_is_told(self) -> None:
        profile = ServerProfile(LOOPBACK)
        assert profile.server is GENERIC
        assert _looked(profile, VLLM) == "vllm"
        assert profile.context("base") == 2_048
        assert _looked(profile, LM_STUDIO) == "lmstudio"
        assert profile.context("base") == 0
        assert _looked(profile, b"{}") == "generic"

    def test_a_turn_tells_it_before_the_next_look_does(self) -> None:
        profile = ServerProfile(LOOPBACK)
        _looked(profile, LLAMA_CPP, {"server": "llama.cpp"})
        profile.answered({"server": "llama.cpp"})
        assert profile.server.name == "llama.cpp"
        profile.answered({"server": "uvicorn"})
        assert profile.server is GENERIC
        assert profile.context("smol") == 0

    def test_a_proxy_that_puts_its_own_name_into_the_head_changes_nothing(self) -> None:
        profile = ServerProfile(LOOPBACK)
        _looked(profile, LLAMA_CPP, {"server": "nginx"})
        profile.answered({"server": "nginx"})
        assert (profile.server.name, profile.context("smol")) == ("llama.cpp", 4_096)

    @pytest.mark.parametrize("status", [401, 404, 500])
    def test_a_refused_look_changes_nothing(self, status: int) -> None:
        profile = ServerProfile(LOOPBACK)
        _looked(profile, VLLM)
        profile.looked(MODELS, status, {}, b"{}")
        assert profile.server.name == "vllm"
        assert profile.context("base") == 2_048

    def test_what_the_configuration_names_stays(self) -> None:
        profile = ServerProfile("https://api.openai.com/v1", "LM Studio")
        assert _looked(profile, VLLM) == "lmstudio"
        profile.answered({"server": "llama.cpp"})
        assert profile.server.name == "lmstudio"
        assert profile.context("base") == 2_048

    @pytest.mark.parametrize(("configured", "tokens"), [(0, 2_048), (1_000, 1_000), (9_999, 2_048)])
    def test_of_what_is_configured_and_learnt_the_smaller_counts(self, configured: int, tokens: int) -> None:
        profile = ServerProfile(LOOPBACK, context_tokens=configured)
        assert profile.context("base") == configured
        _looked(profile, VLLM)
        assert profile.context("base") == tokens
        assert profile.context("other") == configured

    def test_more_is_read_only_where_the_list_does_not_say(self) -> None:
        profile = ServerProfile(LOOPBACK)
        assert profile.more_to_read() == ""
        _looked(profile, LLAMA_CPP)
        assert profile.more_to_read() == ""
        _looked(profile, LLAMA_CPP.replace(b'"n_ctx":4096,', b""))
        assert profile.more_to_read() == PROPS
        _looked(profile, LM_STUDIO)
        assert profile.more_to_read() == LOADED
        _looked(profile, LM_STUDIO_LOADED, path=LOADED)
        assert profile.context("gemma-3-4b-it") == 4_096
        assert profile.more_to_read() == LOADED

    def test_a_list_that_changes_is_learnt_anew(self) -> None:
        profile = ServerProfile(LOOPBACK)
        _looked(profile, VLLM)
        _looked(profile, VLLM.replace(b"2048", b"4096"))
        assert profile.context("base") == 4_096

    def test_who_speaks_ollamas_dialect_and_says_no_more_is_taken_for_it(self) -> None:
        profile = ServerProfile(LOOPBACK)
        assert profile.for_dialect("ollama") is SERVERS["ollama"]
        assert profile.for_dialect("openai") is GENERIC
        _looked(profile, SGLANG)
        assert profile.for_dialect("ollama") is SERVERS["sglang"]

    def test_a_socket_has_no_host(self) -> None:
        assert ServerProfile("unix:/run/api.openai.com").server is GENERIC


@dataclass
class Told:
    """A server that answers each path with what it is told, and says which it was asked for."""

    answers: dict[str, bytes]
    head: str = ""
    hangs: bool = False
    asked: list[str] = field(default_factory=list)

    async def handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                path = (await reader.readuntil(b"\r\n\r\n")).split(b" ")[1].decode()
                self.asked.append(path)
                body = self.answers.get(path, b"")
                status = "200 OK" if path in self.answers else "404 Not Found"
                length = len(body) + self.hangs
                writer.write(
                    f"HTTP/1.1 {status}\r\n{self.head}Content-Length: {length}\r\n\r\n".encode() + body
                )
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()


@asynccontextmanager
async def serving(told: Told) -> AsyncIterator[str]:
    async with await asyncio.start_server(told.handle, "127.0.0.1", 0) as server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"


@asynccontextmanager
async def looking(
    told: Told, dialects: tuple[DialectName, ...] = ("openai",), base: str = ""
) -> AsyncIterator[tuple[Upstreams, Upstream]]:
    async with serving(told) as url:
        config = {"u": UpstreamConfig(url=url + base, dialects=dialects)}
        upstreams = Upstreams(config, 1.0, 5.0, ManualClock())
        await upstreams.start()
        try:
            yield upstreams, upstreams.all()[0]
        finally:
            await upstreams.stop()


async def _look(upstreams: Upstreams, upstream: Upstream) -> None:
    async with asyncio.timeout(PATIENCE_SECONDS):
        await upstreams._check.look(upstream)


class TestLooks:
    @pytest.mark.parametrize("base", ["", "/v1", "/v1/"])
    async def test_a_look_tells_the_server_and_the_next_one_another(self, base: str) -> None:
        told = Told({"/v1/models": LLAMA_CPP}, head="Server: llama.cpp\r\n")
        async with looking(told, base=base) as (upstreams, upstream):
            await _look(upstreams, upstream)
            assert (upstream.server.name, upstream.context("smol")) == ("llama.cpp", 4_096)
            assert upstreams.status()[0]["server"] == "llama.cpp"
            told.answers, told.head = {"/v1/models": VLLM}, ""
            await _look(upstreams, upstream)
            assert (upstream.server.name, upstream.context("base"), upstream.context("smol")) == (
                "vllm",
                2_048,
                0,
            )
            assert set(told.asked) == {"/v1/models"}

    async def test_one_request_more_where_the_list_does_not_say_how_much_is_held(self) -> None:
        told = Told({"/v1/models": LM_STUDIO, "/api/v0/models": LM_STUDIO_LOADED})
        async with looking(told, base="/v1") as (upstreams, upstream):
            await _look(upstreams, upstream)
            assert upstream.context("gemma-3-4b-it") == 4_096
            assert told.asked.count("/api/v0/models") >= 1

    async def test_ollama_is_asked_what_it_has_loaded(self) -> None:
        loaded = b'{"models":[{"name":"llama3.2:latest","model":"llama3.2:latest","context_length":4096}]}'
        told = Told({"/api/tags": OLLAMA_TAGS, "/api/ps": loaded})
        async with looking(told, ("ollama", "openai")) as (upstreams, upstream):
            await _look(upstreams, upstream)
            assert (upstream.server.name, upstream.context("llama3.2")) == ("ollama", 4_096)

    async def test_a_server_that_is_new_by_a_reload_is_looked_at_at_once(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Not only when the next look at the others is due: its first turn is to know its context."""
        monkeypatch.setattr(looking_module, "LOOK_EVERY_SECONDS", 3_600.0)
        async with (
            looking(Told({"/v1/models": VLLM})) as (upstreams, known),
            asyncio.timeout(PATIENCE_SECONDS),
        ):
            while known.server.name != "vllm":
                await asyncio.sleep(0.001)
            async with serving(Told({"/v1/models": VLLM})) as url:
                new = UpstreamConfig(url=url, dialects=("openai",))
                upstreams.configure(await upstreams.read_keys({**upstreams._config, "new": new}))
                while upstreams.all()[1].server.name != "vllm":
                    await asyncio.sleep(0.001)
            assert upstreams.all()[0] is known

    async def test_a_list_that_is_refused_or_absent_leaves_it_unknown_and_well(self) -> None:
        async with looking(Told({})) as (upstreams, upstream):
            await _look(upstreams, upstream)
            assert (upstream.server, upstream.health.reason) == (GENERIC, "")

    async def test_a_body_without_end_is_no_failure_and_tells_nothing(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(health_check, "LOOK_SECONDS", 0.2)
        async with looking(Told({"/v1/models": VLLM}, hangs=True)) as (upstreams, upstream):
            await _look(upstreams, upstream)
            assert (upstream.server, upstream.health.reason) == (GENERIC, "")

    async def test_a_body_that_is_too_long_is_not_read(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(health_check, "MOST_BYTES", 100)
        async with looking(Told({"/v1/models": VLLM})) as (upstreams, upstream):
            await _look(upstreams, upstream)
            assert (upstream.server, upstream.health.reason) == (GENERIC, "")
