"""What a server says of its own usage is believed only upward; without a final count the bound is charged."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from raw_bytes import (
    BUDGET,
    CHAT,
    DEFAULT_CAP,
    JSON,
    NDJSON,
    RawServer,
    before,
    chunks,
    cost_of,
    end,
    event,
    hang_up_after,
    message,
    piece,
)

from epad.configuration.schema import BudgetConfig
from statemachine.finding import Severity

WORD = "word " * 40
ZERO = {"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0}
GOOD = {"prompt_tokens": 3, "completion_tokens": 2}


@pytest.mark.parametrize(
    "usage",
    [
        None,
        {},
        ZERO,
        {"prompt_tokens": 7, "completion_tokens": 0},
        {"completion_tokens": 1},
        {"total_tokens": 4},
    ],
)
@pytest.mark.parametrize("server", ["generic", "vllm"])
async def test_who_hangs_up_pays_the_bound_whatever_was_counted_by_then(
    tmp_path: Path, usage: Any, server: str
) -> None:
    """All that was reserved; or the bytes that came, where the server shows all that it makes."""
    raw = RawServer(
        [chunks({**piece(content=WORD), "usage": usage}, done=False)] * 10, then="hang", pause=0.01
    )
    async with before(tmp_path, raw, server=server) as w:
        await hang_up_after(w, 1_500, max_tokens=4_000)
        [closed] = await w.closings(1)
        output = closed.charged_tokens - closed.input_tokens
        assert closed.outcome.value == "cut"
        least, most = (4_000, 4_000) if server == "generic" else (400, 10 * len(WORD))
        assert least <= output <= most


async def test_a_count_of_zero_on_ollamas_last_line_is_none(tmp_path: Path) -> None:
    """The same in another dialect; and an answer in one piece."""
    lines = [
        {"message": {"content": "hi"}, "done": False},
        {"done": True, "prompt_eval_count": 4, "eval_count": 0},
    ]
    raw = RawServer([b"".join(json.dumps(line).encode() + b"\n" for line in lines)], NDJSON)
    async with before(tmp_path, raw) as w:
        assert await cost_of(w, "/api/chat") == ("done", 4, DEFAULT_CAP)


@pytest.mark.parametrize("usage", [ZERO, {}, None, [], "5", {"completion_tokens": True}])
async def test_no_count_of_a_whole_answer_costs_the_reservation(tmp_path: Path, usage: Any) -> None:
    """Zero beside a text is no count."""
    async with before(tmp_path, RawServer([message(usage)], JSON)) as w:
        await w.chat()
        [closed] = await w.closings(1)
        assert closed.charged_tokens == w.ledger.opened[0].reserved_tokens


async def test_a_hard_budget_holds_against_who_always_hangs_up(tmp_path: Path) -> None:
    """Each reads 3,000 bytes: three such answers are all that 1,500 tokens can pay."""
    raw = RawServer(
        [chunks({**piece(content=WORD), "usage": ZERO}, done=False)] * 20, then="hang", pause=0.005
    )
    budgets = {**BUDGET, "writer": BudgetConfig(tokens_per_minute=1_500)}
    async with before(tmp_path, raw, budgets) as w:
        for _ in range(8):
            await hang_up_after(w, 3_000, max_tokens=1_000)
            await asyncio.sleep(0.02)
        assert len(raw.requests) <= 3


REASONED = {"completion_tokens_details": {"reasoning_tokens": 94}}


@pytest.mark.parametrize(
    ("usage", "output"),
    [
        ({"prompt_tokens": 32, "completion_tokens": 9, "total_tokens": 135, **REASONED}, 103),
        ({"prompt_tokens": 32, "completion_tokens": 9, **REASONED}, 103),
        ({"prompt_tokens": 32, "completion_tokens": 100, "total_tokens": 132, **REASONED}, 100),
        ({"prompt_tokens": 32, "total_tokens": 40}, 8),
        ({"prompt_tokens": 32, "completion_tokens": 9, "total_tokens": 12}, 9),
        ({"completion_tokens": 9, "total_tokens": 41}, 9),
    ],
)
@pytest.mark.parametrize("stream", [False, True])
async def test_a_total_counts_what_its_parts_do_not(
    tmp_path: Path, usage: Any, output: int, stream: bool
) -> None:
    """Reasoning beside the output; a part that is missing; one that is smaller says nothing."""
    said = [chunks(piece(content="hi"), end(), {"choices": [], "usage": usage})]
    raw = RawServer(said) if stream else RawServer([message(usage)], JSON)
    async with before(tmp_path, raw) as w:
        assert await cost_of(w, stream=stream) == ("done", 32, output)


async def test_a_total_alone_is_all_that_is_charged(tmp_path: Path) -> None:
    """How much of it was input is not known, and makes no difference to tokens."""
    async with before(tmp_path, RawServer([message({"total_tokens": 41})], JSON)) as w:
        await w.chat()
        [closed] = await w.closings(1)
        assert closed.charged_tokens == 41


async def test_reasoning_beside_the_output_counts_in_responses(tmp_path: Path) -> None:
    """Under that route's own names."""
    usage = {
        "input_tokens": 5,
        "output_tokens": 1,
        "total_tokens": 26,
        "output_tokens_details": {"reasoning_tokens": 20},
    }
    said = [{"type": "message", "content": [{"type": "output_text", "text": "x"}]}]
    whole = {"object": "response", "status": "completed", "output": said, "usage": usage}
    async with before(tmp_path, RawServer([json.dumps(whole).encode()], JSON)) as w:
        assert await cost_of(w, "/v1/responses", input="x") == ("done", 5, 21)


