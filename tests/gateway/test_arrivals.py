"""A request's way to its upstream, before a server of exact bytes: names, fields, caps, objections."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from gateway_world import World, gateway_config, world
from raw_bytes import DEFAULT_CAP, JSON, RawServer, before, chunks, end, listening, message, piece

from epad.configuration.schema import BudgetConfig, UpstreamConfig
from epad.configuration.server_kinds import CHAT, MESSAGES, OLLAMA_CHAT, OLLAMA_GENERATE, RESPONSES, TEXT
from epad.gateway import objections
from epad.gateway.arrivals import _beside

GOOD = message({"prompt_tokens": 3, "completion_tokens": 2}, "hi")
STREAM = chunks(piece(content="hi"), end())
GENERATED = {"text": "hi"}


def error(text: str, status: int = 400, **more: object) -> tuple[int, bytes]:
    return status, json.dumps({"error": {"message": text, **more}}).encode()


def unsupported(name: str, other: str = "") -> tuple[int, bytes]:
    return error(
        f"Unsupported parameter: '{name}' is not supported with this model. Use '{other}' instead.",
        param=name,
    )


def forbidden(name: str) -> tuple[int, bytes]:
    return 422, json.dumps(
        {"detail": [{"type": "extra_forbidden", "loc": ["body", name], "input": {"a": 1}}]}
    ).encode()


def as_gpt5(ask: dict[str, Any]) -> tuple[int, bytes] | None:
    return unsupported("max_tokens", "max_completion_tokens") if "max_tokens" in ask else None


def as_vllm(context: int, prompt: int = 30) -> Any:
    """Be vLLM with a model of so much context, of whose prompts each has so many tokens."""

    def refuse(ask: dict[str, Any]) -> tuple[int, bytes] | None:
        cap = ask.get("max_tokens") or ask.get("max_completion_tokens") or ask.get("max_output_tokens") or 0
        if cap + prompt <= context:
            return None
        return error(
            f"'max_tokens' or 'max_completion_tokens' is too large: {cap}. This model's maximum context length is "
            f"{context} tokens and your request has {prompt} input tokens ({cap} > {context} - {prompt})."
        )

    return refuse


def server(refuse: Any = None, **more: Any) -> RawServer:
    made = RawServer([GOOD], JSON, **more)
    if refuse is not None:
        made.refuse = refuse
    return made


class TestObjections:
    async def test_the_other_name_is_remembered_for_the_model_and_for_no_other(self, tmp_path: Path) -> None:
        raw = server(lambda ask: as_gpt5(ask) if ask["model"] == "gpt-5" else None)
        async with before(tmp_path, raw) as w:
            for model in ("gpt-5", "gpt-5", "old"):
                status, _, body = await w.chat(model=model)
                assert status == 200, body
        names = [[n for n in ("max_tokens", "max_completion_tokens") if n in ask] for ask in raw.requests]
        assert names == [["max_tokens"], ["max_completion_tokens"], ["max_completion_tokens"], ["max_tokens"]]
        assert {ask.get("max_completion_tokens", DEFAULT_CAP) for ask in raw.requests} == {DEFAULT_CAP}

    async def test_it_is_not_taken_for_the_name_on_another_route(self, tmp_path: Path) -> None:
        raw = server(lambda ask: as_gpt5(ask) if "messages" in ask else None)
        async with before(tmp_path, raw) as w:
            await w.chat()
            async with w.http.post(w.url + TEXT, json={"model": "tiny", "prompt": "x"}, headers=w.headers()):
                assert raw.requests[-1]["max_tokens"] == DEFAULT_CAP

    @pytest.mark.parametrize("nothing", [{"max_tokens": None}, {"stream_options": None}])
    async def test_null_is_no_word_of_the_clients(self, tmp_path: Path, nothing: dict[str, Any]) -> None:
        def strict(ask: dict[str, Any]) -> tuple[int, bytes] | None:
            named = [n for n in ("max_tokens", "stream_options") if ask.get(n) is not None]
            return forbidden(named[0]) if named else None

        raw = RawServer([STREAM], refuse=strict)
        async with before(tmp_path, raw) as w:
            status, _, body = await w.chat(stream=True, **nothing)
            assert status == 200, body

    async def test_both_objections_one_after_the_other(self, tmp_path: Path) -> None:
        def strict(ask: dict[str, Any]) -> tuple[int, bytes] | None:
            return as_gpt5(ask) or (forbidden("stream_options") if "stream_options" in ask else None)

        raw = RawServer([STREAM], refuse=strict)
        async with before(tmp_path, raw) as w:
            for _ in range(2):
                status, _, body = await w.chat(stream=True)
                assert (status, b"hi" in body) == (200, True)
        assert len(raw.requests) == 3 + 1, "the second turn begins with what the first has learnt"

    @pytest.mark.parametrize(
        "own",
        [{"max_tokens": 5}, {"max_tokens": 5, "max_completion_tokens": 5}],
    )
    async def test_the_clients_own_name_is_refused_once_and_the_refusal_passes_whole(
        self, tmp_path: Path, own: dict[str, Any]
    ) -> None:
        raw = server(as_gpt5)
        async with before(tmp_path, raw) as w:
            status, _, body = await w.chat(**own)
            assert (status, body) == as_gpt5({"max_tokens": 5})
            assert len(raw.requests) == 1
            assert (await w.closings(1))[-1].charged_tokens == 0

    async def test_who_objects_to_everything_is_asked_a_few_times_and_heard(self, tmp_path: Path) -> None:
        def never(ask: dict[str, Any]) -> tuple[int, bytes]:
            return unsupported(next(n for n in ("max_tokens", "max_completion_tokens") if n in ask))

        raw = server(never)
        async with before(tmp_path, raw) as w:
            status, _, body = await w.chat()
            assert (status, b"Unsupported" in body) == (400, True)
            asked = len(raw.requests)
            assert asked <= 3
            await w.chat()
            assert "max_tokens" in raw.requests[asked], "and nothing of it is remembered"

    async def test_limits_that_shrink_with_every_refusal_come_to_an_end(self, tmp_path: Path) -> None:
        def shrinks(ask: dict[str, Any]) -> tuple[int, bytes]:
            return error(
                f"max_tokens is too large. This model supports at most {ask['max_tokens'] - 1} completion tokens"
            )

        raw = server(shrinks)
        async with before(tmp_path, raw) as w:
            assert (await w.chat())[0] == 400
            assert len(raw.requests) <= 4

    async def test_a_client_cannot_teach_others_by_what_a_refusal_repeats(self, tmp_path: Path) -> None:
        """Many servers send back what they refuse."""

        def echoes(ask: dict[str, Any]) -> tuple[int, bytes] | None:
            return (
                error(f"temperature: unsupported {ask['messages']}")
                if ask.get("temperature") == "hot"
                else None
            )

        lies = "max_tokens unsupported; maximum context length is 17 tokens, 4096 in the completion"
        raw = server(echoes)
        async with before(tmp_path, raw) as w:
            await w.chat(temperature="hot", messages=[{"role": "user", "content": lies}])
            await w.chat("reader")
            assert raw.requests[-1]["max_tokens"] == DEFAULT_CAP
            assert w.ledger.opened[-1].prompt_bound > 50

    @pytest.mark.parametrize("status", [401, 404, 429, 500])
    async def test_other_refusals_are_no_objections(self, tmp_path: Path, status: int) -> None:
        raw = server(lambda ask: (status, unsupported("max_tokens")[1]))
        async with before(tmp_path, raw) as w:
            await w.chat()
            assert len(raw.requests) == 1

    async def test_another_server_behind_the_port_unlearns_it(self, tmp_path: Path) -> None:
        """One that knows only the older name would ignore the newer, and nothing would cap its answers."""
        raw = server(as_gpt5)
        async with before(tmp_path, raw) as w:
            await w.chat()
            raw.refuse = lambda _: None
            (upstream,) = w.gateway._parts.upstreams.all()
            upstream.profile.looked(
                "/v1/models", 200, {"server": "llama.cpp"}, b'{"data":[{"owned_by":"llamacpp"}]}'
            )
            await w.chat()
            assert raw.requests[-1]["max_tokens"] == DEFAULT_CAP

    async def test_a_server_that_takes_the_old_name_again_is_asked_by_it(self, tmp_path: Path) -> None:
        raw = server(as_gpt5)
        async with before(tmp_path, raw) as w:
            await w.chat()
            raw.refuse = lambda ask: (
                forbidden("max_completion_tokens") if "max_completion_tokens" in ask else None
            )
            for _ in range(2):
                status, _, body = await w.chat()
                assert status == 200, body
            assert len(raw.requests) == 2 + 2 + 1


VLLM_MODELS = b'{"data":[{"id":"tiny","owned_by":"vllm","max_model_len":%d}]}'


class TestContext:
    @pytest.mark.parametrize(
        ("path", "field"), [(CHAT, "max_tokens"), (TEXT, "max_tokens"), (RESPONSES, "max_output_tokens")]
    )
    @pytest.mark.parametrize("known", [True, False])
    async def test_a_context_below_the_default_cap_makes_no_request_invalid(
        self, tmp_path: Path, path: str, field: str, known: bool
    ) -> None:
        looks = {"/v1/models": VLLM_MODELS % 600} if known else {}
        raw = server(as_vllm(600), looks=looks)
        async with before(tmp_path, raw) as w:
            if known:
                await _looked(w)
            said = {CHAT: {}, TEXT: {"prompt": "x"}, RESPONSES: {"input": "x"}}[path]
            for _ in range(2):
                status, _, body = await w.post(path, **said)
                assert status == 200, body
        # What vLLM makes of a completion that names no cap is fixed, and fits; of the others it is all that is left.
        least, most = (16, 16) if known and path == TEXT else (256, 570)
        assert least <= raw.requests[-1][field] <= most
        assert len(raw.requests) == (2 if known else 3)

    async def test_a_wish_beyond_the_context_is_cut_by_the_refusal_where_epad_had_cut_it_before(
        self, tmp_path: Path
    ) -> None:
        raw = server(as_vllm(600))
        async with before(tmp_path, raw) as w:
            status, _, body = await w.chat(max_tokens=100_000)
            assert status == 200, body
            assert raw.requests[-1]["max_tokens"] == 570
            assert (await w.chat(max_tokens=700))[0] in {200, 400}

    async def test_a_wish_of_the_clients_own_that_fits_is_not_cut_for_a_bound_of_its_prompt(
        self, tmp_path: Path
    ) -> None:
        raw = server(as_vllm(2_048, prompt=250), looks={"/v1/models": VLLM_MODELS % 2_048})
        async with before(tmp_path, raw) as w:
            await _looked(w)
            text = [{"role": "user", "content": "some " * 250}]
            assert (await w.chat(messages=text, max_tokens=1_500))[0] == 200
            assert raw.requests[-1]["max_tokens"] == 1_500

    async def test_a_limit_of_answers_bounds_no_prompt(self, tmp_path: Path) -> None:
        """OpenAI's models of 128,000 tokens give 4,096 at most: as a context it would hide most of a prompt."""

        def short(ask: dict[str, Any]) -> tuple[int, bytes] | None:
            cap = ask["max_tokens"]
            return (
                error(
                    f"max_tokens is too large: {cap}. This model supports at most 300 completion tokens, whereas you "
                    f"provided {cap}."
                )
                if cap > 300
                else None
            )

        raw = server(short)
        async with before(tmp_path, raw) as w:
            for _ in range(2):
                assert (await w.chat())[0] == 200
            await w.chat(messages=[{"role": "user", "content": "x" * 5_000}])
            assert [ask["max_tokens"] for ask in raw.requests] == [DEFAULT_CAP, 300, 300, 300]
            assert w.ledger.opened[-1].prompt_bound >= 5_000

    async def test_what_is_reserved_is_what_was_first_asked_and_what_is_left_comes_back(
        self, tmp_path: Path
    ) -> None:
        async with before(tmp_path, server(as_vllm(600))) as w:
            await w.chat()
            assert (await w.closings(1))[-1].charged_tokens == 5
            assert w.used() == 5

    @pytest.mark.parametrize(
        ("context", "prompt", "prompts", "wish", "left"),
        [(2_048, 500, 1, None, 1_548), (2_048, 4_000, 20, None, 1_848), (2_048, 3_000, 1, None, 548),
         (2_048, 9_000, 1, None, 1), (2_048, 1_500, 1, 1_000, 1_861)],
    )  # fmt: skip
    async def test_what_a_context_leaves(
        self, tmp_path: Path, context: int, prompt: int, prompts: int, wish: int | None, left: int
    ) -> None:
        class Asked:
            pass

        ask: Any = Asked()
        ask.prompts, ask.wish = prompts, wish
        assert _beside(context, ask, prompt) == left


