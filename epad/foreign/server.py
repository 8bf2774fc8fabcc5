"""Keep one foreign server: started, greeted, its list compared with the pins, its calls passed on, restarted.

| state | entered by | its calls |
|---|---|---|
| starting | the daemon's start, a crash, a reload | wait, WAIT_SECONDS at most |
| up | its list is as pinned, or was never seen before and is pinned now | are passed on |
| held | its list is not as pinned, or its pins cannot be read | are refused until a person accepts its list |
| down | it could not be started, or has ended again and again | fail at once, until the next try |

A server whose list is as it was pinned again is held no more. Its definitions are looked at when it starts, when it
says that they have changed, and before a call if the last look is older than FRESH_SECONDS. What agents see is pinned,
so whatever a server says meanwhile reaches nobody.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Final, Protocol

from structlog.typing import FilteringBoundLogger

from epad import EpadError
from epad.configuration.servers_schema import ServerConfig
from epad.foreign.definitions import Pinned, digest_of
from epad.foreign.dialogue import LATEST_LEGACY, Asking, Dialogue, Seen
from epad.foreign.drift import Drift, drift_of
from epad.foreign.errors import NoAnswerError, NotSentError, ServerError, ServerLostError
from epad.foreign.pins import Pins, PinStore
from epad.foreign.scan import Remark, remarks
from epad.storage.event_log import EventKind
from epad.tools.shown import cut
from statemachine.tool_targets import category_target

FRESH_SECONDS: Final = 5.0
WAIT_SECONDS: Final = 20.0
PING_SECONDS: Final = 5.0
SETTLE_SECONDS: Final = 0.3
"""A list that was never seen is looked at twice: some servers add tools once they know their client."""
FIRST_BACKOFF: Final = 0.5
MOST_BACKOFF: Final = 60.0
HEALTHY_SECONDS: Final = 60.0
MOST_TRIES: Final = 3
"""How often a call waits for the next start: it is passed on once, at most."""
FIRST_USE: Final = "first use"
_MOST_TROUBLE: Final = 500


class State(StrEnum):
    """Names the states of a server."""

    STARTING = "starting"
    UP = "up"
    HELD = "held"
    DOWN = "down"


class Link(Protocol):
    """A connection to a server; `ended` resolves, with the reason, when it is over."""

    asking: Asking
    ended: asyncio.Future[str]
    pid: int | None
    missing: Mapping[str, str]

    async def close(self, why: str) -> None:
        """End it. Returns when it is over."""
        ...


Connect = Callable[[str, Callable[[], None]], Any]
"""Connects to a server by its name; the second is called when its list has changed. Awaits a Link."""


class Records(Protocol):
    """Puts changes of pins on the record. Each raises LedgerError."""

    async def pinned(
        self, server: str, before: str, after: str, why: str, write: Callable[[], None]
    ) -> None: ...

    async def drifted(self, server: str, before: str, after: str, what: str) -> None: ...


@dataclass(frozen=True, slots=True)
class ServerContext:
    """Gives a server its parts. `config` returns its table as of now; `changed` is called when its pins have changed.

    `others` returns the names of tools that are not its own; `emit` records an event of a server.
    """

    config: Callable[[], ServerConfig]
    connect: Connect
    pins: PinStore
    records: Records
    emit: Callable[..., None]
    changed: Callable[[], None]
    others: Callable[[], frozenset[str]]
    log: FilteringBoundLogger
    utc: Callable[[], float] = time.time
    wait_seconds: float = WAIT_SECONDS
    """How long a call waits for a server that is being started."""
    fresh_seconds: float = FRESH_SECONDS
    ping_seconds: float = PING_SECONDS
    is_pinning: bool = True
    """Off in one place alone: the control of the tests, which shows what pinning keeps out."""


@dataclass(slots=True)
class Facts:
    """Holds what is known of a server as of now, for who looks."""

    state: State = State.STARTING
    trouble: str = ""
    restarts: int = 0
    pid: int | None = None
    version: str = ""
    identity: str = ""
    missing: Mapping[str, str] = field(default_factory=dict)
    unfit: tuple[str, ...] = ()
    drift: Drift = field(default_factory=Drift)
    seen_sha256: str = ""


class ForeignServer:
    """One server, from `run` to its end."""

    def __init__(self, name: str, context: ServerContext) -> None:
        self.name = name
        self.facts = Facts()
        self.remarks: tuple[Remark, ...] = ()
        self.pins: Pins | None = None
        self._context = context
        self._subject = category_target(name)
        self._seen: Seen | None = None
        self._pins_fault = ""
        self._link: Link | None = None
        self._dialogue: Dialogue | None = None
        self._known = asyncio.Event()
        self._looking = asyncio.Lock()
        self._looked_at = float("-inf")
        self._is_stale = True
        self._side: set[asyncio.Task[None]] = set()
        self._told = ""
        self._load()

    @property
    def tools(self) -> tuple[Pinned, ...]:
        """Return the tools that agents see: those that are pinned."""
        return () if self.pins is None else self.pins.tools

    @property
    def seen(self) -> tuple[Pinned, ...]:
        """Return the tools that it lists now, if it has listed any."""
        return () if self._seen is None else self._seen.tools

    @property
    def held(self) -> str:
        """Say why its calls are refused; empty if they are not."""
        return self.facts.trouble if self.facts.state is State.HELD else ""

    async def run(self) -> None:
        """Keep it running until cancelled."""
        loop = asyncio.get_running_loop()
        crashes = 0
        try:
            while True:
                began = loop.time()
                why = await self._live()
                crashes = 1 if loop.time() - began >= HEALTHY_SECONDS else crashes + 1
                self._down(why)
                wait = 0.0 if crashes == 1 else min(MOST_BACKOFF, FIRST_BACKOFF * 2 ** (crashes - 2))
                self._context.log.warning(
                    "foreign.ended", server=self.name, reason=self.facts.trouble, restart_in=wait
                )
                if wait:
                    self._known.set()  # who waits is told now
                    await asyncio.sleep(wait)
                self.facts.restarts += 1
                self.facts.state = State.STARTING
                self._known.clear()
        finally:
            await self._close("epad ends it")

    async def call(self, tool: str, arguments: Mapping[str, Any]) -> dict[str, Any]:
        """Return a tool's result as the server gives it. Raises ServerError.

        It has no time of its own: whoever calls cancels it, and the server is told.
        """
        for _ in range(MOST_TRIES):
            try:
                dialogue = await self._looked()
            except ServerLostError:  # it has ended just now, and nothing was done
                self._forget()
                continue
            try:
                return await dialogue.call(tool, arguments, 2 * self._context.config().call_seconds)
            except NotSentError:
                self._forget()
            except asyncio.CancelledError:
                self._later(self._still_lives(dialogue))
                raise
        raise ServerError(f"it has ended again and again: {self.facts.trouble}")

    async def accept(self, sha256: str, by: str, reason: str) -> str:
        """Pin what it lists now, which has this digest, or any where it is empty; return a sentence.

        Raises ServerError, LedgerError, OSError.
        """
        seen = self._seen
        if seen is None:
            why = self.facts.trouble or "it has told no list yet"
            raise ServerError(f"{self.name} lists nothing now, so there is nothing to accept: {why}")
        digest = digest_of(seen.tools)
        if sha256 and sha256 != digest:
            raise ServerError(f"{self.name} lists something else by now ({digest[:16]}): look at it again")
        if self.pins is not None and self.pins.sha256 == digest:
            return f"{self.name}: its {len(seen.tools)} tools are accepted already"
        await self._pin(seen, by, reason)
        self._pins_fault = ""
        self._judge_again(seen)
        return f"{self.name}: {len(seen.tools)} tools are accepted"

    def list_changed(self) -> None:
        """Look at the list anew, soon, and in any case before the next call."""
        if self._is_stale:
            return
        self._is_stale = True
        self._later(self._look_soon())

    # Its life.

    async def _live(self) -> str:
        """Connect, greet, and wait for the end; return why it has ended."""
        config = self._context.config()
        try:
            link: Link = await self._context.connect(self.name, self.list_changed)
        except (EpadError, OSError) as error:
            return f"it cannot be started: {error}"
        self._link, self.facts.pid, self.facts.missing = link, link.pid, link.missing
        try:
            async with asyncio.timeout(config.start_seconds):
                await self._greet(link, config.start_seconds)
        except TimeoutError:
            why = f"it has not told its tools within {config.start_seconds:g} s"
            await self._close(why)
            return why
        except (EpadError, OSError) as error:
            why = link.ended.result() if link.ended.done() else str(error)
            if link.ended.done() and not self.facts.version:
                self.facts.version = (
                    LATEST_LEGACY  # some end when they are asked for anything before `initialize`
                )
            await self._close(why)
            return why
        why = await asyncio.shield(link.ended)
        await self._close(why)
        return why

    async def _greet(self, link: Link, seconds: float) -> None:
        dialogue = Dialogue(link.asking)
        era = self.facts.version or ("" if self.pins is None else self.pins.version)
        await dialogue.begin(seconds, era=era)
        self.facts.version, self.facts.identity = dialogue.version, dialogue.identity
        self._is_stale = False
        seen = await dialogue.list(seconds)
        if self.pins is None and not self._pins_fault:
            await asyncio.sleep(SETTLE_SECONDS)
            seen = await dialogue.list(seconds)
        await self._judge(seen)
        self._dialogue = dialogue
        self._known.set()
        self._context.log.info(
            "foreign.greeted", server=self.name, state=self.facts.state, version=dialogue.version,
            identity=dialogue.identity, tools=len(seen.tools),
        )  # fmt: skip

    async def _ready(self) -> Dialogue:
        """Return the conversation, once it is known how the server is. Raises ServerError."""
        try:
            async with asyncio.timeout(self._context.wait_seconds):
                await self._known.wait()
        except TimeoutError:
            why = f": {self.facts.trouble}" if self.facts.trouble else ""
            raise ServerError(f"it has not started within {self._context.wait_seconds:g} s{why}") from None
        if self.held:
            raise ServerError(self.held)
        if self._dialogue is None:
            if not self._known.is_set():
                raise ServerLostError("it has ended meanwhile")
            raise ServerError(f"it is not there now: {self.facts.trouble}")
        return self._dialogue

    async def _looked(self) -> Dialogue:
        """Return the conversation, once the list was compared. Raises ServerError, ServerLostError to try again."""
        dialogue = await self._ready()
        await self._look_again()
        if self.held:
            raise ServerError(self.held)
        if self._dialogue is not dialogue:
            raise ServerLostError("it was started anew meanwhile")
        return dialogue

    def _forget(self) -> None:
        """Have calls wait for the next start: the connection has ended, and `run` is about to see that."""
        if self._link is not None and self._link.ended.done():
            self._dialogue = None
            self._known.clear()

    def _down(self, why: str) -> None:
        self.facts.state, self.facts.trouble = State.DOWN, cut(why, _MOST_TROUBLE)
        self.facts.pid = None
        self._known.clear()

    async def _close(self, why: str) -> None:
        link, self._link, self._dialogue = self._link, None, None
        self._known.clear()
        for task in self._side:
            task.cancel()
        if link is not None:
            await link.close(why)

    # Its definitions.

    async def _look_again(self) -> None:
        """Have the list compared with the pins, unless that was done just now. Raises ServerError."""
        loop = asyncio.get_running_loop()
        async with self._looking:
            if not self._is_stale and loop.time() - self._looked_at < self._context.fresh_seconds:
                return
            dialogue = self._dialogue
            if dialogue is None:
                raise ServerLostError("it has ended meanwhile")
            self._is_stale = False
            try:
                seen = await dialogue.list(self._context.config().start_seconds)
            except ServerError:
                self._is_stale = True
                raise
            if self._dialogue is dialogue:
                await self._judge(seen)

    async def _look_soon(self) -> None:
        await asyncio.sleep(SETTLE_SECONDS)
        with suppress(ServerError):
            await self._look_again()

    async def _judge(self, seen: Seen) -> None:
        """Compare a list with the pins; pin one that was never seen, unless it hides something."""
        self._looked_at = asyncio.get_running_loop().time()
        self._seen = seen
        self.facts.unfit, self.facts.seen_sha256 = seen.unfit, digest_of(seen.tools)
        self.remarks = tuple(
            remark for one in seen.tools for remark in remarks(one.name, one.texts, self._context.others())
        )
        fault = self._pins_fault
        if self.pins is None and not fault and not any(one.hidden for one in self.remarks):
            try:
                await self._pin(seen, FIRST_USE, "")
            except (EpadError, OSError) as error:
                fault = f"its definitions could not be pinned: {error}"
        self._judge_again(seen, fault)
        if held := self.held:
            await self._tell(held)
        elif self._told:
            self._told = ""
            why = "its definitions are as they were accepted again"
            self._context.emit(EventKind.DEFINITIONS_RELEASED, self._subject, reason=why)

    def _judge_again(self, seen: Seen, fault: str = "") -> None:
        """Take the state that a list makes."""
        pinned = self.pins
        self.facts.drift = Drift() if pinned is None else drift_of(pinned.tools, seen.tools)
        why = fault
        if not why and pinned is None:
            hidden = ", ".join(one.tool for one in self.remarks if one.hidden)
            why = f"never accepted, and texts of its tools have hidden characters: {hidden}"
        elif not why and self.facts.drift and self._context.is_pinning:
            why = f"its definitions are not as they were accepted: {self.facts.drift.sentence}"
        self.facts.trouble = cut(why, _MOST_TROUBLE)
        self.facts.state = State.HELD if why else State.UP

    async def _tell(self, held: str) -> None:
        """Put a hold on the record; once for each list."""
        if self._told == self.facts.seen_sha256:
            return
        self._context.log.warning("foreign.held", server=self.name, reason=held)
        self._told = self.facts.seen_sha256
        self._context.emit(
            EventKind.DEFINITIONS_HELD, self._subject, reason=held, sha256=self.facts.seen_sha256
        )
        try:
            before = "" if self.pins is None else self.pins.sha256
            await self._context.records.drifted(self.name, before, self.facts.seen_sha256, held)
        except EpadError as error:
            self._context.log.error("foreign.not_recorded", server=self.name, error=str(error))

    async def _pin(self, seen: Seen, by: str, reason: str) -> None:
        """Pin a list, on the record first. Raises LedgerError, OSError."""
        pins = Pins(
            seen.tools,
            digest_of(seen.tools),
            by,
            self._context.utc(),
            reason,
            seen.version,
            seen.identity,
        )
        before = "" if self.pins is None else self.pins.sha256
        why = f"{by}: {reason}" if reason else by
        await self._context.records.pinned(
            self.name, before, pins.sha256, why, lambda: self._context.pins.write(self.name, pins)
        )
        self.pins = pins
        odd = [f"{one.tool} {one.text}" for one in self.remarks]
        self._context.emit(
            EventKind.DEFINITIONS_PINNED, self._subject, by=by, reason=reason, sha256=pins.sha256,
            tools=len(seen.tools), remarks=odd,
        )  # fmt: skip
        self._context.changed()

    def _load(self) -> None:
        try:
            self.pins = self._context.pins.read(self.name)
        except ServerError as error:
            self._pins_fault = f"{error}; `epactl tools accept {self.name}` pins what it lists now"

    # Whether it still answers.

    async def _still_lives(self, dialogue: Dialogue) -> None:
        """End a server that does not answer a ping either, after a call that was given up: it is started anew."""
        try:
            await dialogue.ping(self._context.ping_seconds)
        except NoAnswerError:
            if self._dialogue is dialogue and self._link is not None:
                await self._link.close("it answers nothing any more, not even a ping")
        except (ServerLostError, ServerError):
            return

    def _later(self, work: Any) -> None:
        task = asyncio.get_running_loop().create_task(work, name=f"foreign-{self.name}")
        self._side.add(task)
        task.add_done_callback(self._side.discard)