def anthropic(start: Any, last: Any) -> RawServer:
    """A stream of messages with these two counts."""
    return RawServer([
        event("message_start", message={"id": "m", "role": "assistant", "content": [], "usage": start})
        + event("content_block_delta", index=0, delta={"type": "text_delta", "text": "hi"})
        + event("message_delta", delta={"stop_reason": "end_turn"}, usage=last)
        + event("message_stop")
    ])  # fmt: skip


@pytest.mark.parametrize(
    ("start", "last", "cost"),
    [
        ({"input_tokens": 15, "output_tokens": 1}, {"input_tokens": 0, "output_tokens": 5}, (15, 5)),
        (
            {"input_tokens": 15, "cache_read_input_tokens": 40, "output_tokens": 1},
            {
                "input_tokens": 0,
                "cache_read_input_tokens": 0,
                "cache_creation_input_tokens": 0,
                "output_tokens": 5,
            },
            (55, 5),
        ),
        ({"input_tokens": 15, "output_tokens": 9}, {"output_tokens": 5}, (15, 9)),
        ({"input_tokens": 15, "output_tokens": 1}, {"output_tokens": 0}, (15, 50)),
        ({"input_tokens": 15, "output_tokens": 1}, None, (15, 50)),
        ({"input_tokens": 0, "output_tokens": 0}, {"input_tokens": 11, "output_tokens": 5}, (11, 5)),
    ],
)
async def test_a_count_never_falls(tmp_path: Path, start: Any, last: Any, cost: tuple[int, int]) -> None:
    """The largest of each counts; an output of 0 after a text is no count."""
    async with before(tmp_path, anthropic(start, last)) as w:
        assert await cost_of(w, "/v1/messages", stream=True, max_tokens=50) == ("done", *cost)


@pytest.mark.parametrize("fields", [(20, 5), (20, 12)])
async def test_a_final_count_below_an_earlier_one_is_none(tmp_path: Path, fields: tuple[int, int]) -> None:
    """Twenty were counted by then; the last count says fewer, so that nobody knows how many there were."""
    first, last = ({"prompt_tokens": 3, "completion_tokens": n} for n in fields)
    said = chunks({**piece(content="a b"), "usage": first}, end(), {"choices": [], "usage": last})
    async with before(tmp_path, RawServer([said])) as w:
        assert await cost_of(w, stream=True) == ("done", 3, DEFAULT_CAP)


