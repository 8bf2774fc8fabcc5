"""What the gateway tells the probes, and that the real probes find real runaways in it."""

from __future__ import annotations

import asyncio
import json
import socket
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from gateway_world import Recorder, World, gateway_config, world
from model_server import model_server
from msgspec import structs
from virtual_time import VirtualTime

from epad.configuration.schema import BudgetConfig, DialectName, PriceConfig, UpstreamConfig
from epad.gateway.errors import GatewayError
from epad.gateway.money import Prices
from probes.blame import Fault
from probes.conversation import ConversationHealth, ConversationThresholds
from probes.token_burn import SubsystemBudget, TokenBurn, TokenBurnThresholds
from probes.turns import TurnStreamed
from statemachine.clock import ManualClock
from statemachine.finding import Finding

DIALECTS: tuple[DialectName, ...] = ("openai", "ollama", "anthropic")
TALKS = ("/v1/chat/completions", "/v1/messages", "/api/chat")


@dataclass
class Listener(Recorder):
    """Hears streams as well."""

    pieces: list[TurnStreamed] = field(default_factory=list)

    def streamed(self, event: TurnStreamed) -> None:
        self.pieces.append(event)


def burn(heard: list[Finding]) -> TokenBurn:
    return TokenBurn(
        TokenBurnThresholds(), budget=lambda _: SubsystemBudget(), clock=ManualClock(), push=heard.append
    )


def detectors(heard: list[Finding]) -> set[str]:
    return {str(finding.evidence["detector"]) for finding in heard if "detector" in finding.evidence}


@pytest.mark.parametrize("path", [*TALKS, "/v1/responses"])
async def test_every_field_of_a_turn_is_told(tmp_path: Path, path: str) -> None:
    """Its conversation before it is forwarded, each piece as it passes, and how it ended."""
    listener = Listener()
    async with model_server() as (server, base):
        upstreams = {"stub": UpstreamConfig(url=base, dialects=DIALECTS)}
        async with world(tmp_path, upstreams=upstreams, observer=listener) as w:
            fields: dict[str, Any] = {"input": "hello"} if path == "/v1/responses" else {}
            assert (await w.post(path, stream=True, **fields))[0] == 200
            server.status = 503
            assert (await w.post(path, stream=False, **fields))[0] == 503
    first, second = listener.admissions
    assert first.messages == len(first.history) == 1
    assert (first.conversation, first.last_message) == (second.conversation, second.last_message)
    assert first.conversation
    assert 0 < first.prompt_tokens < first.reserved_tokens
    assert [text for told in listener.pieces for text in told.pieces] == server.words
    assert {told.turn for told in listener.pieces} == {first.turn}
    assert listener.pieces[-1].output_tokens > 0
    done, failed = listener.endings
    assert (done.http_status, failed.http_status) == (200, 503)
    assert done.reply
    assert failed.reply == b""


async def test_a_clients_own_name_for_its_conversation_is_taken(tmp_path: Path) -> None:
    """It stays here; and one that nobody could print is refused."""
    async with world(tmp_path) as w:
        for name, status in (("ticket-7", 200), ("x" * 256, 400)):
            headers = {**w.headers(), "X-Epad-Conversation": name}
            body = {"model": "tiny", "messages": [{"role": "user", "content": "hello"}]}
            async with w.http.post(w.url + TALKS[0], json=body, headers=headers) as response:
                assert response.status == status
        assert [event.conversation for event in w.recorder.admissions] == ["ticket-7"]
        assert "x-epad-conversation" not in {name.lower() for name in w.stub.headers[0]}


@pytest.mark.parametrize(("status", "fault"), [
    (200, Fault.NOBODY), (400, Fault.CLIENT), (401, Fault.KEY), (404, Fault.CLIENT), (429, Fault.UPSTREAM),
    (500, Fault.UPSTREAM), (503, Fault.UPSTREAM),
])  # fmt: skip
async def test_whose_fault_a_turns_end_is_is_told(tmp_path: Path, status: int, fault: Fault) -> None:
    async with world(tmp_path) as w:
        w.stub.status = status
        await w.chat(seed=7, temperature=0)
        await w.closings(1)
        [admission], [ending] = w.recorder.admissions, w.recorder.endings
    assert (ending.fault, ending.upstream, ending.http_status) == (fault, "stub", status)
    assert admission.upstream == "stub"
    assert admission.sampling
    assert not admission.random


