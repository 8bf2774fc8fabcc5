"""The way of a request: identity, access, body, budget, ledger; each says no in its place."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest
import yarl
from gateway_world import MemoryLedger, gateway_config, world
from msgspec import structs

from epad.configuration.load import load
from epad.configuration.schema import BudgetConfig, UpstreamConfig
from epad.gateway.errors import UpstreamError
from epad.gateway.upstream import Upstreams
from epad.ledger.record import Outcome, UsageSource
from epad.ledger.store import Ledger
from statemachine.clock import ManualClock
from statemachine.containment import Rung

BUDGET = {
    "writer": BudgetConfig(tokens_per_minute=100_000),
    "reader": BudgetConfig(tokens_per_minute=100_000),
}


async def test_a_plain_answer_passes_byte_for_byte_and_is_accounted_for(tmp_path: Path) -> None:
    """Body and headers are the upstream's; reservation, charge, ledger, probes and metrics agree."""
    async with world(tmp_path, budgets=BUDGET) as w:
        status, headers, body = await w.chat(max_tokens=50)
        assert (status, body, headers["x-stub"]) == (200, w.stub.sent, "yes")
        [opened], [closed] = w.ledger.opened, await w.closings(1)
        assert headers["x-epad-turn"] == opened.turn == closed.turn
        assert (opened.subsystem, opened.dialect, opened.model) == ("writer", "openai", "tiny")
        assert opened.reserved_tokens == opened.prompt_bound + 50
        assert (closed.outcome, closed.input_tokens, closed.output_tokens) == (Outcome.DONE, 7, 5)
        assert (closed.charged_tokens, closed.usage_source, closed.http_status) == (
            12,
            UsageSource.USAGE,
            200,
        )
        assert w.used() == 12
        assert w.recorder.admissions[0].reserved_tokens == opened.reserved_tokens
        assert w.recorder.endings[0].charged_tokens == 12
        w.gateway.show_series()
        text = w.metrics.render().decode()
        assert 'epad_tokens_total{kind="output",subsystem="writer"} 5.0' in text
        assert 'epad_turns_total{outcome="done",subsystem="writer"} 1.0' in text
        assert 'epad_turns_in_flight{subsystem="writer"} 0.0' in text


async def test_the_clients_key_never_reaches_the_upstream(tmp_path: Path) -> None:
    """The upstream gets epad's own key from its file, and no cookie or compression wish of the client."""
    async with world(tmp_path) as stubbed:
        secret = tmp_path / "key"
        secret.write_text("sk-real\n")
        base = stubbed.gateway._parts.upstreams.of("openai")[0].base
        config = {"real": UpstreamConfig(url=base + "/v1", dialects=("openai",), api_key_file=str(secret))}
        directory = tmp_path / "second"
        directory.mkdir()
        async with world(directory, upstreams=config) as w:
            status, _, _ = await w.chat()
        [headers] = stubbed.stub.headers
    assert status == 200
    assert headers["Authorization"] == "Bearer sk-real"
    assert headers["Accept-Encoding"] == "identity"
    assert not [value for value in headers.values() if "epad-" in value]


async def test_an_upstreams_missing_key_is_named_at_the_start() -> None:
    """Not at the first request, hours later."""
    config = {
        "x": UpstreamConfig(url="http://127.0.0.1:1", dialects=("openai",), api_key_file="/nowhere/key")
    }
    with pytest.raises(UpstreamError, match=r"\[upstreams\.x\] api_key_file: .*/nowhere/key"):
        await Upstreams(config, 1.0, 1.0, ManualClock()).start()


async def test_nobody_gets_nothing(tmp_path: Path) -> None:
    """Without a live key of a configured subsystem every route is 401, the list of models included."""
    async with world(tmp_path) as w:
        stale = await w.identities.issue("deleted")
        for key in ("", "epad-writer-guess", stale):
            for method, path in (
                ("POST", "/v1/chat/completions"),
                ("POST", "/api/chat"),
                ("GET", "/v1/models"),
            ):
                headers = {"Authorization": f"Bearer {key}"}
                async with w.http.request(method, w.url + path, headers=headers, data=b"{}") as response:
                    assert response.status == 401
                    assert (await response.json())["error"]
        assert w.stub.requests == []
        assert w.recorder.refusals == []


