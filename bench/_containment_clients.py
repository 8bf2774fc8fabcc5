"""The clients of bench/containment.py: what they ask, how they take a failure, and what they got."""

from __future__ import annotations

import asyncio
import itertools
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import aiohttp
from _containment_server import SCRIPT, ModelServer, Reply
from _containment_watch import Watch
from virtual_daemon import VirtualDaemon

_HOLD = re.compile(r"^subsystem_|^gateway_closed$|quarantine|throttle|held")


@dataclass(frozen=True)
class Ask:
    """One request: what is waited for before it, what is asked, and what it gets. 0 seconds: never give up."""

    body: Mapping[str, Any]
    wait: float = 1.0
    reply: Reply = field(default_factory=Reply)
    path: str = "/v1/chat/completions"
    gives_up_after: float = 0.0
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Manner:
    """How a client takes a failure; by default as the stock OpenAI library, and on to the next request after it."""

    retries: int = 2
    obeys: bool = True
    first_wait: float = 0.5
    most_wait: float = 8.0
    pause: float = 1.0
    insists: bool = False
    retries_own_timeout: bool = True


STOCK = Manner()


@dataclass(frozen=True)
class Client:
    """One line of requests; several at once are parallel."""

    asks: Iterable[Ask]
    name: str = "agent"
    start: float = 0.0
    manner: Manner = STOCK
    key: str = ""


@dataclass
class Answer:
    """What a client got."""

    status: int = 0
    code: str = ""
    text: str = ""
    whole: bool = False
    retry_after: float = 0.0
    may_retry: bool = True
    hung_up: bool = False

    @property
    def ok(self) -> bool:
        return self.status == 200 and self.whole

    @property
    def by_hold(self) -> bool:
        return bool(_HOLD.search(self.code)) and self.status in {403, 429, 503}


class Asker:
    """Plays the clients against the gateway."""

    def __init__(self, daemon: VirtualDaemon, server: ModelServer, watch: Watch) -> None:
        self._daemon, self._server, self.watch = daemon, server, watch
        self._numbers = itertools.count()
        self._keys: dict[str, dict[str, str]] = {}
        self.http = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0), timeout=aiohttp.ClientTimeout(total=None)
        )
        self.answers: dict[str, list[Answer]] = {}
        self._clock = daemon.clock

    def _headers(self, client: Client) -> dict[str, str]:
        if client.key:
            return {"Authorization": f"Bearer {client.key}"}
        if client.name not in self._keys:
            self._keys[client.name] = self._daemon.headers(client.name)
        return self._keys[client.name]

    async def play(self, client: Client) -> None:
        await asyncio.sleep(client.start)
        manner = client.manner
        for ask in client.asks:
            await asyncio.sleep(ask.wait)
            while not (await self._with_retries(client, ask)).ok:
                await asyncio.sleep(manner.pause)
                if not manner.insists:
                    break

    async def _with_retries(self, client: Client, ask: Ask) -> Answer:
        manner, answer = client.manner, Answer()
        for attempt in range(manner.retries + 1):
            answer = await self._once(client, ask, attempt)
            self.answers.setdefault(client.name, []).append(answer)
            again = answer.status in {0, 408, 409, 429} or answer.status >= 500
            if answer.hung_up:
                again = manner.retries_own_timeout
            if answer.ok or not (again and answer.may_retry) or attempt == manner.retries:
                break
            wait = min(manner.most_wait, manner.first_wait * 2**attempt)
            if manner.obeys and 0 < answer.retry_after <= 60:
                wait = answer.retry_after
            await asyncio.sleep(wait)
        return answer

    async def _once(self, client: Client, ask: Ask, attempt: int) -> Answer:
        number, answer = str(next(self._numbers)), Answer()
        self._server.replies[number] = ask.reply
        headers = {**self._headers(client), SCRIPT: number, **ask.headers}
        headers["x-stainless-retry-count"] = str(attempt)
        asked_at = self._clock.loop.time()
        try:
            async with asyncio.timeout(ask.gives_up_after or None):
                async with self.http.post(
                    self._daemon.url + ask.path, json=ask.body, headers=headers
                ) as response:
                    answer.status = response.status
                    answer.retry_after = float(response.headers.get("Retry-After") or 0)
                    answer.may_retry = response.headers.get("x-should-retry") != "false"
                    _read_into(answer, await response.read(), streamed=bool(ask.body.get("stream")))
        except TimeoutError:
            answer.hung_up = True
        except (aiohttp.ClientError, ConnectionError):
            answer.status = 0
        del self._server.replies[number]
        self.watch.answered(client.name, self._clock.loop.time() - asked_at)
        if ask.body.get("stream") and answer.status == 200 and not answer.hung_up:
            if number not in self._server.ended and self._server.is_up:
                self.watch.cut(client.name, answer.code)
                answer.whole = False
            elif not ask.reply.endless and answer.text != ask.reply.text:
                answer.whole = False
        return answer


def _read_into(answer: Answer, data: bytes, *, streamed: bool) -> None:
    if not streamed or answer.status != 200:
        try:
            said = json.loads(data)
        except ValueError:
            return
        error = said.get("error")
        answer.code = str(error.get("code") or "") if isinstance(error, dict) else ""
        answer.whole = not error
        return
    for line in data.split(b"\n\n"):
        event = line.removeprefix(b"data: ")
        if event == b"[DONE]":
            answer.whole = not answer.code
        elif event.startswith(b"{"):
            said = json.loads(event)
            if isinstance(said.get("error"), dict):
                answer.code = str(said["error"].get("code") or "error")
            for choice in said.get("choices") or []:
                answer.text += (choice.get("delta") or {}).get("content") or ""