async def _looked(w: World) -> None:
    for upstream in w.gateway._parts.upstreams.all():
        await w.gateway._parts.upstreams._check._look_on(upstream, "/v1/models", 5.0)


class TestModels:
    async def _ask(self, w: World, **fields: Any) -> tuple[int, bytes]:
        body = {"messages": [{"role": "user", "content": "hello"}], **fields}
        async with w.http.post(w.url + CHAT, json=body, headers=w.headers()) as response:
            return response.status, await response.read()

    @pytest.mark.parametrize("said", [{}, {"model": None}, {"model": ""}])
    async def test_no_name_is_that_of_the_only_model(self, tmp_path: Path, said: dict[str, Any]) -> None:
        raw = server(looks={"/v1/models": b'{"data":[{"id":"only"}]}'})
        async with before(tmp_path, raw) as w:
            await _looked(w)
            assert (await self._ask(w, **said))[0] == 200
            assert w.ledger.opened[-1].model == "only"
            assert raw.requests[-1].get("model") == said.get("model"), "its body is as it came"

    async def test_several_are_told_by_name(self, tmp_path: Path) -> None:
        raw = server(looks={"/v1/models": b'{"data":[{"id":"one"},{"id":"two"}]}'})
        async with before(tmp_path, raw) as w:
            await _looked(w)
            status, body = await self._ask(w)
            assert status == 400
            assert b"one, two" in body
            assert raw.requests == []

    async def test_one_named_in_the_configuration_is_known_without_a_list(self, tmp_path: Path) -> None:
        async with before(tmp_path, server(), models=("mine",)) as w:
            assert (await self._ask(w))[0] == 200
            assert w.ledger.opened[-1].model == "mine"

    async def test_the_only_server_is_asked_where_nothing_lists_what_it_serves(self, tmp_path: Path) -> None:
        async with before(tmp_path, server()) as w:
            assert (await self._ask(w))[0] == 200

    async def test_but_not_where_its_price_would_count(self, tmp_path: Path) -> None:
        budgets = {"writer": BudgetConfig(usd_per_day=1.0), "reader": BudgetConfig()}
        raw = server()
        async with before(tmp_path, raw, budgets) as w:
            status, _ = await self._ask(w)
            assert status in {400, 403}
            assert raw.requests == []

    async def test_nor_where_there_are_two_servers(self, tmp_path: Path) -> None:
        ups = {name: UpstreamConfig(url="http://127.0.0.1:1", dialects=("openai",)) for name in "ab"}
        async with world(tmp_path, upstreams=ups) as w:
            status, body = await self._ask(w)
            assert (status, b"model" in body) == (400, True)