@pytest.mark.parametrize(
    ("method", "path"),
    [("POST", "/v1/moderations"), ("POST", "/v1/batches"), ("POST", "/"), ("GET", "/v1/files"),
     ("POST", "/v1/messages/batches"), ("GET", "/v1/chat/completions"), ("HEAD", "/v1/chat/completions"),
     ("POST", "/v1/chat;x/completions"), ("POST", "/v1/./chat/completions"), ("POST", "/v1/chat%252fcompletions"),
     ("POST", "/x/../v1/completions"), ("POST", "/v2/chat/completions"), ("POST", "/chat"), ("POST", "/v1"),
     ("GET", "/v1/models;x"), ("POST", "/v1/models"), ("PUT", "//v1/chat/completions")],
)  # fmt: skip
async def test_a_route_that_is_not_metered_is_refused(tmp_path: Path, method: str, path: str) -> None:
    """Nothing passes that cannot be accounted for; the refusal lists what does."""
    async with world(tmp_path) as w:
        async with w.http.request(
            method, yarl.URL(w.url + path, encoded=True), headers=w.headers(), data=b"{}"
        ) as response:
            assert response.status == 403
            assert method == "HEAD" or "POST /v1/chat/completions" in await response.text()
        assert w.stub.requests == []


@pytest.mark.parametrize(
    ("path", "route"),
    [("//v1//chat/completions", "/v1/chat/completions"), ("/v1/chat/completions/", "/v1/chat/completions"),
     ("/chat/completions", "/v1/chat/completions"), ("//chat/completions//", "/v1/chat/completions"),
     ("/v1/chat%2fcompletions", "/v1/chat/completions"), ("//api//chat/", "/api/chat")],
)  # fmt: skip
async def test_another_spelling_of_a_route_is_that_route(tmp_path: Path, path: str, route: str) -> None:
    """It is metered as that, and asked for by its own name; a key to the same answer is the same, too."""
    async with world(tmp_path) as w:
        url = yarl.URL(w.url + path, encoded=True)
        headers = {**w.headers(), "Idempotency-Key": "k"}
        body = json.dumps({"model": "tiny", "messages": [], "stream": False})
        for asked in (url, yarl.URL(w.url + route)):
            async with w.http.post(asked, headers=headers, data=body) as response:
                assert response.status == 200
        assert [turn.path for turn in w.ledger.opened] == [route] * len(w.ledger.opened)
        assert len(w.ledger.closed) == len(w.ledger.opened) >= 1


@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize("key", [False, True])
async def test_whoever_asks_whether_somebody_is_there_is_told(tmp_path: Path, method: str, key: bool) -> None:
    """Ollama's own clients ask HEAD / first of all. A wrong key, or a page of another site, is none the wiser."""
    async with world(tmp_path) as w:
        headers = w.headers() if key else {}
        async with w.http.request(method, w.url + "/", headers=headers, data=b"x" * 99) as response:
            assert (response.status, response.headers["Content-Length"]) == (200, "17")
            assert await response.text() == ("Ollama is running" if method == "GET" else "")
        for wrong, status in (
            ({"Authorization": "Bearer x"}, 401),
            ({"Origin": "https://evil.example"}, 403),
            ({"Host": "evil.example"}, 403),
        ):
            async with w.http.request(method, w.url + "/", headers=wrong) as response:
                assert response.status == status
        assert w.ledger.opened == []


@pytest.mark.parametrize(
    ("method", "path"),
    [("POST", "/api/pull"), ("POST", "/api/push"), ("POST", "/api/create"), ("POST", "/api/copy"),
     ("DELETE", "/api/delete"), ("POST", "/api/blobs/sha256:00"), ("HEAD", "/api/blobs/sha256:00"),
     ("DELETE", "/v1/models/tiny"), ("POST", "/v1/load_lora_adapter"), ("POST", "//api/pull"),
     ("POST", "/api%2fpull/"), ("POST", "/models/load"), ("DELETE", "/models/tiny"), ("DELETE", "/v1//models/tiny")],
)  # fmt: skip
async def test_a_route_that_manages_models_is_denied(tmp_path: Path, method: str, path: str) -> None:
    """One subsystem does not change what the others are served; no client asks again."""
    async with world(tmp_path) as w:
        async with w.http.request(
            method, yarl.URL(w.url + path, encoded=True), headers=w.headers(), data=b"{}"
        ) as response:
            assert (response.status, response.headers["x-should-retry"]) == (403, "false")
        assert [event.code for event in w.recorder.refusals] == ["route_denied"]
        assert w.stub.requests == []


