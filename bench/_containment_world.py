"""One row of bench/containment.py: the real daemon in virtual time, a scripted model server, clients, and what they saw.

Two bystanders are there in every row: `bystander` asks another upstream every 45 s, `neighbour` the same upstream as
the agent every 80 s, each time something new.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import re
import sys
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
from aiohttp import web

sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parents[1] / "tests" / "support")]
from _containment_watch import Watch, watching
from virtual_daemon import VirtualDaemon, virtual_daemon
from virtual_time import VirtualTime

SCRIPT = "X-Script"
SLICE_TOKENS = 24
"""A streamed answer comes in parts of so many tokens, spread evenly over its time."""

_TOKEN = re.compile(r"\s?\w{1,8}|\s?[^\w\s]|\s")
_HOLD = re.compile(r"^subsystem_|^gateway_closed$|quarantine|throttle|held")


@dataclass(frozen=True)
class Reply:
    """What the model server does with a request. An answer `endless` goes on until somebody hangs up."""

    text: str = "Yes."
    seconds: float = 1.0
    status: int = 200
    retry_after: float = 0.0
    tool: str = ""
    output_tokens: int = 0
    input_tokens: int = 0
    endless: bool = False


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


@dataclass(frozen=True)
class Change:
    """What happens to the upstream or the machine: `down`, `up`, `status`, `ok`, `suspend`, `crash` (of the server)."""

    at: float
    what: str
    value: float = 0.0


@dataclass(frozen=True)
class Workload:
    """A row. `oracle_turns`: how many turns after the onset an oracle needs; `onset` in seconds after the start."""

    name: str
    clients: Sequence[Client]
    changes: Sequence[Change] = ()
    toml: str = ""
    after: float = 120.0
    runaway: bool = False
    onset: float = 0.0
    oracle_turns: float = 0.0
    why: str = ""
    limit: float = 3_600.0
    seldom: bool = False
    counts: str = "tokens"
    may_be_cut: bool = False


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


class ModelServer:
    """A model server that does as it is scripted."""

    def __init__(self) -> None:
        self.replies: dict[str, Reply] = {}
        self.status = 0
        self.retry_after = 0.0
        self.asked = 0
        self.ended: set[str] = set()
        self.watch: Watch | None = None
        self._port = 0
        self._site: web.TCPSite | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._port}"

    async def start(self) -> None:
        self._server = web.Server(self._handle, handler_cancellation=True, access_log=None)
        self._runner = web.ServerRunner(self._server, shutdown_timeout=0.1)
        await self._runner.setup()
        await self.up()

    async def up(self) -> None:
        self._site = web.TCPSite(self._runner, "127.0.0.1", self._port, reuse_address=True)
        await self._site.start()
        self._port = self._site._server.sockets[0].getsockname()[1]  # type: ignore[union-attr]

    async def down(self) -> None:
        """Be gone: nothing listens, and what was being answered breaks off."""
        if self._site is not None:
            site, self._site = self._site, None
            await site.stop()
            await self._server.shutdown(0.05)

    async def close(self) -> None:
        await self._runner.cleanup()

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        if self.status:
            await request.read()
            headers = {"Retry-After": str(int(self.retry_after))} if self.retry_after else {}
            error = {"error": {"message": "no", "type": "x", "code": str(self.status)}}
            return web.json_response(error, status=self.status, headers=headers)
        if request.method == "GET":
            return web.json_response({"object": "list", "data": [{"id": "m", "object": "model"}]})
        body = json.loads(await request.read())
        self.asked += 1
        reply = self.replies.get(request.headers.get(SCRIPT, ""), Reply())
        if reply.status != 200:
            headers = {"Retry-After": str(int(reply.retry_after))} if reply.retry_after else {}
            await asyncio.sleep(reply.seconds)
            return web.json_response({"error": {"message": "no"}}, status=reply.status, headers=headers)
        if body.get("stream"):
            return await self._stream(request, body, reply)
        await asyncio.sleep(reply.seconds)
        return web.json_response(_whole(request.path, body, reply))

    async def _stream(
        self, request: web.BaseRequest, body: Mapping[str, Any], reply: Reply
    ) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        base = {"id": "c", "created": 1, "model": body["model"], "object": "chat.completion.chunk"}
        cap, made = body.get("max_tokens") or body.get("max_completion_tokens") or 4_096, 0
        pieces = _TOKEN.findall(reply.text)
        pause = reply.seconds * SLICE_TOKENS / max(len(pieces), SLICE_TOKENS)
        while True:
            for start in range(0, len(pieces), SLICE_TOKENS):
                part = pieces[start : start + SLICE_TOKENS][: cap - made]
                if not part:
                    break
                made += len(part)
                events = [{**base, "choices": [{"index": 0, "delta": {"content": p}}]} for p in part]
                await asyncio.sleep(pause)
                if self.watch is not None:
                    self.watch.made(len(part))
                await response.write(b"".join(b"data: %b\n\n" % json.dumps(e).encode() for e in events))
            if not reply.endless or made >= cap:
                break
        last = {**base, "choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}
        usage = {**base, "choices": [], "usage": _usage(body, reply, made)}
        for event in (last, usage):
            await response.write(b"data: %b\n\n" % json.dumps(event).encode())
        await response.write(b"data: [DONE]\n\n")
        self.ended.add(request.headers.get(SCRIPT, ""))
        return response

    @property
    def is_up(self) -> bool:
        return self._site is not None and not self.status


def _usage(body: Mapping[str, Any], reply: Reply, made: int = 0) -> dict[str, int]:
    asked = reply.input_tokens or max(
        1, len(json.dumps(body.get("messages") or body.get("prompt") or body)) // 4
    )
    given = reply.output_tokens or made or max(1, len(reply.text) // 4) * int(body.get("n") or 1)
    return {"prompt_tokens": asked, "completion_tokens": given, "total_tokens": asked + given}


def _whole(path: str, body: Mapping[str, Any], reply: Reply) -> dict[str, Any]:
    usage = _usage(body, reply)
    if path.endswith("/embeddings"):
        data = [{"object": "embedding", "index": 0, "embedding": [0.1, 0.2]}]
        usage = {"prompt_tokens": usage["prompt_tokens"], "total_tokens": usage["prompt_tokens"]}
        return {"object": "list", "data": data, "model": body["model"], "usage": usage}
    if path.endswith("/chat/completions"):
        message: dict[str, Any] = {"role": "assistant", "content": reply.text}
        if reply.tool:
            call = {"id": "t", "type": "function", "function": {"name": "tool", "arguments": reply.tool}}
            message = {"role": "assistant", "content": None, "tool_calls": [call]}
        choice = {"message": message, "finish_reason": "tool_calls" if reply.tool else "stop"}
        kind = "chat.completion"
    else:
        choice, kind = {"text": reply.text, "finish_reason": "stop"}, "text_completion"
    choices = [{"index": index, **choice} for index in range(int(body.get("n") or 1))]
    return {
        "id": "c",
        "created": 1,
        "model": body["model"],
        "object": kind,
        "choices": choices,
        "usage": usage,
    }


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


def _bystander(name: str, model: str, every: float) -> Client:
    asks = (
        Ask(
            {"model": model, "max_tokens": 30, "messages": [{"role": "user", "content": f"{name} {n}?"}]},
            every,
        )
        for n in itertools.count()
    )
    return Client(asks, name, start=3.0)


@asynccontextmanager
async def _upstreams() -> AsyncIterator[tuple[ModelServer, ModelServer]]:
    servers = ModelServer(), ModelServer()
    for server in servers:
        await server.start()
    try:
        yield servers
    finally:
        for server in servers:
            await server.close()


def _toml(row: Workload, main: ModelServer, other: ModelServer) -> str:
    clients = {"agent", "bystander", "neighbour", *(client.name for client in row.clients)}
    lines = [
        f'[upstreams.main]\nurl = "{main.url}"\ndialects = ["openai"]\nmodels = ["m", "m-*"]',
        f'[upstreams.other]\nurl = "{other.url}"\ndialects = ["openai"]\nmodels = ["b"]',
        *(f'[subsystems.{name}]\nkind = "client"' for name in sorted(clients)),
        '[subsystems.spare]\ncommand = ["lives", "1e9", "0"]',
    ]
    if row.seldom:
        lines += ["[probes.cascade]\ninterval_seconds = 10.0\nsettle_seconds = 30.0"]
        lines += ["[probes.liveness]\ninterval_seconds = 5.0"]
    return "\n".join([*lines, row.toml, ""])


async def _happen(changes: Sequence[Change], server: ModelServer, clock: VirtualTime) -> None:
    began = clock.loop.time()
    for change in sorted(changes, key=lambda change: change.at):
        await asyncio.sleep(max(0.0, began + change.at - clock.loop.time()))
        match change.what:
            case "down":
                await server.down()
            case "up":
                await server.up()
            case "status":
                server.status = int(change.value)
            case "retry-after":
                server.status, server.retry_after = 429, change.value
            case "ok":
                server.status, server.retry_after = 0, 0.0
            case "suspend":
                clock.suspend(change.value)


async def play(clock: VirtualTime, row: Workload) -> dict[str, Any]:
    """Play one row; what was seen, as JSON values."""
    async with AsyncExitStack() as stack:
        main, other = await stack.enter_async_context(_upstreams())
        watch = stack.enter_context(watching(clock))
        daemon = await stack.enter_async_context(
            virtual_daemon(clock, _toml(row, main, other), tick_seconds=5.0 if row.seldom else 1.0)
        )
        asker = Asker(daemon, main, watch)
        stack.push_async_callback(asker.http.close)
        await watch.attach(daemon, row)
        main.watch = watch
        around = [asyncio.ensure_future(asker.play(_bystander(*who))) for who in _BYSTANDERS]
        around.append(asyncio.ensure_future(_happen(row.changes, main, clock)))
        work = [asyncio.ensure_future(asker.play(client)) for client in row.clients]
        done = asyncio.gather(*work)
        ended = asyncio.ensure_future(watch.contained.wait())
        await asyncio.wait(
            [done, ended] if row.runaway else [done],
            timeout=row.limit if row.runaway else None,
            return_when=asyncio.FIRST_COMPLETED,
        )
        await asyncio.sleep(row.after)
        for task in (*work, *around, ended):
            task.cancel()
        await asyncio.gather(*work, *around, ended, done, return_exceptions=True)
        return watch.report(row, asker.answers)


_BYSTANDERS = (("bystander", "b", 45.0), ("neighbour", "m", 80.0))
