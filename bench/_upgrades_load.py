"""Clients that ask without end while epad is exchanged under them, the model server they ask, and what both saw.

Runs beside epad, in its network: `python bench/_upgrades_load.py CONFIG.json`. Ends when the file `stop` of the
configuration is there, and writes what it saw to `report`.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
from aiohttp import web

PROMPT_TOKENS, ANSWER_TOKENS = 25, 8
_WORD_SECONDS = 0.005
_AGAIN_SECONDS = 0.05
_ANSWER_SECONDS = 30.0


@dataclass
class Server:
    """Answers in the shape of OpenAI's chat, whole or streamed, and counts what it makes for each model."""

    made: Counter[str] = field(default_factory=Counter)

    async def chat(self, request: web.Request) -> web.StreamResponse:
        """Make an answer; what is made counts as soon as it is begun."""
        asked = await request.json()
        tokens = min(ANSWER_TOKENS, asked.get("max_tokens") or ANSWER_TOKENS)
        usage = {
            "prompt_tokens": PROMPT_TOKENS,
            "completion_tokens": tokens,
            "total_tokens": PROMPT_TOKENS + tokens,
        }
        head = {"id": "c", "created": 1, "model": asked["model"]}
        self.made[asked["model"]] += PROMPT_TOKENS + tokens
        if not asked.get("stream"):
            await asyncio.sleep(tokens * _WORD_SECONDS)
            message = {"role": "assistant", "content": "word " * tokens}
            choice = {"index": 0, "finish_reason": "stop", "message": message}
            return web.json_response(
                {**head, "object": "chat.completion", "choices": [choice], "usage": usage}
            )
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        for number in range(tokens):
            choice = {"index": 0, "delta": {"content": f"word{number} "}, "finish_reason": None}
            await self._send(response, {**head, "object": "chat.completion.chunk", "choices": [choice]})
            await asyncio.sleep(_WORD_SECONDS)
        end = {"index": 0, "delta": {}, "finish_reason": "stop"}
        await self._send(response, {**head, "object": "chat.completion.chunk", "choices": [end]})
        await self._send(response, {**head, "object": "chat.completion.chunk", "choices": [], "usage": usage})
        with contextlib.suppress(ConnectionError):
            await response.write(b"data: [DONE]\n\n")
        return response

    async def _send(self, response: web.StreamResponse, event: dict[str, Any]) -> None:
        with contextlib.suppress(ConnectionError):  # epad was killed: it goes on making, as many servers do
            await response.write(f"data: {json.dumps(event)}\n\n".encode())

    async def listen(self, port: int) -> None:
        """Serve on one port."""
        app = web.Application()
        app.router.add_post("/v1/chat/completions", self.chat)
        app.router.add_get("/v1/models", self._models)
        runner = web.AppRunner(app)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", port).start()

    async def _models(self, _: web.Request) -> web.Response:
        return web.json_response({"object": "list", "data": [{"id": "free", "object": "model"}]})


@dataclass
class Client:
    """One loop of questions of one subsystem. `away` are the spans of the wall clock in which nothing answered."""

    name: str
    key: str
    url: str
    pause: float
    acknowledged: list[str] = field(default_factory=list)
    statuses: Counter[str] = field(default_factory=Counter)
    away: list[tuple[float, float]] = field(default_factory=list)

    async def run(self, stop: asyncio.Event) -> None:
        """Ask until told to stop, again and again where nothing answers."""
        timeout = aiohttp.ClientTimeout(total=_ANSWER_SECONDS)
        failed_at, number = 0.0, 0
        async with aiohttp.ClientSession(timeout=timeout) as http:
            while not stop.is_set():
                number += 1
                try:
                    answered = await self._ask(http, number)
                except (aiohttp.ClientError, OSError, TimeoutError) as error:
                    self.statuses[type(error).__name__] += 1
                    answered = False
                if answered and failed_at:
                    self.away.append((failed_at, time.time()))
                    failed_at = 0.0
                elif not answered and not failed_at:
                    failed_at = time.time()
                await asyncio.sleep(self.pause if answered else _AGAIN_SECONDS)

    async def _ask(self, http: aiohttp.ClientSession, number: int) -> bool:
        words = {"role": "user", "content": f"{self.name} asks for the {number}th time at {time.time()}"}
        body = {
            "model": self.name,
            "max_tokens": ANSWER_TOKENS,
            "messages": [words],
            "stream": number % 2 == 0,
        }
        fields = {"Authorization": f"Bearer {self.key}"}
        async with http.post(f"{self.url}/v1/chat/completions", json=body, headers=fields) as answer:
            said = await answer.read()
            self.statuses[str(answer.status)] += 1
            if answer.status == 429:
                await asyncio.sleep(2.0)
                return True
            if answer.status != 200:
                return False
            whole = said.endswith(b"data: [DONE]\n\n") if body["stream"] else b'"usage"' in said
            if whole and b'"error"' not in said:
                self.acknowledged.append(answer.headers["x-epad-turn"])
                return True
            self.statuses["ended early"] += 1
            return False


async def main(config: dict[str, Any]) -> None:
    """Serve and ask until the file that says stop is there."""
    server, stop = Server(), asyncio.Event()
    for port in config["ports"]:
        await server.listen(port)
    keys = Path(config["keys"])
    names = [name for name, how in config["clients"].items() for _ in range(how["many"])]
    await _until(lambda: all((keys / f"{name}.key").exists() for name in names))
    clients = [
        Client(
            name, (keys / f"{name}.key").read_text().strip(), config["url"], config["clients"][name]["pause"]
        )
        for name in names
    ]
    tasks = [asyncio.create_task(client.run(stop)) for client in clients]
    await _until(Path(config["stop"]).exists)
    stop.set()
    await asyncio.gather(*tasks)
    report = {
        "made": dict(server.made),
        "acknowledged": {
            name: [t for c in clients if c.name == name for t in c.acknowledged] for name in names
        },
        "statuses": dict(sum((client.statuses for client in clients), Counter())),
        "away": sorted(span for client in clients if client.name == "free" for span in client.away),
    }
    await asyncio.to_thread(_write, Path(config["report"]), json.dumps(report))


async def _until(holds: Callable[[], bool]) -> None:
    while not holds():  # noqa: ASYNC110  another process makes it so
        await asyncio.sleep(_AGAIN_SECONDS)


def _write(path: Path, text: str) -> None:
    """Write it whole or not at all."""
    part = path.with_suffix(".part")
    part.write_text(text)
    part.rename(path)


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(main(json.loads(Path(sys.argv[1]).read_text())))