async def test_a_quarantined_subsystem_is_refused_and_another_goes_on(tmp_path: Path) -> None:
    """In each dialect's own shape, with nothing forwarded, and nothing kept from the other."""
    async with world(tmp_path) as w:
        w.access.hold("writer", Rung.FREEZE, "it loops")
        status, headers, body = await w.chat()
        assert (status, json.loads(body)["error"]["code"]) == (403, "subsystem_quarantined")
        assert headers["x-should-retry"] == "false"
        status, _, body = await w.post("/api/chat")
        assert status == 403
        assert "it loops" in json.loads(body)["error"]
        assert w.stub.requests == w.ledger.opened == []
        assert (await w.chat("reader"))[0] == 200
        assert [event.code for event in w.recorder.refusals] == ["subsystem_quarantined"] * 2
        w.access.release("writer")
        assert (await w.chat())[0] == 200


async def test_a_hold_that_falls_while_the_body_is_read_still_counts(tmp_path: Path) -> None:
    """Access is asked once more in the step that reserves."""
    async with world(tmp_path) as w:
        half = asyncio.Event()

        async def body():
            yield b'{"model":"tiny","messages":[]'
            await half.wait()
            yield b"}"

        asking = asyncio.create_task(
            w.http.post(w.url + "/v1/chat/completions", data=body(), headers=w.headers())
        )
        while not any(each.busy for each in w.gateway._server.shared.connections):
            await asyncio.sleep(0.001)
        w.access.hold("writer", Rung.BLOCK, "meanwhile")
        half.set()
        async with await asking as response:
            assert response.status == 403
        assert w.ledger.opened == []


async def test_a_budget_refusal_tells_the_probes_which_limit(tmp_path: Path) -> None:
    """The exact request that would cross is refused, with the figures; other subsystems have their own."""
    budgets = {
        "writer": BudgetConfig(tokens_per_minute=1_000),
        "reader": BudgetConfig(tokens_per_minute=1_000),
    }
    async with world(tmp_path, budgets=budgets) as w:
        w.stub.input_tokens = 50
        w.stub.obeys_caps = True
        answers = [await w.chat(max_tokens=450) for _ in range(3)]
        # The second is given what is left, less than it asked for; the third would have nothing.
        assert [status for status, _, _ in answers] == [200, 200, 429]
        asked = [request["max_tokens"] for request in w.stub.requests]
        assert (asked[0], 0 < asked[1] < 450) == (450, True)
        _, headers, body = answers[2]
        assert json.loads(body)["error"]["code"] == "budget_exceeded"
        assert 1 <= int(headers["Retry-After"]) <= 60
        refused = w.recorder.refusals[0]
        assert (refused.code, refused.limit, refused.limit_tokens, refused.used_tokens) == (
            "budget_exceeded", "tokens_per_minute", 1_000, w.used(),
        )  # fmt: skip
        assert refused.prompt_digest == w.recorder.admissions[0].prompt_digest
        assert (await w.chat("reader"))[0] == 200
        w.clock.advance(62)
        assert (await w.chat(max_tokens=450))[0] == 200


async def test_a_prompt_beyond_the_whole_budget_is_a_mistake_in_the_request(tmp_path: Path) -> None:
    """400, for good; a cap beyond it is none: it is cut to what is left."""
    async with world(tmp_path, budgets={"writer": BudgetConfig(tokens_per_minute=200)}) as w:
        w.stub.obeys_caps = True
        assert (await w.chat(max_tokens=900))[0] == 200
        assert w.used() <= 200
        w.clock.advance(62)
        status, headers, body = await w.chat(messages=[{"role": "user", "content": "x" * 200}])
        assert (status, json.loads(body)["error"]["code"]) == (400, "request_exceeds_budget")
        assert headers["x-should-retry"] == "false"


async def test_nothing_is_forwarded_when_the_ledger_cannot_be_written(tmp_path: Path) -> None:
    """503 for everyone, the reservation given back, and it works again when the ledger does."""
    ledger = MemoryLedger(broken=True)
    async with world(tmp_path, ledger=ledger, budgets=BUDGET) as w:
        status, headers, body = await w.chat()
        assert (status, json.loads(body)["error"]["code"]) == (503, "ledger_unavailable")
        assert headers["Retry-After"] == "5"
        assert w.stub.requests == ledger.closed == []
        assert w.used() == 0
        ledger.broken = False
        assert (await w.chat())[0] == 200


