"""How far a hard budget is overshot, by the model server's own count: the goal is 0, exactly.

`python bench/overshoot.py [--quick] [--json FILE]`. The server makes every token that a request lets it make, with a
prompt of a token a byte; it obeys the fields that the real one obeys. Peers: a proxy that checks before and counts
after ("naive"), run beside; LiteLLM 1.106.2 as it was measured on 2026-11-22, quoted. A value above 0 is tokens too
many.
"""

from __future__ import annotations

import asyncio
import logging
import sys
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import _overshoot_servers as servers
import aiohttp
import structlog
from _accounting_behaviour import CHAT, delta, finish, said, sse, usage
from _byte_server import PAUSE_SECONDS, SSE, ByteServer, Piece, Script
from _gateway_inside import Inside, inside, refuses_at_once
from _harness import Row, run
from _overshoot_aliases import ALIASES, Alias
from _overshoot_lives import CLOCKS, LIMIT, REMOVALS, Lives, live
from _overshoot_naive import NaiveProxy

from epad.configuration.schema import BudgetConfig, UpstreamConfig

_COMMAND = "python bench/overshoot.py"
_DIALECTS = ("openai", "ollama", "anthropic")
_LITELLM = "LiteLLM 1.106.2 (quoted, 200 at once on 10), answered"
_GOAL = "0 tokens"
_UNKNOWN = "unknown server"

Answer = Callable[[str, dict[str, Any]], tuple[Script, int] | None]


def overshoot(
    claim: str, made: int, limit: int, n: int, peers: Mapping[str, float | str], *, served: bool
) -> Row:
    """A row: how many tokens were made beyond the limit. A gateway that serves nobody has met nothing."""
    value = max(0, made - limit)
    nobody: dict[str, float | str] = {} if served else {"NOBODY SERVED": "the row says nothing"}
    shown = {"limit": limit, "made": made, **peers, **nobody}
    return Row(claim, value, "tokens over", _GOAL, served and value == 0, shown, n, _COMMAND)


async def _guarded(
    answer: Answer, limit: int, kind: str, load: Callable[[Inside], Awaitable[Counter[int]]], **config: Any
) -> tuple[int, Counter[int]]:
    """Put a load through the gateway; what the server made, and the statuses."""
    async with ByteServer(answer).serving() as server:
        upstream = UpstreamConfig(url=server.url, dialects=_DIALECTS, server=kind)
        budget = BudgetConfig(tokens_per_hour=limit, max_in_flight=0)
        async with inside({"raw": upstream}, {"writer": budget}, **config) as gateway:
            statuses = await load(gateway)
            await gateway.idle()
        return server.tokens, statuses


def _statuses(statuses: Counter[int]) -> str:
    return ", ".join(f"{n} x {status or 'left'}" for status, n in sorted(statuses.items()))


# A thousand at once.


def _body(number: int, cap: int = 100, **fields: Any) -> dict[str, Any]:
    message = {"role": "user", "content": f"question {number} " + "x" * 40}
    return {"model": "tiny", "messages": [message], "max_tokens": cap, **fields}


async def _crowd(count: int, **fields: Any) -> Row:
    """So many requests at once on a budget for about ten of them."""
    limit = 10 * (servers.prompt_tokens(_body(100)) + 100)
    model = servers.Model(servers.vllm, seconds=0.3)
    bodies = [_body(number, **fields) for number in range(count)]

    async def load(gateway: Inside) -> Counter[int]:
        told = await asyncio.gather(*(gateway.ask(CHAT, body) for body in bodies))
        return Counter(each.status for each in told)

    made, statuses = await _guarded(model.answer, limit, "vllm", load)
    naive = await _naive(model.answer, limit, bodies)
    what = f"{count:,} requests at once on a budget for 10" + (", n = 2" if fields else "")
    peers: dict[str, float | str] = {
        "statuses": _statuses(statuses), "naive, tokens over": naive,
        f"{_LITELLM}: key budget": "10 (exact); two workers without Redis 20; provider or deployment budget 200",
    }  # fmt: skip
    return overshoot(what, made, limit, count, peers, served=statuses[200] > 0)


async def _naive(answer: Answer, limit: int, bodies: Sequence[Mapping[str, Any]], leaves_after: int | None = None,
                 *, together: bool = True) -> float:  # fmt: skip
    """The same load through the naive proxy: tokens over."""
    async with ByteServer(answer).serving() as server, NaiveProxy(server.url, limit).serving() as url:
        async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as http:

            async def ask(body: Mapping[str, Any]) -> None:
                got = 0
                async with http.post(url + CHAT, json=body) as response:
                    while data := await response.content.readany():
                        got += len(data)
                        if leaves_after is not None and got >= leaves_after:
                            response.close()
                            return

            if together:
                await asyncio.gather(*map(ask, bodies))
            else:
                for body in bodies:
                    await ask(body)
        return max(0, server.tokens - limit)


# Clients who hang up.

