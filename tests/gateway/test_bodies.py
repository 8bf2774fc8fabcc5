"""Bodies count from their first byte on: against their subsystem, against all, and given back however they end."""

from __future__ import annotations

import asyncio
import gc
import json
import threading
import weakref
from pathlib import Path
from typing import Any, cast

import pytest
from gateway_world import StubUpstream, World, gateway_config, serving, world
from hypothesis import given
from hypothesis import strategies as st
from patience import until

from epad.configuration.schema import BudgetConfig, UpstreamConfig
from epad.gateway.bodies import Bodies, BodyAllowance
from epad.gateway.http import request as http_request
from epad.gateway.http.message import Response
from epad.gateway.http.request import Request
from epad.gateway.limits import Refused
from epad.gateway.prompts import MOST_BYTES_A_TOKEN
from epad.gateway.refusal import RefusalError

PATH = "/v1/chat/completions"
BODY = json.dumps({"model": "tiny", "messages": [{"role": "user", "content": "x" * 30_000}]}).encode()


def say(request: Request, owner: str, error: RefusalError) -> Response:
    del request, owner
    return Response(error.refusal.status, error.refusal.code.encode())


@given(st.lists(st.tuples(st.sampled_from("ab"), st.integers(0, 40), st.integers(0, 3)), max_size=40))
def test_what_is_held_is_what_came_and_is_within_the_bounds(steps: list[tuple[str, int, int]]) -> None:
    """Whatever comes, goes or is refused in between; in the end nothing is held."""
    bodies = Bodies(150, 100, say, lambda: None)
    live: list[BodyAllowance] = []
    request = object.__new__(Request)
    for owner, size, what in steps:
        if what == 0 and live:
            live.pop(size % len(live)).give_back()
        elif what == 1:
            try:
                live.append(bodies.allow(owner, size, 0, None))
            except RefusalError:
                assert bodies.held.get(owner, 0) + size > 100 or bodies.in_all + size > 150
        elif live:
            one, before = live[size % len(live)], bodies.in_all
            refused = one.take(request, size)
            assert bodies.in_all == before + (0 if refused else size)
        assert bodies.in_all == sum(bodies.held.values()) <= 150
        assert max(bodies.held.values(), default=0) <= 100
    for each in live:
        each.give_back()
        each.give_back()
    assert (bodies.in_all, sum(bodies.coming.values())) == (0, 0)


def test_no_more_come_at_once_than_may_be_in_flight_and_a_few() -> None:
    """One that is whole, or gone, makes room."""
    bodies = Bodies(100, 100, say, lambda: None)
    coming = [bodies.allow("a", 0, 2, None) for _ in range(10)]
    with pytest.raises(RefusalError) as refused:
        bodies.allow("a", 0, 2, None)
    assert (refused.value.refusal.status, refused.value.refusal.code) == (429, "too_many_bodies")
    bodies.allow("b", 0, 2, None)
    coming[0].whole()
    bodies.allow("a", 0, 2, None)


def test_what_is_longer_than_any_budget_is_refused_by_its_length_or_as_it_comes() -> None:
    """The refusal names the scope, the limit and what was asked."""
    bodies = Bodies(10_000, 10_000, say, lambda: None)
    largest = Refused("group:g", "tokens_per_day", 50, 7, 0, 0.0, True)
    most = 50 * MOST_BYTES_A_TOKEN
    with pytest.raises(RefusalError) as refused:
        bodies.allow("a", most + 1, 0, largest)
    assert refused.value.refused == Refused("group:g", "tokens_per_day", 50, 7, most + 1, 0.0, True)
    chunked = bodies.allow("a", 0, 0, largest)
    request = object.__new__(Request)
    assert chunked.take(request, most) is None
    answer = chunked.take(request, 1)
    assert answer is not None
    assert (answer.status, answer.body) == (400, b"request_exceeds_budget")


def head(w: World, length: int | None, name: str = "writer") -> bytes:
    framing = b"Transfer-Encoding: chunked" if length is None else b"Content-Length: %d" % length
    return (
        f"POST {PATH} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {w.keys[name]}\r\n".encode()
        + framing
        + b"\r\n\r\n"
    )


async def begin(w: World, data: bytes) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    host, _, port = w.url.removeprefix("http://").rpartition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(data)
    return reader, writer