async def test_turns_are_written_to_the_real_ledger(tmp_path: Path) -> None:
    """Opened and closed durably: none is lost, and the ledger's sums are the budget's."""
    limits = {
        "batch_turns": 16,
        "waiting_turns": 64,
        "tail_check_records": 10,
        "scrub_records_per_second": 10,
    }
    config = structs.replace(load().ledger, payloads="kept", **limits)
    ledger = await Ledger.open(tmp_path / "ledger.db", config, ManualClock(), "boot")
    async with world(tmp_path, ledger=ledger, budgets=BUDGET) as w:
        answers = await asyncio.gather(*(w.chat(stream=bool(n % 2)) for n in range(6)))
        assert {status for status, _, _ in answers} == {200}
        await w.gateway.stop()
        totals = await ledger.totals()
        assert (totals["writer"].turns, totals["writer"].charged_tokens, w.used()) == (6, 72, 72)
        assert {spend.tokens for spend in await ledger.spending_since(0)} == {12}
        await ledger.close()


async def test_bodies_that_cannot_be_read(tmp_path: Path) -> None:
    """Malformed, for no model we have, too large by header or by count: refused with the place."""
    async with world(tmp_path, config=gateway_config(max_body_bytes=1_000)) as w:

        async def ask(data) -> tuple[int, str]:
            async with w.http.post(
                w.url + "/v1/chat/completions", data=data, headers=w.headers()
            ) as response:
                return response.status, (await response.json())["error"]["message"]

        async def chunks():
            for _ in range(20):
                yield b" " * 100

        assert await ask(b'{"model":"tiny",}') == (
            400,
            "the body is not valid JSON: Expecting property name enclosed in double quotes: line 1 column 17 (char 16)",
        )
        assert (await ask(b" " * 1_001))[0] == 413
        assert (await ask(chunks()))[0] == 413
        assert (await ask(b'{"model":"tiny","messages":[],"max_tokens":"x"}'))[0] == 400
        assert w.ledger.opened == []


async def test_a_model_nobody_serves_is_named_with_what_is_served(tmp_path: Path) -> None:
    """404, in words that lead to the configuration."""
    upstreams = {
        "one": UpstreamConfig(url="http://127.0.0.1:9", dialects=("openai",), models=("llama*", "qwen?"))
    }
    async with world(tmp_path, upstreams=upstreams) as w:
        status, _, body = await w.chat(model="gpt-9")
        error = json.loads(body)["error"]
        assert (status, error["code"]) == (404, "model_not_found")
        assert "'gpt-9'" in error["message"]
        assert "llama*, qwen?" in error["message"]
        assert (await w.post("/api/chat", model="llama3"))[0] == 404


async def test_a_dead_upstream_costs_nothing(tmp_path: Path) -> None:
    """502 naming it, the turn closed as failed at no charge."""
    upstreams = {"dead": UpstreamConfig(url="http://127.0.0.1:9", dialects=("openai",))}
    async with world(tmp_path, upstreams=upstreams, budgets=BUDGET) as w:
        status, headers, body = await w.chat()
        assert (status, json.loads(body)["error"]["code"]) == (502, "upstream_error")
        [closed] = await w.closings(1)
        assert (closed.outcome, closed.charged_tokens, closed.http_status) == (Outcome.FAILED, 0, 0)
        assert headers["x-epad-turn"] == closed.turn
        assert "dead cannot be reached" in closed.reason
        assert w.used() == 0
        assert w.recorder.refusals == []


@pytest.mark.parametrize(("status", "charged"), [(400, 0), (429, 0), (503, 0), (500, "all"), (504, "all")])
async def test_an_upstreams_error_passes_and_is_charged_by_what_it_may_have_cost(
    tmp_path: Path, status: int, charged: object
) -> None:
    """Refused before any work is free; failed in the middle of it is unknown, so the whole reservation."""
    async with world(tmp_path, budgets=BUDGET) as w:
        w.stub.status = status
        got, _, body = await w.chat()
        assert (got, json.loads(body)) == (status, {"error": {"message": "boom"}})
        [closed] = await w.closings(1)
        expected = w.ledger.opened[0].reserved_tokens if charged == "all" else 0
        assert (closed.outcome, closed.charged_tokens, w.used()) == (Outcome.FAILED, expected, expected)


async def test_an_upstream_that_does_not_know_epad_is_epads_trouble(tmp_path: Path) -> None:
    """A client told 401 would doubt its own key."""
    async with world(tmp_path) as w:
        w.stub.status = 401
        status, _, body = await w.chat()
        assert status == 502
        assert "api_key_file" in json.loads(body)["error"]["message"]


