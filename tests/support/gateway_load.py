"""A model server of our own, clients that ask through the gateway, and what the ledger says of it all afterwards."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

import aiohttp
import apsw
from aiohttp import web
from installed import Installation

from epad.ledger.record import Outcome, TurnClosed, TurnOpened, decode
from epad.storage.database import fetch

CLIENTS = 8
# An upstream, a subsystem that asks it, and two children; nothing is made of how much and how fruitlessly it asks.
CONFIG = """
[hysteresis.token_burn]
raise_after = 0
[hysteresis.token_rate]
raise_after = 0
[hysteresis.progress]
raise_after = 0
[upstreams.stub]
url = "{url}"
dialects = ["openai"]
[subsystems.agent]
kind = "client"
budget = {{ max_in_flight = 32 }}  # the clients' turns, and what is replayed of a former life's
[subsystems.worker]
command = ["sleep", "100000"]
gateway = false
[subsystems.helper]
command = ["sleep", "100000"]
gateway = false
"""


@dataclass
class Upstream:
    """A model server in a thread of its own: it lives on when the daemon dies, and counts what it is asked."""

    url: str = ""
    asked: Counter[str] = field(default_factory=Counter)  # by the last thing said
    _ready: threading.Event = field(default_factory=threading.Event)
    _loop: asyncio.AbstractEventLoop = field(default_factory=asyncio.new_event_loop)
    _stop: asyncio.Event = field(default_factory=asyncio.Event)
    _answering: asyncio.Event = field(default_factory=asyncio.Event)

    def __enter__(self) -> Self:
        self._thread = threading.Thread(target=self._loop.run_until_complete, args=(self._serve(),))
        self._thread.start()
        assert self._ready.wait(60)
        return self

    def was_asked(self, question: str, times: int) -> bool:
        return self.asked[question] == times

    def __exit__(self, *_: object) -> None:
        self.answer()
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(60)
        self._loop.close()

    def hold(self) -> None:
        """From now on take questions and answer none."""
        self._loop.call_soon_threadsafe(self._answering.clear)

    def answer(self) -> None:
        """Answer again, what was held too."""
        self._loop.call_soon_threadsafe(self._answering.set)

    async def _serve(self) -> None:
        self._answering.set()
        runner = web.ServerRunner(web.Server(self._respond), shutdown_timeout=0.1)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        self.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        self._ready.set()
        await self._stop.wait()
        await runner.cleanup()

    async def _respond(self, request: web.BaseRequest) -> web.StreamResponse:
        if request.method == "GET":
            return web.json_response({"object": "list", "data": [{"id": "m"}]})
        question = await request.json()
        self.asked[question["messages"][-1]["content"]] += 1
        await asyncio.sleep(0.01)
        await self._answering.wait()
        usage = {"prompt_tokens": 9, "completion_tokens": 1, "total_tokens": 10}
        choices = [{"index": 0, "message": {"role": "assistant", "content": "x"}, "finish_reason": "stop"}]
        whole = {"id": "1", "object": "chat.completion", "choices": choices, "usage": usage}
        return web.json_response(whole)


@dataclass
class Load:
    """Clients that ask one thing after another, and again under the same key until they have an answer."""

    url: str
    key: str
    acknowledged: dict[str, str] = field(default_factory=dict)  # idempotency key -> turn
    asked: int = 0
    stopping: bool = False

    def run(self) -> None:
        asyncio.run(self._run())

    async def _run(self) -> None:
        async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=20)) as http:
            await asyncio.gather(*(self._client(http, number) for number in range(CLIENTS)))

    async def _client(self, http: aiohttp.ClientSession, client: int) -> None:
        number = 0
        while not self.stopping:
            name = f"{client}-{number}"
            if await self._ask(http, name):
                number += 1
            else:
                await asyncio.sleep(0.2)

    async def _ask(self, http: aiohttp.ClientSession, name: str) -> bool:
        self.asked += 1
        body = {"model": "m", "max_tokens": 4, "messages": [{"role": "user", "content": f"question {name}"}]}
        headers = {"Authorization": f"Bearer {self.key}", "Idempotency-Key": name}
        with contextlib.suppress(aiohttp.ClientError, OSError, TimeoutError):
            async with http.post(f"{self.url}/v1/chat/completions", json=body, headers=headers) as response:
                whole = await response.json()
                if response.status == 200 and whole["choices"]:
                    self.acknowledged[name] = response.headers["x-epad-turn"]
                    return True
        return False


@contextlib.contextmanager
def under_load(house: Installation) -> Iterator[Load]:
    load = Load(house.status()["gateway"]["url"], (house.state / "keys/agent.key").read_text().strip())
    thread = threading.Thread(target=load.run)
    thread.start()
    try:
        yield load
    finally:
        load.stopping = True
        thread.join(60)


@dataclass
class Books:
    """What the ledger says in the end."""

    opened: dict[str, str | None] = field(default_factory=dict)  # turn -> idempotency key
    paid: Counter[str] = field(default_factory=Counter)  # idempotency key -> turns closed as done
    closings: Counter[str] = field(default_factory=Counter)

    @classmethod
    def read(cls, ledger: Path) -> Books:
        books = cls()
        connection = apsw.Connection(str(ledger), flags=apsw.SQLITE_OPEN_READONLY)
        for sequence, data in fetch(connection, "SELECT seq, body FROM record ORDER BY seq"):
            record = decode(sequence, data)
            if isinstance(record, TurnOpened):
                books.opened[record.turn] = record.idempotency_key
            elif isinstance(record, TurnClosed):
                books.closings[record.turn] += 1
                if record.outcome is Outcome.DONE:
                    books.paid[books.opened[record.turn] or record.turn] += 1
        connection.close()
        return books