async def test_a_zero_after_a_count_takes_nothing_back(tmp_path: Path) -> None:
    """It is no count, so the one before it is of all that was said."""
    said = chunks({**piece(content="a b"), "usage": GOOD}, end(), {"choices": [], "usage": ZERO})
    async with before(tmp_path, RawServer([said])) as w:
        assert await cost_of(w, stream=True) == ("done", 3, 2)


async def test_what_comes_after_a_count_makes_it_no_final_one(tmp_path: Path) -> None:
    """The count is of what came before."""
    said = chunks({**piece(content="a"), "usage": GOOD}, piece(content="b" * 30), end())
    async with before(tmp_path, RawServer([said]), server="vllm") as w:
        assert await cost_of(w, stream=True) == ("done", 3, 31)


@pytest.mark.parametrize(
    "odd",
    [
        {"completion_tokens_details": {"reasoning_tokens": -1}}, {"completion_tokens_details": "none"},
        {"prompt_tokens_details": []}, {"prompt_tokens_details": None},
        {"prompt_tokens_details": {"cached_tokens": "0"}},
        {"prompt_tokens_details": {"cached_tokens": 1e30}}, {"prompt_tokens": 3.0, "completion_tokens": 2.0},
        {"completion_tokens_details": {"reasoning_tokens": float("nan")}}, {"total_tokens": None},
        {"total_tokens": "9"},
    ],
)  # fmt: skip
@pytest.mark.parametrize("stream", [False, True])
async def test_one_odd_detail_costs_that_detail(tmp_path: Path, odd: Any, stream: bool) -> None:
    """Each number is read for itself."""
    usage = {**GOOD, **odd}
    said = RawServer([chunks(piece(content="hi"), end(), {"choices": [], "usage": usage})])
    async with before(tmp_path, said if stream else RawServer([message(usage)], JSON)) as w:
        assert await cost_of(w, stream=stream) == ("done", 3, 2)


async def test_an_error_beside_an_odd_detail_is_seen(tmp_path: Path) -> None:
    """The chunk is read field by field, not as a whole or not at all."""
    said = chunks(
        piece(content="hi"), {"error": {"message": "x"}, "usage": {"prompt_tokens_details": []}, "choices": 5}
    )
    async with before(tmp_path, RawServer([said])) as w:
        assert (await cost_of(w, stream=True))[0] == "failed"


@pytest.mark.parametrize("more", [{}, {"usage": ZERO}, {"usage": None}, {"usage": {"completion_tokens": 1}}])
async def test_a_stream_is_cut_at_its_cap_whatever_it_counts(tmp_path: Path, more: Any) -> None:
    """Chunks count beside the server's own count, not instead of it; and all that came is charged."""
    raw = RawServer([chunks({**piece(content="w"), **more}, done=False)] * 400 + [chunks(end())], pause=0.001)
    async with before(tmp_path, raw) as w:
        outcome, _, output = await cost_of(w, stream=True, max_tokens=20)
        assert outcome == "cut"
        assert 20 <= output < 200


