"""An upstream that is down: its clients are told at once and charged nothing, others serve, and it comes back."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path

import pytest
from aiohttp import web
from gateway_world import StubUpstream, World, serving, world
from hypothesis import given
from hypothesis import strategies as st
from patience import PATIENCE_SECONDS

from epad.configuration.schema import BudgetConfig, DialectName, UpstreamConfig
from epad.gateway.errors import UpstreamError
from epad.gateway.health import State
from epad.gateway.http.message import Fields
from epad.gateway.retry_after import retry_after_seconds
from epad.gateway.upstream import Upstream, Upstreams
from epad.probing.fan_out import TurnFanout
from probes.blame import Failure, Fault
from probes.conversation import ConversationHealth, ConversationThresholds
from probes.token_burn import SubsystemBudget, TokenBurn, TokenBurnThresholds
from statemachine.clock import ManualClock
from statemachine.finding import Finding, Severity

NOW = datetime(2026, 11, 28, 12, 0, 0, tzinfo=UTC)
DIALECTS: tuple[DialectName, ...] = ("openai", "ollama")


class Moody(StubUpstream):
    """Answers turns with a status and a text of its own, and looks with another status."""

    def __init__(self, status: int = 200, said: str = "", looks: int = 200, retry_after: str = "") -> None:
        super().__init__()
        self.status, self.said, self.looks, self.retry_after = status, said, looks, retry_after

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        if request.method == "GET" and self.looks != 200:
            return web.json_response({"error": self.said}, status=self.looks)
        if request.method == "POST" and self.status != 200:
            self.requests.append(json.loads(await request.read()))
            headers = {"Retry-After": self.retry_after} if self.retry_after else {}
            return web.json_response({"error": {"message": self.said}}, status=self.status, headers=headers)
        return await super().handle(request)


@asynccontextmanager
async def asking(directory: Path, stub: StubUpstream, name: str) -> AsyncIterator[World]:
    """A gateway before one server, by the name of its upstream."""
    async with serving(stub) as base:
        upstreams = {name: UpstreamConfig(url=base, dialects=DIALECTS)}
        async with world(directory, upstreams=upstreams) as w:
            yield w


def upstream_of(w: World, number: int = 0) -> Upstream:
    return w.gateway._parts.upstreams.all()[number]


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


async def until(w: World, state: State) -> None:
    async with asyncio.timeout(PATIENCE_SECONDS):
        while upstream_of(w).health.state is not state:
            await asyncio.sleep(0.01)


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/api/chat"])
async def test_nobody_there_is_told_at_once_with_its_name_and_when_to_come_back(
    tmp_path: Path, path: str
) -> None:
    """The first turn finds out; the next is refused before anything is reserved, opened or told as a turn."""
    upstreams = {"vllm": UpstreamConfig(url=f"http://127.0.0.1:{free_port()}", dialects=DIALECTS)}
    budgets = {"writer": BudgetConfig(tokens_per_minute=100_000)}
    async with world(tmp_path, upstreams=upstreams, budgets=budgets) as w:
        assert (await w.post(path))[0] == 502
        status, headers, body = await w.post(path)
        assert (status, headers["Retry-After"]) == (503, "2")
        assert b"upstream vllm cannot be reached at http://127.0.0.1:" in body
        assert len(w.ledger.opened) == len(w.recorder.admissions) == 1
        [refusal] = w.recorder.refusals
        assert (refusal.code, refusal.fault, refusal.upstream) == (
            "upstream_unavailable",
            Fault.UPSTREAM,
            "vllm",
        )
        assert refusal.prompt_digest == w.recorder.admissions[0].prompt_digest
        [closed] = await w.closings(1)
        assert (closed.charged_tokens, w.used()) == (0, 0)
        assert w.recorder.endings[0].fault is Fault.UPSTREAM


async def test_it_is_back_without_a_turn_that_tries(tmp_path: Path) -> None:
    port = free_port()
    upstreams = {"vllm": UpstreamConfig(url=f"http://127.0.0.1:{port}", dialects=DIALECTS)}
    async with world(tmp_path, upstreams=upstreams) as w:
        await w.chat()
        assert upstream_of(w).health.state is State.GONE
        stub = StubUpstream()
        runner = web.ServerRunner(web.Server(stub.handle, access_log=None))
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", port).start()
        try:
            await until(w, State.WELL)
            assert stub.requests == []
            assert (await w.chat())[0] == 200
        finally:
            await runner.cleanup()


@pytest.mark.parametrize(("status", "code", "fault"), [
    (401, "upstream_rejects_key", Fault.KEY), (403, "upstream_rejects_key", Fault.KEY),
    (407, "upstream_rejects_key", Fault.KEY),
])  # fmt: skip
async def test_a_refused_key_is_told_and_tried_again_by_one_turn_at_a_time(
    tmp_path: Path, status: int, code: str, fault: Fault
) -> None:
    """Its list of models is served to anybody, so that looks say nothing."""
    stub = Moody(status, "bad key")
    async with serving(stub) as base:
        config = {"vllm": UpstreamConfig(url=base, dialects=DIALECTS)}
        async with world(tmp_path, upstreams=config) as w:
            for _ in range(2):
                answer, _, body = await w.chat()
                assert answer == (
                    403 if status == 403 else 502
                )  # of 403 the provider says more than epad knows
                assert status == 403 or b"upstream vllm does not take epad's key" in body
            answer, _, body = await w.chat()
            assert (answer, len(stub.requests)) == (503, 2)
            assert b"api_key_file" in body
            assert (w.recorder.refusals[0].code, w.recorder.refusals[0].fault) == (code, fault)
            assert {ending.fault for ending in w.recorder.endings} == {Fault.KEY}
            stub.status = 200
            w.clock.advance(5)
            assert (await w.chat())[0] == 200
            assert upstream_of(w).health.state is State.WELL


async def test_a_key_that_is_put_right_is_read_without_a_restart(tmp_path: Path) -> None:
    (tmp_path / "key").write_text("wrong")
    stub = Moody(401, looks=401)
    async with serving(stub) as base:
        config = {"vllm": UpstreamConfig(url=base, dialects=DIALECTS, api_key_file=str(tmp_path / "key"))}
        async with world(tmp_path, upstreams=config) as w:
            await w.chat()
            await w.chat()
            assert upstream_of(w).health.state is State.REJECTING
            async with asyncio.timeout(PATIENCE_SECONDS):
                while not upstream_of(w).health._looks_failed:
                    await asyncio.sleep(0.01)
            (tmp_path / "key").write_text("right")
            stub.status = stub.looks = 200
            await until(w, State.WELL)
            assert (await w.chat())[0] == 200
            assert stub.headers[-1]["Authorization"] == "Bearer right"


async def test_a_refused_request_is_no_refused_key(tmp_path: Path) -> None:
    """A provider that finds the text improper says 403 too; others are served on."""
    stub = Moody(403, "your input was flagged by moderation")
    async with asking(tmp_path, stub, "up") as w:
        for _ in range(4):
            await w.chat()
        assert len(stub.requests) == 4
        assert upstream_of(w).health.state is State.WELL
        assert {ending.fault for ending in w.recorder.endings} == {Fault.CLIENT}


async def test_a_key_that_is_refused_with_400_is_a_refused_key(tmp_path: Path) -> None:
    """As Gemini does it; the body is passed on, and is what a turn that objects to a cap would read."""
    async with asking(tmp_path, Moody(400, "API key not valid. Please pass a valid API key."), "gemini") as w:
        for _ in range(2):
            assert (await w.chat())[0] == 400
        assert upstream_of(w).health.state is State.REJECTING
        assert {ending.fault for ending in w.recorder.endings} == {Fault.KEY}


async def test_a_quota_that_is_spent_is_a_limit(tmp_path: Path) -> None:
    async with asking(tmp_path, Moody(403, "You exceeded your current quota", retry_after="9"), "up") as w:
        assert (await w.chat())[0] == 403
        status, headers, _ = await w.chat()
        assert (status, headers["Retry-After"]) == (429, "9")
        assert {ending.fault for ending in w.recorder.endings} == {Fault.UPSTREAM}


async def test_a_limit_is_passed_on_and_then_kept_for_as_long_as_it_said(tmp_path: Path) -> None:
    stub = Moody(429, "slow down", retry_after="30")
    async with asking(tmp_path, stub, "cloud") as w:
        status, headers, body = await w.chat()
        assert (status, headers["Retry-After"], b"slow down" in body) == (429, "30", True)
        w.clock.advance(10)
        status, headers, body = await w.chat()
        assert (status, headers["Retry-After"], len(stub.requests)) == (429, "20", 1)
        assert b"upstream cloud limits what it takes" in body
        assert (await w.chat(model="other"))[0] == 429
        assert len(stub.requests) == 2
        assert w.gateway.upstreams()[0]["state"] == "limiting"
        assert w.gateway.upstreams()[0]["healthy"] is True
        stub.status = 200
        w.clock.advance(20)
        assert (await w.chat())[0] == 200


@pytest.mark.parametrize("status", [401, 403, 429, 503])
async def test_what_declines_is_followed_by_the_next_that_has_the_model(tmp_path: Path, status: int) -> None:
    """Nothing was begun, so nothing is made twice, and no request is lost that could be served."""
    sick, alive = Moody(status), StubUpstream()
    async with serving(sick) as one, serving(alive) as other:
        upstreams = {
            "sick": UpstreamConfig(url=one, dialects=DIALECTS),
            "alive": UpstreamConfig(url=other, dialects=DIALECTS),
        }
        async with world(tmp_path, upstreams=upstreams) as w:
            assert (await w.chat())[0] == 200
            assert (len(sick.requests), len(alive.requests)) == (1, 1)
            await w.closings(1)
            assert w.recorder.endings[0].upstream == "alive"


async def test_a_server_error_may_have_made_something_and_is_made_once(tmp_path: Path) -> None:
    sick, alive = Moody(500), StubUpstream()
    async with serving(sick) as one, serving(alive) as other:
        upstreams = {
            "sick": UpstreamConfig(url=one, dialects=DIALECTS),
            "alive": UpstreamConfig(url=other, dialects=DIALECTS),
        }
        async with world(tmp_path, upstreams=upstreams) as w:
            assert (await w.chat())[0] == 500
            assert alive.requests == []


async def test_a_model_that_loads_is_loading(tmp_path: Path) -> None:
    """llama-server lists its model meanwhile; its health route says the rest."""
    stub = Moody(503, "Loading model")
    async with asking(tmp_path, stub, "llama") as w:
        assert (await w.chat())[0] == 503
        assert upstream_of(w).health.state is State.LOADING
        stub.status = 200
        await until(w, State.WELL)
        assert (await w.chat())[0] == 200


async def test_a_subsystem_that_has_just_begun_is_loading_and_not_gone() -> None:
    begun = {"model"}
    config = {
        "ours": UpstreamConfig(url=f"http://127.0.0.1:{free_port()}", dialects=DIALECTS, served_by="model")
    }
    upstreams = Upstreams(config, 1.0, 1.0, ManualClock(), starting=begun.__contains__)
    await upstreams.start()
    try:
        [ours] = upstreams.all()
        ours.health.gone("refused")
        async with asyncio.timeout(PATIENCE_SECONDS):
            while ours.health.state is not State.LOADING:
                await asyncio.sleep(0.01)
            assert "ours is loading: model has just begun" in ours.health.reason
            begun.clear()
            while ours.health.state is not State.GONE:
                await asyncio.sleep(0.01)
    finally:
        await upstreams.stop()


async def test_a_machine_without_files_left_blames_no_upstream(monkeypatch: pytest.MonkeyPatch) -> None:
    """What this machine lacks is the host's, for a turn and for a look.

    From the start there is no file: a look that had a connection already would leave it to the turn.
    """
    tried = 0

    async def no_file(*_: object, **__: object) -> None:
        nonlocal tried
        tried += 1
        raise OSError(24, "Too many open files")

    monkeypatch.setattr(asyncio.get_running_loop(), "create_connection", no_file)
    config = {"ours": UpstreamConfig(url="http://127.0.0.1:9", dialects=DIALECTS)}
    upstreams = Upstreams(config, 1.0, 1.0, ManualClock())
    await upstreams.start()
    try:
        [ours] = upstreams.all()
        async with asyncio.timeout(PATIENCE_SECONDS):
            while not tried:  # the look of the start
                await asyncio.sleep(0)
        with pytest.raises(UpstreamError, match="Too many open files") as raised:
            await upstreams.post(ours, "/v1/chat/completions", b"{}", Fields([]))
        assert raised.value.failure is Failure.HOST_SHORT
        assert ours.health.reason == ""
        assert not ours.health.is_open
    finally:
        await upstreams.stop()


@pytest.mark.parametrize(("fields", "seconds"), [
    ([(b"Retry-After", b"7")], 7), ([(b"retry-after", b"1.5")], 1.5), ([(b"retry-after-ms", b"250")], 0.25),
    ([(b"Retry-After", b"Sat, 28 Nov 2026 12:01:00 GMT")], 60),
    ([(b"Retry-After", b"Sat, 28 Nov 2026 11:00:00 GMT")], 0),
    ([], 0), ([(b"Retry-After", b"soon")], 0), ([(b"Retry-After", b"-3")], 0), ([(b"Retry-After", b"nan")], 0),
])  # fmt: skip
def test_how_long_a_server_says_to_wait(fields: list[tuple[bytes, bytes]], seconds: float) -> None:
    assert retry_after_seconds(Fields(fields), NOW) == seconds


@given(st.text(st.characters(codec="latin-1"), max_size=40))
def test_whatever_stands_there_is_a_time_or_none(text: str) -> None:
    assert retry_after_seconds(Fields([(b"Retry-After", text.encode("latin-1"))]), NOW) >= 0


async def test_a_client_that_leaves_while_a_refusal_is_read_leaves_no_connection_behind(
    tmp_path: Path,
) -> None:
    """The head of a 503 has come, and its body does not."""
    hung_up = asyncio.Event()

    async def dawdle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        if head.startswith(b"GET"):
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{}")
            writer.close()
            return
        writer.write(b"HTTP/1.1 503 No\r\nContent-Length: 99\r\n\r\n{")
        while await reader.read(100):
            pass
        hung_up.set()
        writer.close()

    async with await asyncio.start_server(dawdle, "127.0.0.1", 0) as server:
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        async with world(tmp_path, upstreams={"slow": UpstreamConfig(url=url, dialects=DIALECTS)}) as w:
            asked = asyncio.create_task(w.chat())
            async with asyncio.timeout(PATIENCE_SECONDS):
                while not w.recorder.admissions:
                    await asyncio.sleep(0.01)
                await asyncio.sleep(0.1)
                asked.cancel()
                await hung_up.wait()


@pytest.mark.parametrize("status", [401, 403, 429, 500, 502, 503, 529])
async def test_no_detector_hears_of_an_outage_nor_of_what_it_left_behind(tmp_path: Path, status: int) -> None:
    """Two clients that retry each question twice, as OpenAI's library does; afterwards they go on."""
    heard: list[Finding] = []
    clock = ManualClock()
    burn = TokenBurn(
        TokenBurnThresholds(), budget=lambda _: SubsystemBudget(), clock=clock, push=heard.append
    )
    talk = ConversationHealth(ConversationThresholds(), clock=clock, push=heard.append)
    stub = Moody(status)

    async def ask(w: World, name: str, number: int, retry: int) -> int:
        body = {"model": "tiny", "messages": [{"role": "user", "content": f"question {number} of {name}"}]}
        headers = {**w.headers(name), "x-stainless-retry-count": str(retry)}
        async with w.http.post(w.url + "/v1/chat/completions", json=body, headers=headers) as response:
            await response.read()
            return response.status

    async with serving(stub) as base:
        config = {"vllm": UpstreamConfig(url=base, dialects=DIALECTS)}
        fanout = TurnFanout([burn, talk], _NoEvents(), clock)  # type: ignore[arg-type]  # `emit` alone is called
        async with world(tmp_path, upstreams=config, observer=fanout) as w:
            for number in range(30):
                for name in ("writer", "reader"):
                    for retry in range(3):
                        assert await ask(w, name, number, retry) != 200
                        w.clock.advance(0.5)
                        clock.advance(0.5)
            assert len(stub.requests) < 180 or status in {502, 529}
            stub.status = 200
            w.clock.advance(2)
            for number in range(30, 60):
                for name in ("writer", "reader"):
                    assert await ask(w, name, number, 0) == 200
                    w.clock.advance(0.5)
                    clock.advance(0.5)
    findings = [*heard, *await burn.sample(), *await talk.sample()]
    # What is asked again, and answered with nothing, is not for the ratios to say.
    told = [
        f for f in findings if f.severity > Severity.OK and f.evidence.get("detector") != "duplicate_prompts"
    ]
    assert [finding.reason for finding in told] == []


class _NoEvents:
    def emit(self, *_: object, **__: object) -> None:
        """Nobody reads them here."""