LIMITED = gateway_config(max_body_bytes=40_000, subsystem_bodies_bytes=40_000)
BUDGETS = {"writer": BudgetConfig(), "reader": BudgetConfig()}


async def test_unfinished_bodies_are_held_up_to_a_bound_and_freed_when_they_go(tmp_path: Path) -> None:
    """The next is told to wait, at once; another subsystem is served; when they are gone there is room again."""
    async with world(tmp_path, config=LIMITED, budgets=BUDGETS) as w:
        bodies = w.gateway.path._bodies
        _, first = await begin(w, head(w, 30_000) + b"x" * 29_000)
        await until(lambda: bodies.in_all == 29_000, "the first body")
        reader, second = await begin(w, head(w, 30_000))
        answer = await reader.read(4_000)
        assert answer.startswith(b"HTTP/1.1 429 ")
        assert b"bodies_too_large" in answer
        reader, third = await begin(w, head(w, None) + b"4000\r\n" + b"y" * 0x4000)
        assert b"bodies_too_large" in await reader.read(4_000)
        reader, other = await begin(w, head(w, len(BODY), "reader") + BODY)
        assert (await reader.read(20)).startswith(b"HTTP/1.1 200")
        for each in (first, second, third, other):
            each.close()
        await until(lambda: not bodies.in_all and not sum(bodies.coming.values()), "what was held")
        reader, last = await begin(w, head(w, len(BODY)) + BODY)
        assert (await reader.read(20)).startswith(b"HTTP/1.1 200")
        last.close()


@pytest.mark.parametrize("context_tokens", [0, 1_000])
async def test_a_body_that_no_budget_pays_is_refused_before_it_comes(
    tmp_path: Path, context_tokens: int
) -> None:
    """From its length alone, unless the model's context bounds the prompt: then the length says nothing."""
    budgets = {"writer": BudgetConfig(tokens_per_hour=len(BODY) // MOST_BYTES_A_TOKEN - 1)}
    async with serving(StubUpstream()) as base:
        upstreams = {"stub": UpstreamConfig(url=base, dialects=("openai",), context_tokens=context_tokens)}
        async with world(tmp_path, budgets=budgets, upstreams=upstreams) as w:
            reader, writer = await begin(w, head(w, len(BODY)))
            if context_tokens:
                writer.write(BODY)
                assert (await reader.read(20)).startswith(b"HTTP/1.1 200")
            else:
                answer = await reader.read(4_000)
                assert answer.startswith(b"HTTP/1.1 400 ")
                assert b"request_exceeds_budget" in answer
            writer.close()


@given(st.lists(st.binary(max_size=9), max_size=40))
def test_a_body_is_put_together_from_blocks(pieces: list[bytes]) -> None:
    """In whatever pieces it comes."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(http_request, "_BLOCK_BYTES", 20)
        request = Request(cast("Any", None), b"POST", b"/", [])
        for piece in pieces:
            request.take(piece)
        assert request.body == b"".join(pieces) == request.body
        assert request.size == len(request.body)


async def test_a_large_body_is_read_beside_the_loop_and_forwarded_as_it_came(tmp_path: Path) -> None:
    """It arrives whole."""
    text = json.dumps(
        {"model": "tiny", "max_tokens": 5, "messages": [{"role": "user", "content": "x" * (900_000)}]}
    )
    async with world(tmp_path, budgets={"writer": BudgetConfig()}) as w:
        reader, writer = await begin(w, head(w, len(text)) + text.encode())
        assert (await reader.read(20)).startswith(b"HTTP/1.1 200")
        assert w.stub.requests[0]["messages"][0]["content"] == "x" * (900_000)
        assert any(thread.name.startswith("intake") for thread in threading.enumerate())
        writer.close()


async def test_a_request_that_is_gone_leaves_no_ring(tmp_path: Path) -> None:
    """What a request held is freed at once, with the collector turned off: 30 MiB are not to wait for it."""
    async with world(tmp_path, budgets=BUDGETS) as w:
        connections = w.gateway._server.shared.connections
        gc.collect()
        gc.disable()
        try:
            _, writer = await begin(w, head(w, 30_000) + b"x" * 100)
            await until(lambda: any(each.busy for each in connections), "the request")
            gone = weakref.ref(next(each for each in connections if each.busy))
            writer.close()
            await until(lambda: gone() is None, "the connection to be freed")
        finally:
            gc.enable()