async def test_a_stream_is_cut_at_its_cap_in_ollamas_lines(tmp_path: Path) -> None:
    """With a count of 0 in every line."""
    line = json.dumps({"message": {"content": "w"}, "done": False, "eval_count": 0}).encode() + b"\n"
    async with before(tmp_path, RawServer([line] * 400, NDJSON, pause=0.001)) as w:
        outcome, _, output = await cost_of(w, "/api/chat", stream=True, options={"num_predict": 20})
        assert outcome == "cut"
        assert 20 <= output < 200


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("server", "texts", "output"),
    [
        ("vllm", ("hello there", "hello you"), 5),
        ("llama.cpp", ("hello there", "hello you"), 5 + len("hello there")),
        ("generic", ("hello there", "hello you"), 5 + len("hello there")),
        ("llama.cpp", ("hi", "ho"), 5 + DEFAULT_CAP),
        ("llama.cpp", ("hello there", "x" * 3_000), 5 + DEFAULT_CAP),
        ("llama.cpp", ("hello there",), 5),
    ],
)
async def test_every_choice_is_charged_where_one_is_counted(
    tmp_path: Path, server: str, texts: tuple[str, ...], output: int, stream: bool
) -> None:
    """By the bytes of the others, each at most its cap; by the cap where more was made than is seen."""
    usage = {"prompt_tokens": 3, "completion_tokens": 5}
    said = [chunks(*(piece(n, content=t) for n, t in enumerate(texts)), *(end(n) for n in range(len(texts))),
                   {"choices": [], "usage": usage})]  # fmt: skip
    raw = RawServer(said) if stream else RawServer([message(usage, *texts)], JSON)
    async with before(tmp_path, raw, server=server) as w:
        assert await cost_of(w, stream=stream, n=2) == ("done", 3, output)


@pytest.mark.parametrize("count", ["1e30", "-5", "NaN", "Infinity", "1" + "0" * 60, "5e9"])
@pytest.mark.parametrize("stream", [False, True])
async def test_an_absurd_count_costs_the_reservation_and_is_told(
    tmp_path: Path, count: str, stream: bool
) -> None:
    """The turn is closed, the budget whole, and the upstream named, not the client."""
    usage = b'"usage":{"prompt_tokens":3,"completion_tokens":' + count.encode() + b"}}"
    start = chunks(piece(content="hi"), end(), done=False)
    raw = RawServer([start + b'data: {"choices":[],' + usage + b"\n\ndata: [DONE]\n\n"])
    if not stream:
        raw = RawServer([message(None).removesuffix(b'"usage": null}') + usage], JSON)
    async with before(tmp_path, raw) as w:
        told: list[Any] = []
        w.gateway._turns._parts = replace(w.gateway._turns._parts, alarm=told.append)
        await w.chat(stream=stream)
        [closed] = await w.closings(1)
        assert closed.charged_tokens == w.ledger.opened[0].reserved_tokens
        [finding] = told
        assert (finding.subsystem, finding.severity) == ("host", Severity.WARNING)
        assert (finding.evidence["upstream"], finding.evidence["field"]) == ("raw", "completion_tokens")


async def test_nothing_said_and_nothing_counted_is_nothing(tmp_path: Path) -> None:
    """A count of 0 is one where no text came."""
    async with before(tmp_path, RawServer([chunks(end(), {"choices": [], "usage": ZERO})])) as w:
        assert await cost_of(w, CHAT, stream=True) == ("done", 0, 0)


@pytest.mark.parametrize(
    ("server", "said", "cap"),
    [
        ("vllm", {}, 16),
        ("openai", {}, 16),
        ("vllm", {"max_tokens": None}, DEFAULT_CAP),
        ("vllm", {"max_tokens": 40}, 40),
        ("llama.cpp", {}, DEFAULT_CAP),
        ("generic", {}, DEFAULT_CAP),
    ],
)
async def test_a_completion_without_a_cap_gets_its_servers_own_default(
    tmp_path: Path, server: str, said: dict[str, Any], cap: int
) -> None:
    """OpenAI's reference and vLLM's request both say 16; a null is what a client says who wants all that fits."""
    raw = RawServer([b'{"choices":[{"index":0,"text":"a","finish_reason":"stop"}]}'], JSON)
    async with before(tmp_path, raw, server=server) as w:
        body = {"model": "tiny", "prompt": "x", **said}
        async with w.http.post(w.url + "/v1/completions", json=body, headers=w.headers()) as answer:
            assert answer.status == 200
    [asked] = raw.requests
    assert {asked.get(name) for name in ("max_tokens", "n_predict")} - {None} == {cap}