_ZERO = {"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0}


def _visible(chunk_usage: Mapping[str, int] | None) -> Answer:
    """A stream of 40 words a chunk, up to the cap; zero usage in each where that is wanted."""

    def answer(path: str, body: dict[str, Any]) -> tuple[Script, int] | None:
        if path != CHAT:
            return None
        cap, _ = servers.vllm(body)
        chunk = sse({**delta(content="word " * 40), **({"usage": chunk_usage} if chunk_usage else {})})
        pieces = [
            *said(*[chunk] * (cap // 40), tokens=40),
            Piece(sse(delta(content="word " * (cap % 40))), cap % 40),
        ]
        tail = (
            Piece(sse(finish())),
            Piece(sse(usage(cap, servers.prompt_tokens(body)))),
            Piece(b"data: [DONE]\n\n"),
        )
        return Script((*pieces, *tail), SSE, pause=PAUSE_SECONDS), servers.prompt_tokens(body)

    return answer


def _hidden(path: str, body: dict[str, Any]) -> tuple[Script, int] | None:
    """A stream that thinks up to 40 tokens below its cap before it says a word."""
    if path != CHAT:
        return None
    cap, _ = servers.vllm(body)
    thinking = Piece(b": thinking\n\n", max(0, cap - 40))
    return Script((thinking, *said(*[sse(delta(content="word "))] * min(40, cap), tokens=1)), SSE, then="hang",
                  pause=PAUSE_SECONDS), servers.prompt_tokens(body)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Leavers:
    """Clients who read so many bytes of a stream and hang up, on a budget of `limit` tokens."""

    limit: int
    count: int
    cap: int
    bytes_read: int


_AFTER_3000 = Leavers(limit=3_000, count=20, cap=1_000, bytes_read=3_000)
_AFTER_THE_FIRST = Leavers(limit=20_000, count=60, cap=4_000, bytes_read=200)


async def _leave(name: str, answer: Answer, kind: str, clients: Leavers, *, together: bool) -> Row:
    """They come one after the other, or all at once."""
    bodies = [_body(number, clients.cap, stream=True) for number in range(clients.count)]

    async def load(gateway: Inside) -> Counter[int]:
        asks = [gateway.ask(CHAT, body, leaves_after=clients.bytes_read) for body in bodies]
        told = await asyncio.gather(*asks) if together else [await each for each in asks]
        return Counter(each.status for each in told)

    made, statuses = await _guarded(answer, clients.limit, kind, load, **refuses_at_once())
    naive = await _naive(answer, clients.limit, bodies, clients.bytes_read, together=together)
    how = "at once" if together else "one after the other"
    claim = f"{clients.count} clients hang up after {clients.bytes_read:,} bytes, {how}: {name}, {kind or _UNKNOWN}"
    peers: dict[str, float | str] = {"statuses": _statuses(statuses), "naive, tokens over": naive}
    return overshoot(claim, made, clients.limit, clients.count, peers, served=statuses[200] > 0)


async def _hang_ups() -> list[Row]:
    cases: list[tuple[str, Answer, str, Leavers]] = [
        *[
            (name, _visible(chunk), kind, _AFTER_3000)
            for name, chunk in (("no usage", None), ("zero usage in every chunk", _ZERO))
            for kind in ("", "vllm")
        ],
        *[("hidden reasoning", _hidden, kind, _AFTER_THE_FIRST) for kind in ("", "openai")],
    ]
    return [await _leave(*case, together=together) for case in cases for together in (False, True)]


# Other names of a cap.


async def _alias(alias: Alias) -> Row:
    """An honest request with a cap of 5, and eight with something beside it that the server obeys."""
    bodies = [{"model": "tiny", **alias.prompt(number), **alias.fields} for number in range(8)]
    honest = {"model": "tiny", **alias.prompt(-1), **alias.honest}
    controls: list[int] = []

    async def load(gateway: Inside) -> Counter[int]:
        controls.append((await gateway.ask(alias.path, honest)).status)
        told = await asyncio.gather(*(gateway.ask(alias.path, body) for body in bodies))
        return Counter(each.status for each in told)

    model = servers.Model(alias.obeys, alias.usage)
    made, statuses = await _guarded(model.answer, LIMIT, alias.kind, load, **refuses_at_once())
    bare = sum(a * b + servers.prompt_tokens(body) for body in bodies for a, b in [alias.obeys(body)])
    peers: dict[str, float | str] = {
        "statuses": _statuses(statuses), "honest request": controls[0],
        "without a gateway, tokens over": max(0, bare - LIMIT),
    }  # fmt: skip
    claim = f"{alias.kind or _UNKNOWN}: {alias.name}"
    return overshoot(claim, made, LIMIT, 8, peers, served=controls == [200])


# Two lives.


async def _lives(lives: Lives) -> Row:
    lived = await live(lives)
    peers: dict[str, float | str] = {
        "statuses before": _statuses(lived.before), "statuses after": _statuses(lived.after),
    }  # fmt: skip
    asked = lived.before.total() + lived.after.total()
    return overshoot(lives.name, lived.made, LIMIT, asked, peers, served=lived.before[200] > 0)


async def _all(quick: bool) -> list[Row]:
    rows = [await _crowd(1_000)]
    rows += [] if quick else [await _crowd(200, n=2)]
    rows += await _hang_ups()
    rows += [await _alias(alias) for alias in ALIASES]
    chosen = (CLOCKS[0], REMOVALS[0]) if quick else (*CLOCKS, *REMOVALS)
    return rows + [await _lives(lives) for lives in chosen]


def measure(quick: bool) -> list[Row]:
    """Everything; quick leaves out a crowd and some of the daemon's lives."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    return asyncio.run(_all(quick))


if __name__ == "__main__":
    sys.exit(run("overshoot", measure))
