"""An endpoint whose every fault can be ordered, and a campaign against it."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import json
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from random import Random
from typing import Any

import pytest
from aiohttp import web

from runners.contract import Contract
from runners.model.catalogue import embedded_engines
from runners.model.completion import complete
from runners.model.openai_dialect import plain
from runners.model.request import from_openai
from runners.wargame.endpoint.client import ModelClient, open_session
from runners.wargame.endpoint.endpoint import Endpoint
from runners.wargame.endpoint.pool import Pool
from runners.wargame.engine import detect
from runners.wargame.play.campaign import Campaign, Mission, Schedule
from runners.wargame.play.round import Arena
from runners.wargame.report.count import Report, build
from runners.wargame.scenario.library import load_grammar
from runners.wargame.settings import Limits, Settings
from runners.wargame.store import Store

ENGINES = embedded_engines()
Answer = web.Response | None  # None: as a well model answers
Fault = Callable[[web.Request], Answer | Awaitable[Answer]]
Whole = Callable[[web.Request], web.Response]

LIMITS = Limits(
    connect_seconds=1.0,
    call_seconds=0.3,
    round_seconds=2.0,
    retries=1,
    backoff_seconds=0.001,
    breaker_failures=6,
    pause_first_seconds=0.02,
    pause_max_seconds=0.05,
    pause_limit_seconds=0.3,
)


@dataclass
class World:
    """What the endpoint was asked, and which models are broken how."""

    faults: dict[str, Fault] = field(default_factory=dict)
    asked: list[dict[str, Any]] = field(default_factory=list)
    keys: list[str] = field(default_factory=list)
    url: str = ""
    said: list[dict[str, Any]] = field(default_factory=list)

    async def chat(self, request: web.Request) -> web.StreamResponse:
        """Answer as the embedded model server does, unless a fault was ordered for the model."""
        body = await request.json()
        self.asked.append(body)
        self.keys.append(request.headers.get("Idempotency-Key", ""))
        fault = self.faults.get(body["model"]) or self.faults.get("*")
        if fault is not None:
            answer = fault(request)
            if isinstance(answer, Awaitable):
                answer = await answer
            if answer is not None:
                return answer
        chat = from_openai(body)
        return web.json_response(plain(chat, complete(ENGINES[chat.model], chat), "t", 0))


@contextlib.asynccontextmanager
async def world() -> AsyncIterator[World]:
    """Serve a world inside the block."""
    served = World()
    application = web.Application()
    application.router.add_post("/v1/chat/completions", served.chat)
    runner = web.AppRunner(application, access_log=None, shutdown_timeout=0.1, handler_cancellation=True)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    served.url = f"http://127.0.0.1:{runner.addresses[0][1]}/v1"
    try:
        yield served
    finally:
        await runner.cleanup()


async def play(
    served: World,
    path: Path,
    rounds: int,
    limits: Limits = LIMITS,
    settings: Settings | None = None,
    control_pairs: int = 0,
) -> Report:
    """Play a campaign to its end, whatever that is, and count it."""
    settings = settings or Settings(seed=3)
    store = Store(path)
    try:
        async with open_session(limits) as session:
            endpoint = Endpoint("world", served.url, "key")
            client = Pool([ModelClient(session, endpoint, limits, Random(1))])
            run = store.begin(settings.description(), detect(settings.models, {}), served.url, rounds)
            grammar = load_grammar()
            mission = Mission(run, grammar, settings, limits, Schedule(rounds, 0.0, 2, control_pairs))
            arena = Arena(settings, limits, grammar, client, run.run_id)
            campaign = Campaign(
                mission, arena, client, store, Contract(), lambda _, values: served.said.append(values)
            )
            await campaign.play_all()
    finally:
        counted = store.run()
        report = build(store, counted) if counted else None
        store.close()
    assert report is not None
    return report


def counted(path: Path) -> Report:
    """Count a store that nobody writes to."""
    store = Store(path, readonly=True)
    try:
        run = store.run()
        assert run is not None
        return build(store, run)
    finally:
        store.close()


def content(text: str | None, finish_reason: str = "stop") -> Whole:
    """Answer 200 with this content."""
    body = {"choices": [{"message": {"role": "assistant", "content": text}, "finish_reason": finish_reason}]}
    return lambda _: web.Response(text=json.dumps(body), content_type="application/json")


def status(code: int, headers: dict[str, str] | None = None) -> Whole:
    """Answer with this status."""
    return lambda _: web.Response(status=code, text="no", headers=headers)


def html(_: web.Request) -> web.Response:
    """A proxy's error page with status 200."""
    return web.Response(text="<html>busy</html>", content_type="text/html")


async def hang(_: web.Request) -> None:
    """Never answer."""
    await asyncio.sleep(3600)


def closed(request: web.Request) -> web.Response:
    """Drop the connection."""
    assert request.transport is not None
    request.transport.close()
    return web.Response()


def disk_is_full(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let no file reach the disk from here on."""

    def refuse(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", refuse)


def patient(**changes: Any) -> Limits:
    """The limits of these tests, changed."""
    return replace(LIMITS, **changes)


@contextlib.asynccontextmanager
async def client_of(
    chat: Callable[[web.Request], Any], limits: Limits = LIMITS, **endpoint: Any
) -> AsyncIterator[ModelClient]:
    """A client of an endpoint whose every answer is `chat`'s, in either dialect."""
    application = web.Application()
    application.router.add_post("/chat/completions", chat)
    application.router.add_post("/api/chat", chat)
    runner = web.AppRunner(application, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    try:
        async with open_session(limits) as session:
            yield ModelClient(session, Endpoint("e", url, **endpoint), limits, Random(1))
    finally:
        await runner.cleanup()
