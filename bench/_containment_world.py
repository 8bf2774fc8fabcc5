"""One row of bench/containment.py: the real daemon in virtual time, a scripted model server, clients, what they saw.

Two bystanders are there in every row: `bystander` asks another upstream every 45 s, `neighbour` the same upstream as
the agent every 80 s, each time something new; a tenth of that where a row lasts hours.
"""

from __future__ import annotations

import asyncio
import itertools
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parents[1] / "tests" / "support")]
from _containment_clients import Ask, Asker, Client, Manner  # noqa: E402
from _containment_server import ModelServer, Reply  # noqa: E402
from _containment_watch import watching  # noqa: E402
from virtual_daemon import VirtualDaemon, virtual_daemon  # noqa: E402
from virtual_memory import Course, VirtualMemory  # noqa: E402
from virtual_time import VirtualTime  # noqa: E402

from probes.token_burn import TokenBurnSettings  # noqa: E402

__all__ = ["Ask", "Change", "Client", "Manner", "Reply", "Workload", "play"]


@dataclass(frozen=True)
class Change:
    """What happens to the upstream, the machine or the process `who`.

    To the upstream `down`, `up`, `status`, `retry-after`, `ok`; to the machine `suspend`; to a process `dies` (with
    exit code `value`), `asked` (SIGTERM by hand), `restart` (a person's order).
    """

    at: float
    what: str
    value: float = 0.0
    who: str = "short"


@dataclass(frozen=True)
class Workload:
    """A row. `oracle_turns`: how many turns after the onset an oracle needs; `onset` in seconds after the start.

    `says`: the agent is a process that tells epad this, each at its time. `rests`: it is contained by being made to
    wait for its answers. `enforce`: what its detectors may do, where this version of epad asks. `like` names the honest
    row that looks the same for as long as this runaway goes on: for its sake it may cost more than in the old column.
    `memory` is what processes take, by subsystem.
    """

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
    says: Mapping[float, str] = field(default_factory=dict)
    rests: bool = False
    enforce: Mapping[str, str] = field(default_factory=dict)
    like: str = ""
    memory: Mapping[str, Course] = field(default_factory=dict)


def _bystander(name: str, model: str, every: float, factor: float) -> Client:
    asks = (
        Ask(
            {"model": model, "max_tokens": 30, "messages": [{"role": "user", "content": f"{name} {n}?"}]},
            every * factor,
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
    clients -= {"agent"} if row.says else set()
    lines = [
        f'[upstreams.main]\nurl = "{main.url}"\ndialects = ["openai"]\nmodels = ["m", "m-*"]',
        f'[upstreams.other]\nurl = "{other.url}"\ndialects = ["openai"]\nmodels = ["b"]',
        *(f'[subsystems.{name}]\nkind = "client"' for name in sorted(clients)),
        '[subsystems.spare]\ncommand = ["lives", "1e9", "0"]',
    ]
    if row.says:
        lines.append('[subsystems.agent]\ncommand = ["lives", "1e9", "0"]\nnotifies = true')
    if row.enforce and "enforce" in TokenBurnSettings.__struct_fields__:
        lines.append("[probes.token_burn.enforce]")
        lines += [f'{name} = "{how}"' for name, how in row.enforce.items()]
    return "\n".join([*lines, row.toml, ""])


async def _happen(changes: Sequence[Change], server: ModelServer, daemon: VirtualDaemon) -> None:
    clock, processes = daemon.clock, daemon.engine.processes
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
            case "dies":
                processes[change.who].end(f"exit {change.value:g}", int(change.value))
            case "asked":
                processes[change.who].end("signal SIGTERM", None)
            case "restart":
                await daemon.restart(change.who)


async def _speak(row: Workload, daemon: VirtualDaemon) -> None:
    began = daemon.clock.loop.time()
    for at, text in sorted(row.says.items()):
        await asyncio.sleep(began + at - daemon.clock.loop.time())
        daemon.notify("agent", text)


async def play(clock: VirtualTime, row: Workload) -> dict[str, Any]:
    """Play one row; what was seen, as JSON values."""
    async with AsyncExitStack() as stack:
        main, other = await stack.enter_async_context(_upstreams())
        watch = stack.enter_context(watching(clock))
        memory = VirtualMemory(row.memory) if row.memory else None
        daemon = await stack.enter_async_context(
            virtual_daemon(clock, _toml(row, main, other), seldom=row.seldom, memory=memory)
        )
        asker = Asker(daemon, main, watch)
        stack.push_async_callback(asker.http.close)
        await watch.attach(daemon, row)
        watch.memory = memory.taken if memory is not None else []
        main.watch = watch
        seldom = 10.0 if row.seldom else 1.0
        around = [asyncio.ensure_future(asker.play(_bystander(*who, seldom))) for who in _BYSTANDERS]
        around.append(asyncio.ensure_future(_happen(row.changes, main, daemon)))
        around.append(asyncio.ensure_future(_speak(row, daemon)))
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
