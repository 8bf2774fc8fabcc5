"""How soon the upstream's connection ends after the client's has, the answer half way."""

from __future__ import annotations

import asyncio
import statistics

from _gateway_load import body
from _gateway_stub import EVENTS, Stub, Watch
from _gateway_targets import Launcher, Target, free_port
from _harness import Row

_GOAL_MS = 100.0
_PATIENCE_SECONDS = 10.0


async def disconnect_rows(launcher: Launcher, count: int, command: str) -> list[Row]:
    """Clients that leave, one after another: in the middle of a stream, and before a whole answer.

    Stub and client share this process's clock, so nothing has to be compared between two.
    """
    watch = Watch(asyncio.Queue(), asyncio.Queue())
    port = free_port()
    server = await asyncio.get_running_loop().create_server(lambda: Stub(watch), "127.0.0.1", port)
    async with server:
        epad = await asyncio.to_thread(launcher.epad, port)
        try:
            streamed = [await _leave(epad, number, watch, stream=True) for number in range(count)]
            whole = [await _leave(epad, number, watch, stream=False) for number in range(count)]
        finally:
            await asyncio.to_thread(epad.stop)
    return [
        _row("a stream, after its 20 events", streamed, command),
        _row("a whole answer, before it came", whole, command),
    ]


def _row(what: str, delays: list[float], command: str) -> Row:
    slowest = max(delays)
    return Row(
        f"upstream's connection closed after the client left {what} (slowest)",
        slowest,
        "ms",
        f"at most {_GOAL_MS:g} ms",
        slowest <= _GOAL_MS,
        {"median, ms": statistics.median(delays)},
        len(delays),
        command,
    )


async def _leave(epad: Target, number: int, watch: Watch, *, stream: bool) -> float:
    """Ask, wait until the upstream is at work, hang up; the milliseconds until it hears of it."""
    reader, writer = await asyncio.open_connection("127.0.0.1", epad.port)
    payload = (body(stream=stream, model="hold") % (number + stream * 1_000_000)).encode()
    writer.write(
        b"POST /v1/chat/completions HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
        b"Authorization: Bearer %s\r\nContent-Length: %d\r\n\r\n"
        % (epad.key.encode(), len(payload))
        + payload
    )
    await asyncio.wait_for(watch.begun.get(), _PATIENCE_SECONDS)
    for _ in range(EVENTS * stream):
        await reader.readuntil(b"data: ")
    left = asyncio.get_running_loop().time()
    writer.transport.abort()
    return (await asyncio.wait_for(watch.gone.get(), _PATIENCE_SECONDS) - left) * 1e3
