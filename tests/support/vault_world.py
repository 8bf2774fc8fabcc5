"""A vault as the daemon has it, in one process: the child's own code, a real ledger, the watch and the probe.

Time is a clock's that a test moves. `stop` and `start` are those of the daemon; `crash` leaves everything as it is.
"""

from __future__ import annotations

import asyncio
import random
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, cast

import structlog
from ledger_world import config
from vault_desk import frame

from epad.ledger.entry import CloseTool, OpenTool
from epad.ledger.record import Effect, ToolOutcome
from epad.ledger.store import Ledger
from epad.operations.memory_orders import MemoryOrders
from epad.operations.vault_orders import VaultOrders
from epad.storage.restores import FILE
from epad.tools.own import OwnToolError
from epad.vault.answers import EFFECT
from epad.vault.child import VaultChild
from epad.vault.watch import Watch
from probes.vault import DOCUMENTS, VaultIntegrity, VaultSettings
from runners.vault.damage import open_store
from runners.vault.serve import Server
from statemachine.clock import ManualClock
from statemachine.finding import Severity

FULL_SECONDS = 6 * 3_600.0
WORDS = ("disk", "mail", "host", "segment", "fan", "port", "key", "rack", "power", "log")
SESSIONS = tuple(letter * 32 for letter in "abcd")


class InProcess:
    """The child, without a process: a request is done when it is asked."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.documents = directory / "documents"
        self.wrote: Callable[[], None] = lambda: None
        self.server: Server | None = None
        self.path = directory / "vault.db"

    def running(self) -> Server:
        if self.server is None:
            self.directory.mkdir(exist_ok=True)
            store = open_store(self.path, None, lambda: 1_800_000_000.0)
            self.server = Server(store, self.path, self.documents)
        return self.server

    async def ask(self, request: str, arguments: Mapping[str, object]) -> dict[str, Any]:
        try:
            server = self.running()
        except Exception as error:
            raise OwnToolError(f"the store cannot be started: {error}") from error
        [answer] = server.group([frame(1, request, dict(arguments))])
        if server.is_torn:
            self.end()
        if "error" in answer:
            raise OwnToolError(answer["error"], answer["hint"])
        if "head" in answer["result"]:
            self.wrote()
        return dict(answer["result"])

    def end(self) -> None:
        """End it; the next request starts another."""
        server, self.server = self.server, None
        if server is not None:
            server._store.connection.close()


class VaultWorld:
    """One state directory, with what runs on it."""

    def __init__(self, state: Path, seed: int) -> None:
        self.state = state
        self.state.mkdir(exist_ok=True)
        self.chance = random.Random(seed)
        self.clock = ManualClock()
        self.child = InProcess(state / "vault")
        self.turns = 0
        self.lives = 0
        self.newest: Path | None = None

    async def start(self) -> None:
        """Open the ledger, and look for the first time when the probe does."""
        self.lives += 1
        self.ledger = await Ledger.open(self.state / "ledger.db", config(), self.clock, f"boot-{self.lives}")
        log = structlog.get_logger()
        child = cast("VaultChild", self.child)
        self.watch = Watch(child, self.ledger, self.state / FILE, self.clock, log)
        settings = VaultSettings(interval_seconds=60.0, full_seconds=FULL_SECONDS)
        self.probe = VaultIntegrity(settings, check=self.watch.check, clock=self.clock)
        self.orders = VaultOrders(child, self.watch)
        self.memory = MemoryOrders(child, lambda: asyncio.sleep(0, ()), self.watch)

    async def stop(self) -> None:
        await self.watch.close()
        self.child.end()
        await self.ledger.close()

    async def crash(self) -> None:
        """End without a root for the last rows, as a kill does; the ledger's file is as it was."""
        self.child.wrote = lambda: None
        await self.watch.abandon()
        self.child.end()
        await self.ledger.close()

    async def look(self) -> list[str]:
        """Let a minute pass, and return what the probe states of what is wrong."""
        self.clock.advance(60)
        found = await self.probe.sample()
        return [one.reason for one in found if one.severity is not Severity.OK and one.subsystem == DOCUMENTS]

    async def call(self, request: str, *, kept: bool = True, **arguments: object) -> dict[str, Any]:
        """Do what a tool does: on record before and after; without `kept` the record of its end is missing."""
        self.turns += 1
        turn = f"{self.turns:032x}"
        session = self.chance.choice(SESSIONS)
        opened = OpenTool(turn, "chat", request, session, 2, "W0", 0, "W0/NORMAL", bytes(32), bytes(32))
        await self.ledger.open_tool(opened)
        by = {"author": "chat", "session": session, "tier": 2, "taint": 0, "turn": turn}
        try:
            answer = await self.child.ask(request, {"by": by, "arguments": arguments})
            outcome = ToolOutcome.DONE
        except OwnToolError:
            answer, outcome = {}, ToolOutcome.FAILED
        if kept:
            head = answer.get("head")
            changed = (Effect(EFFECT, bytes.fromhex(head[0]), bytes.fromhex(head[1])),) if head else ()
            await self.ledger.close_tool(CloseTool(turn, "chat", request, session, outcome, effects=changed))
        return answer

    async def remember(self, *, kept: bool = True) -> None:
        """Have a session store a text."""
        words = " ".join(self.chance.choices(WORDS, k=12))
        name = f"n{self.chance.randrange(40)}"
        await self.call("memory_store", kept=kept, name=name, content=f"{words} {self.turns}")

    async def append(self, *, kept: bool = True) -> None:
        """Have a session append to a document."""
        path = f"logs/{self.chance.randrange(3)}.md"
        await self.call("vault_append", kept=kept, path=path, text=f"line {self.turns}")

    async def add(self, path: str, data: bytes) -> str:
        """Have a person add a document; return its digest."""
        digest = self.child.running()._documents.versions.offer(data)
        await self.orders._change("vault_add", {"path": path, "sha256": digest}, "added", "uid 0")
        return digest

    async def fill(self) -> None:
        """Store some of everything."""
        for number in range(6):
            await self.add(f"runbooks/{number}.md", f"# Book {number}\n\nwhat to do\n".encode() * 20)
        for number in range(3):
            await self.add(f"ti/{number}.json", b'{"a": [%d, "x"]}' % number)
        await self.add("runbooks/0.md", b"# Book 0\n\nanother version\n")
        await self.orders.retract("ti/2.json", "wrong", "uid 0")
        for _ in range(12):
            await self.remember()
        for _ in range(4):
            await self.append()
        await self.call("comms_post", channel="notes", text="hello to all")
        await self.call("task_create", title="fix the fan")

    def copy_to(self, place: Path) -> None:
        """Keep the vault's directory as it is now, with the times of its files."""
        shutil.rmtree(place, ignore_errors=True)
        shutil.copytree(self.child.directory, place, symlinks=True)

    def back_from(self, place: Path) -> None:
        """Put the vault's directory back; the child is to be ended before."""
        shutil.rmtree(self.child.directory)
        shutil.copytree(place, self.child.directory, symlinks=True)