async def test_an_answer_without_usage_costs_the_reservation(tmp_path: Path) -> None:
    """Unknown is not nothing; and a usage of zero is not unknown, where nothing was said."""
    async with world(tmp_path, budgets=BUDGET) as w:
        w.stub.gives_usage = False
        await w.chat(max_tokens=30)
        w.stub.gives_usage, w.stub.input_tokens, w.stub.output_tokens = True, 0, 0
        await w.chat(max_tokens=30)
        w.stub.words = []
        await w.chat(max_tokens=30)
        unknown, belied, zero = await w.closings(3)
        assert belied.charged_tokens == unknown.charged_tokens
        assert unknown.usage_source is UsageSource.RESERVED
        assert unknown.charged_tokens == w.ledger.opened[0].reserved_tokens
        assert (zero.usage_source, zero.charged_tokens) == (UsageSource.USAGE, 0)


async def test_the_list_of_models_is_what_is_routed(tmp_path: Path) -> None:
    """In both dialects' shapes, without a turn; a dead upstream takes nothing from the living."""
    async with world(tmp_path) as w:
        async with w.http.get(w.url + "/v1/models", headers=w.headers()) as response:
            assert (await response.json())["data"][0]["id"] == "tiny"
        async with w.http.get(w.url + "/api/tags", headers=w.headers()) as response:
            assert (await response.json())["models"][0]["name"] == "tiny:latest"
        base = w.gateway._parts.upstreams.of("openai")[0].base
        directory = tmp_path / "second"
        directory.mkdir()
        upstreams = {
            "dead": UpstreamConfig(url="http://127.0.0.1:9", dialects=("openai",), models=("other",)),
            "stub": UpstreamConfig(url=base, dialects=("openai",), models=("ti*",)),
        }
        async with (
            world(directory, upstreams=upstreams) as second,
            second.http.get(second.url + "/v1/models", headers=second.headers()) as response,
        ):
            assert [entry["id"] for entry in (await response.json())["data"]] == ["tiny"]
        assert w.ledger.opened == []


async def test_a_large_body_with_expect_is_asked_for_before_it_is_sent(tmp_path: Path) -> None:
    """Curl waits for 100 Continue; a refusal spares it the upload."""
    async with world(tmp_path) as w:
        body = json.dumps({"model": "tiny", "messages": [{"role": "user", "content": "x" * 5_000}]}).encode()
        async with w.http.post(
            w.url + "/v1/chat/completions", data=body, headers=w.headers(), expect100=True
        ) as response:
            assert response.status == 200


async def test_the_port_is_kept_over_a_restart(tmp_path: Path) -> None:
    """Children know the address from their environment; a taken port is not a reason to stay down."""
    async with world(tmp_path) as w:
        port = int(w.url.rpartition(":")[2])
        (tmp_path / "second").mkdir()
        async with world(tmp_path / "second") as other:
            free = int(other.url.rpartition(":")[2])
            await other.gateway.stop()
            assert (await other.gateway.start(free))[1] == free
            await other.gateway.stop()
            assert (await other.gateway.start(port))[1] not in {0, port}


async def test_budget_series_follow_the_budget(tmp_path: Path) -> None:
    """What `show_series` sets is what is spent."""
    async with world(tmp_path, budgets=BUDGET) as w:
        await w.chat()
        w.gateway.show_series()
        text = w.metrics.render().decode()
        assert 'epad_token_budget_used_tokens{subsystem="writer",window="tokens_per_minute"} 12.0' in text
        assert (
            'epad_token_budget_limit_tokens{subsystem="writer",window="tokens_per_minute"} 100000.0' in text
        )


async def test_budget_series_of_what_is_configured_no_more_are_taken_away(tmp_path: Path) -> None:
    """Once, asking after a removed subsystem's turns broke every scrape, and a lifted limit alerted for ever."""
    both = {name: BudgetConfig(tokens_per_day=9, tokens_per_minute=9) for name in ("writer", "reader")}
    async with world(tmp_path, budgets=both) as w:
        w.gateway.show_series()
        assert 'epad_turns_in_flight{subsystem="reader"} 0.0' in w.metrics.render().decode()
        w.budgets.configure({"writer": BudgetConfig(tokens_per_day=9), "poet": BudgetConfig()}, 256)
        w.gateway.show_series()
        text = w.metrics.render().decode()
        assert 'epad_turns_in_flight{subsystem="poet"} 0.0' in text
        assert 'subsystem="reader",window' not in text
        assert 'epad_turns_in_flight{subsystem="reader"}' not in text
        assert 'epad_token_budget_limit_tokens{subsystem="writer",window="tokens_per_day"} 9.0' in text
        assert "tokens_per_minute" not in text