class TestFields:
    """Rows of the hostile read, each by what reached the server."""

    @pytest.mark.parametrize(
        "alias", ["n_predict", "max_new_tokens", "num_predict", "max_length", "max_gen_tokens"]
    )
    async def test_row_1_an_alias_beside_the_cap_is_cut_to_it(self, tmp_path: Path, alias: str) -> None:
        raw = server()
        async with before(tmp_path, raw) as w:
            more: dict[str, Any] = {alias: 10**6}
            assert (await w.chat(max_tokens=5, **more))[0] == 200
            asked = raw.requests[-1]
            assert max(asked["max_tokens"], asked[alias]) <= w.ledger.opened[-1].output_cap

    async def test_row_2_the_newer_name_alone_does_not_go_alone(self, tmp_path: Path) -> None:
        raw = server(looks={"/v1/models": b'{"data":[{"id":"tiny","owned_by":"library"}]}'})
        async with before(tmp_path, raw) as w:
            assert (await w.chat(max_completion_tokens=20))[0] == 200
            assert raw.requests[-1]["max_tokens"] == raw.requests[-1]["max_completion_tokens"] == 20

    async def test_row_12_a_models_own_system_prompt_shuts_nobody_out(self, tmp_path: Path) -> None:
        usage = {"prompt_tokens": 320, "completion_tokens": 2}
        async with before(tmp_path, RawServer([message(usage, "hi")], JSON)) as w:
            for _ in range(3):
                assert (await w.chat(max_tokens=5))[0] == 200
            first, second, third = w.ledger.opened
            assert first.prompt_bound < 320 <= second.prompt_bound == third.prompt_bound
            assert w.budgets.overrun("writer") is None

    async def test_and_a_count_that_is_nonsense_still_stops_the_subsystem(self, tmp_path: Path) -> None:
        usage = {"prompt_tokens": 50_000, "completion_tokens": 2}
        async with before(tmp_path, RawServer([message(usage, "hi")], JSON)) as w:
            await w.chat(max_tokens=5)
            assert w.budgets.overrun("writer") is not None

    async def test_nor_does_an_answer_beyond_its_cap_pass_for_a_prompt(self, tmp_path: Path) -> None:
        usage = {"prompt_tokens": 320, "completion_tokens": 4_000}
        async with before(tmp_path, RawServer([message(usage, "hi")], JSON)) as w:
            await w.chat(max_tokens=5)
            assert w.budgets.overrun("writer") is not None

    @pytest.mark.parametrize(
        "fields",
        [{"service_tier": "priority"}, {"models": ["dear"]}, {"tools": [{"type": "web_search"}]},
         {"tools": [{"type": "mcp"}]}, {"tools": [{"type": "browser_search"}]}, {"search_parameters": {"mode": "on"}}],
    )  # fmt: skip
    async def test_row_17_nothing_dearer_reaches_the_server(
        self, tmp_path: Path, fields: dict[str, Any]
    ) -> None:
        raw = server()
        budgets = {"writer": BudgetConfig(usd_per_day=1.0), "reader": BudgetConfig()}
        async with before(tmp_path, raw, budgets, free=True) as w:
            assert (await w.chat(max_tokens=5, **fields))[0] == 400
            assert raw.requests == []

    @pytest.mark.parametrize("path", [OLLAMA_CHAT, OLLAMA_GENERATE])
    @pytest.mark.parametrize("value", [0, -1, "24h", "-5m"])
    async def test_row_18_no_client_says_how_long_a_model_stays(
        self, tmp_path: Path, path: str, value: object
    ) -> None:
        raw = server()
        async with before(tmp_path, raw) as w:
            await w.post(path, prompt="x", keep_alive=value, stream=False)
            assert raw.requests[-1]["keep_alive"] is None
            assert (await w.post(path, prompt="x", options={"num_ctx": 1_048_576}))[0] == 400
            assert len(raw.requests) == 1

    async def test_two_servers_of_one_model_each_get_what_they_may(self, tmp_path: Path) -> None:
        """The first allows the field, the second does not: what fails over is not what the first alone may have."""
        raw = server()
        async with listening(raw) as url:
            ups = {
                "first": UpstreamConfig(
                    url="http://127.0.0.1:1", dialects=("ollama",), fields=("keep_alive",)
                ),
                "second": UpstreamConfig(url=url, dialects=("ollama",)),
            }
            async with world(tmp_path, upstreams=ups) as w:
                await w.post(OLLAMA_CHAT, keep_alive=-1, stream=False)
        assert raw.requests[-1]["keep_alive"] is None

    async def test_unknown_fields_under_a_hard_budget_and_without_one(self, tmp_path: Path) -> None:
        raw = server()
        async with before(tmp_path, raw) as w:
            status, _, body = await w.chat(frobnicate=1)
            assert (status, b"frobnicate" in body, b"[upstreams.raw] fields" in body) == (400, True, True)
            assert (await w.chat("reader", frobnicate=1))[0] == 200
        async with before(tmp_path / "allowed", raw, fields=("frobnicate",)) as w:
            assert (await w.chat(frobnicate=1))[0] == 200

    async def test_scoring_asks_for_a_token_where_none_may_mean_all(self, tmp_path: Path) -> None:
        raw = server()
        fields: dict[str, Any] = {"prompt": "x", "max_tokens": 0, "echo": True}
        async with before(tmp_path, raw) as w:
            await w.post(TEXT, **fields)
            assert raw.requests[-1]["max_tokens"] == 1
        async with before(tmp_path / "vllm", raw, server="vllm") as w:
            await w.post(TEXT, **fields)
            assert raw.requests[-1]["max_tokens"] == 0

    async def test_a_count_of_tokens_costs_none_whatever_is_in_it(self, tmp_path: Path) -> None:
        raw = RawServer([b'{"input_tokens": 9}'], JSON)
        async with before(tmp_path, raw) as w:
            assert (await w.post(f"{MESSAGES}/count_tokens"))[0] == 200
            assert w.ledger.opened[-1].reserved_tokens == 0


def test_every_name_that_is_swapped_is_swapped_back() -> None:
    assert {objections.OTHER_NAME[other] for other in objections.OTHER_NAME.values()} == set(
        objections.OTHER_NAME
    )
    assert gateway_config().unknown_fields == "refuse"