async def test_an_attempt_is_told_and_goes_no_further(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        headers = {**w.headers(), "X-Epad-Attempt": "round-4/vote-2#3"}
        body = {"model": "tiny", "messages": [{"role": "user", "content": "hello"}]}
        async with w.http.post(w.url + "/v1/chat/completions", json=body, headers=headers) as response:
            assert response.status == 200
        assert w.recorder.admissions[0].attempt == "round-4/vote-2#3"
        assert not any("attempt" in name.lower() for name in w.stub.headers[0])


@pytest.mark.parametrize("mark", ["x" * 65, "two words", "caf\u00e9"])
async def test_a_mark_that_is_no_token_is_an_error(tmp_path: Path, mark: str) -> None:
    async with world(tmp_path) as w:
        headers = {**w.headers(), "X-Epad-Attempt": mark}
        body = {"model": "tiny", "messages": [{"role": "user", "content": "hello"}]}
        async with w.http.post(w.url + "/v1/chat/completions", json=body, headers=headers) as response:
            assert response.status == 400
            assert b"X-Epad-Attempt" in await response.read()
        assert w.recorder.refusals[0].fault is Fault.CLIENT


async def test_a_broken_stream_has_no_reply(tmp_path: Path) -> None:
    """What was begun is not what was said."""
    async with world(tmp_path) as w:
        w.stub.ends = w.stub.gives_usage = False
        await w.chat(stream=True)
        assert [(event.outcome, event.reply) for event in w.recorder.endings] == [("failed", b"")]


@pytest.mark.parametrize("path", TALKS)
async def test_a_stream_that_loops_is_found_while_it_streams(tmp_path: Path, path: str) -> None:
    """The same words, again and again, in every dialect; a stream that says something new is none."""
    heard: list[Finding] = []
    async with model_server() as (server, base):
        upstreams = {"stub": UpstreamConfig(url=base, dialects=DIALECTS)}
        async with world(tmp_path, upstreams=upstreams, observer=burn(heard)) as w:
            server.words = [f"word {n} " for n in range(90)]
            await w.post(path, stream=True, max_tokens=900)
            assert detectors(heard) == set()
            server.words = ["and then I looked again, "] * 90
            await w.post(path, stream=True, max_tokens=900)
    assert detectors(heard) == {"looping_output"}


async def talk(w: World, path: str, turns: int, *, answer: str | None = None) -> None:
    """An agent that appends what was answered, and the same question, whatever was answered."""
    messages = [{"role": "user", "content": "fix the test"}]
    for turn in range(turns):
        assert (await w.post(path, messages=messages, stream=False))[0] == 200
        messages.append({"role": "assistant", "content": answer or f"attempt {turn}"})
        messages.append({"role": "user", "content": "it still fails"})


@pytest.mark.parametrize("path", TALKS)
async def test_the_same_message_appended_again_and_again_is_found(tmp_path: Path, path: str) -> None:
    """The prompt is never the same, so only its end gives it away."""
    heard: list[Finding] = []
    async with model_server() as (_, base):
        upstreams = {"stub": UpstreamConfig(url=base, dialects=DIALECTS)}
        async with world(tmp_path, upstreams=upstreams, observer=burn(heard)) as w:
            await talk(w, path, 8)
            assert detectors(heard) == set()
            await talk(w, path, 10)
    assert detectors(heard) == {"appended_loop"}


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("path", TALKS)
async def test_a_conversation_that_circles_is_found(tmp_path: Path, path: str, *, stream: bool) -> None:
    """The questions differ and the answers do not; the conversation is in order, so nothing else is said of it."""
    heard: list[Finding] = []
    probe = ConversationHealth(ConversationThresholds(), clock=ManualClock(), push=heard.append)
    async with model_server() as (_, base):
        upstreams = {"stub": UpstreamConfig(url=base, dialects=DIALECTS)}
        async with world(tmp_path, upstreams=upstreams, observer=probe) as w:
            messages = [{"role": "user", "content": "question 0"}]
            for turn in range(1, 7):
                assert heard == []
                await w.post(path, messages=messages, stream=stream)
                messages.append({"role": "assistant", "content": "I have done it."})
                messages.append({"role": "user", "content": f"question {turn}"})
            await w.closings(6)
    assert detectors(heard) == {"loop"}
    assert heard[0].evidence["messages"] == 11
    assert await probe.sample() == []


async def test_a_refusal_for_money_is_told_in_money(tmp_path: Path) -> None:
    """Not as so many tokens; the requests of a minute are neither."""
    heard: list[Finding] = []
    budgets = {
        "writer": BudgetConfig(usd_per_day=0.001),
        "reader": BudgetConfig(requests_per_minute=1),
    }
    listener = Listener()
    async with world(tmp_path, budgets=budgets, observer=listener) as w:
        w.gateway._parts.prices.__init__({"tiny": PriceConfig(input=1.0, output=5.0)})  # type: ignore[misc]  # as a reload
        assert isinstance(w.gateway._parts.prices, Prices)
        status, body = 200, b""
        while status == 200:
            status, _headers, body = await w.chat()
        assert (status, json.loads(body)["error"]["code"]) == (429, "budget_exceeded")
        for _ in range(2):
            await w.chat("reader")
    money, requests = listener.refusals[-2:]
    assert (money.unit, money.limit, money.limit_tokens) == ("microusd", "microusd_per_day", 1_000)
    assert (requests.unit, requests.limit_tokens) == ("requests", 1)
    probe = burn(heard)
    for second in range(30):
        probe.refused(structs.replace(money, at=float(second)))
    assert heard[0].unit == "microusd"
    assert money.retry_after_seconds > 3_600
    assert heard[0].reason.endswith("of $0.001000 microusd_per_day used")
    assert "tokens" not in heard[0].reason


async def test_a_port_that_is_taken_is_told_with_what_to_do(tmp_path: Path) -> None:
    """Why, who could know who has it, and what else would do."""
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        with pytest.raises(GatewayError, match=f"another program has the port.* :{port}'.*or port 0"):
            async with world(tmp_path, config=gateway_config(listen=f"127.0.0.1:{port}")):
                pass
    with pytest.raises(GatewayError, match="set an address of this machine"):
        async with world(tmp_path, config=gateway_config(listen="192.0.2.1:8700")):
            pass


@pytest.mark.parametrize(
    ("path", "fields", "choices"),
    [
        ("/v1/chat/completions", {}, 1),
        ("/v1/chat/completions", {"n": 5}, 5),
        ("/v1/completions", {"prompt": ["a", "b"], "n": 3}, 3),
    ],
)
async def test_how_many_answers_are_asked_for_is_told(
    tmp_path: Path, path: str, fields: dict[str, Any], choices: int
) -> None:
    """Of each prompt: two prompts are no two draws."""
    async with world(tmp_path) as w:
        body = {"model": "tiny", "messages": [{"role": "user", "content": "hello"}], **fields}
        if "prompt" in fields:
            del body["messages"]
        async with w.http.post(w.url + path, json=body, headers=w.headers()) as response:
            await response.read()
        assert [event.choices for event in w.recorder.admissions] == [choices]


async def test_how_long_a_refused_request_waited_is_told(virtual_time: VirtualTime, tmp_path: Path) -> None:
    budgets, config = {"writer": BudgetConfig(max_in_flight=1)}, gateway_config(wait_seconds=10.0)
    async with world(tmp_path, budgets=budgets, config=config) as w:
        w.stub.gate = asyncio.Event()
        first = asyncio.ensure_future(w.chat())
        await w.stub.arrived.wait()
        second = asyncio.ensure_future(w.chat())
        await asyncio.sleep(9.0)
        w.clock.advance(9.0)
        assert (await second)[0] == 429
        assert [event.waited_seconds for event in w.recorder.refusals] == [9.0]
        w.stub.gate.set()
        assert (await first)[0] == 200
