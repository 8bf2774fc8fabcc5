"""Lost messages, asked again: turns that were open when the daemon died, through the gateway, under their own key.

Oldest first, one at a time, each at most as often as configured over all runs of the daemon: an attempt is counted in
`state.db` before it is made. A message with an answer in the gateway costs nothing; one without is a new turn with a
budget and a record of its own, and the lost one is then closed at no charge: one message, one charge. A turn that
cannot be asked again is left open, counts with all that was reserved for it, and is listed for a person.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import NamedTuple, Protocol

import aiohttp
import apsw

from epad.answers import decisions
from epad.configuration.schema import RecoveryConfig
from epad.control_loop.step import Operation, Step, StepFailedError
from epad.gateway.headers import IDEMPOTENCY_HEADER
from epad.gateway.turn import TURN_HEADER
from epad.ledger.entry import CloseTurn
from epad.ledger.errors import LedgerError
from epad.ledger.record import Outcome, TurnOpened, UsageSource
from epad.storage.database import Database, DatabaseError, fetch
from statemachine.clock import Clock

REPLAY_SCHEMA = """
CREATE TABLE IF NOT EXISTS replay(
    subsystem TEXT NOT NULL, key TEXT NOT NULL, attempts INTEGER NOT NULL, utc TEXT NOT NULL, result TEXT NOT NULL,
    PRIMARY KEY (subsystem, key)) STRICT;
"""
# Counted by message, not by turn: a replay that is lost itself is another turn of the same message.
_TRY = """
INSERT INTO replay VALUES (?1, ?2, 1, ?3, 'under way')
ON CONFLICT DO UPDATE SET attempts = attempts + 1, utc = ?3, result = 'under way'
"""
_RESULT = "UPDATE replay SET utc = ?3, result = ?4 WHERE subsystem = ?1 AND key = ?2"
_ATTEMPTS = "SELECT subsystem, key, attempts, result, utc FROM replay"
_POLL_SECONDS = 0.2
_ANSWERED = "answered by turn "


class Attempts(NamedTuple):
    """Counts how often a message was asked again, with the last result."""

    number: int = 0
    result: str = ""
    utc: str = ""


Tried = Mapping[tuple[str, str], Attempts]
"""By subsystem and Idempotency-Key."""


class LostState(StrEnum):
    """Names the next step for a lost turn."""

    WAITING = "waiting"
    FOR_A_PERSON = "for a person"


@dataclass(frozen=True, slots=True)
class LostTurn:
    """Holds a lost turn, and its attempts."""

    opened: TurnOpened
    attempts: int
    state: LostState
    why: str

    def as_json(self) -> decisions.LostTurn:
        at = datetime.fromtimestamp(self.opened.wall_ns / 1e9, UTC)
        return {
            "turn": self.opened.turn,
            "subsystem": self.opened.subsystem,
            "model": self.opened.model,
            "at": at.isoformat(timespec="seconds"),
            "reserved_tokens": self.opened.reserved_tokens,
            "idempotency_key": self.opened.idempotency_key,
            "attempts": self.attempts,
            "state": self.state,
            "why": self.why,
        }


class LostLedger(Protocol):
    """The part of `epad.ledger.store.Ledger` that is used."""

    async def lost_turns(self) -> list[TurnOpened]: ...

    async def payload(self, digest: bytes) -> bytes | None: ...

    async def drop_payload(self, digest: bytes) -> None: ...

    def close_turn(self, turn: CloseTurn) -> Awaitable[int]: ...


class Keyring(Protocol):
    """The part of `epad.gateway.identity.Identities` that is used."""

    def lend(self, subsystem: str) -> str: ...

    def take_back(self, key: str) -> None: ...


class Costs(Protocol):
    """The part of `epad.gateway.costs.CostBook` that is used."""

    async def close(self, turn: str, charged_microusd: int) -> None: ...


@dataclass(frozen=True, slots=True)
class Asking:
    """Holds the needs of a replay: the stores, the gateway's URL, and the subsystems that may ask now.

    `shut` says why a subsystem may not, `ready` whether every server has started.
    """

    ledger: LostLedger
    database: Database
    keyring: Keyring
    costs: Costs
    clock: Clock
    url: Callable[[], str]
    shut: Callable[[str], str]
    ready: Callable[[], bool]


class Replay:
    """Does the `replay` step, and reports its result."""

    def __init__(self, config: RecoveryConfig, asking: Asking) -> None:
        self._config = config
        self._asking = asking
        self._one_at_a_time = asyncio.Lock()

    async def replay(self, _: Step, __: Operation) -> str:
        """Do a `replay` step; return a sentence on its result. Raises StepFailedError if no upstream can be asked."""
        try:
            async with self._one_at_a_time:
                return await self._replay_all()
        except (LedgerError, DatabaseError) as error:
            raise StepFailedError(str(error)) from error

    async def lost(self) -> list[LostTurn]:
        """Return every lost turn, oldest first. Raises LedgerError, DatabaseError."""
        tried = await self._tried()
        return [await self._judge(turn, tried) for turn in await self._asking.ledger.lost_turns()]

    async def _replay_all(self) -> str:
        await self._settle_answered()  # a former life may have died between an answer and this
        waiting = [lost for lost in await self.lost() if lost.state is LostState.WAITING]
        if waiting:
            await self._until_ready()
        answered, ends = 0, self._asking.clock.monotonic() + self._config.replay_seconds
        for lost in waiting:
            if self._asking.clock.monotonic() < ends:  # the rest is left to the next occasion
                answered += await self._replay_one(lost.opened)
        left = len(await self.lost())
        if not waiting and not left:
            return "no turn was lost"
        person = "; `epactl recovery` lists them" if left else ""
        return f"{answered} lost turn(s) answered, {left} left{person}"

    async def _until_ready(self) -> None:
        """Give the servers time to come back: an attempt against one that is starting is wasted."""
        deadline = self._asking.clock.monotonic() + self._config.ready_seconds
        while not self._asking.ready() and self._asking.clock.monotonic() < deadline:  # noqa: ASYNC110 - no one tells
            await asyncio.sleep(_POLL_SECONDS)

    async def _judge(self, turn: TurnOpened, tried: Tried) -> LostTurn:
        attempts, result, _ = tried.get(_message(turn), Attempts())

        def left_to_a_person(why: str) -> LostTurn:
            return LostTurn(turn, attempts, LostState.FOR_A_PERSON, why)

        if turn.idempotency_key is None:
            return left_to_a_person("it has no Idempotency-Key: nobody could come for its answer")
        if not turn.path:
            return left_to_a_person("an older epad recorded it, without its path")
        if attempts >= self._config.replay_attempts:
            return left_to_a_person(
                f"asked again {attempts} time(s): {result}" if attempts else "replay is off"
            )
        if await self._asking.ledger.payload(turn.request_sha256) is None:
            return left_to_a_person('its request is not kept ([ledger] payloads = "open" or "kept" keeps it)')
        shut = self._asking.shut(turn.subsystem)
        return LostTurn(turn, attempts, LostState.WAITING, shut or result or "its turn has not come")

    async def _replay_one(self, turn: TurnOpened) -> bool:
        """Ask one turn again, up to its last attempt; whether it is answered."""
        while (await self._judge(turn, await self._tried())).state is LostState.WAITING:
            if self._asking.shut(turn.subsystem):
                return False
            payload = await self._asking.ledger.payload(turn.request_sha256)
            await self._write(_TRY, (*_message(turn), self._now()))
            result = await self._ask(turn, payload or b"")
            await self._write(_RESULT, (*_message(turn), self._now(), result))
            if result.startswith(_ANSWERED):
                await self._settle_answered()
                return True
        return False

    async def _ask(self, turn: TurnOpened, payload: bytes) -> str:
        """Send one request to our own gateway; return its result."""
        key = self._asking.keyring.lend(turn.subsystem)
        headers = {
            "Authorization": f"Bearer {key}",
            "Content-Type": "application/json",
            IDEMPOTENCY_HEADER: turn.idempotency_key or "",
        }
        timeout = aiohttp.ClientTimeout(total=self._config.replay_seconds)
        try:
            async with (
                aiohttp.ClientSession(timeout=timeout) as session,
                session.post(self._asking.url() + turn.path, data=payload, headers=headers) as answer,
            ):
                body = await answer.read()
                if answer.status != 200:
                    return f"answered {answer.status}: {body[:200].decode(errors='replace')}"
                return _ANSWERED + answer.headers.get(TURN_HEADER.decode(), "?")
        except TimeoutError:
            return f"no answer within {self._config.replay_seconds:g} s"
        except aiohttp.ClientError as error:
            return f"no answer: {error}"
        finally:
            self._asking.keyring.take_back(key)

    async def _settle_answered(self) -> None:
        """Close every lost turn of a message that has its answer: a replay that was lost itself is one, too."""
        tried, settled, open_still = await self._tried(), set[bytes](), set[bytes]()
        for turn in await self._asking.ledger.lost_turns():
            last = tried.get(_message(turn), Attempts())
            if last.result.startswith(_ANSWERED) and _stamp_of(turn) <= last.utc:
                await self._settle(turn, last.result.removeprefix(_ANSWERED))
                settled.add(turn.request_sha256)
            else:
                open_still.add(turn.request_sha256)
        for digest in settled - open_still:
            await self._asking.ledger.drop_payload(digest)

    async def _settle(self, turn: TurnOpened, replayed: str) -> None:
        """Close a lost turn: its charge is the replay's.

        One whose own answer was kept was paid for, and only its closing was lost, with the count of its tokens: it
        is charged all that was reserved.
        """
        answered_itself = replayed == turn.turn
        what = "its answer was kept" if answered_itself else f"replayed as {replayed}"
        closing = CloseTurn(
            turn=turn.turn,
            subsystem=turn.subsystem,
            outcome=Outcome.CUT,
            input_tokens=0,
            output_tokens=0,
            charged_tokens=turn.reserved_tokens if answered_itself else 0,
            usage_source=UsageSource.RESERVED if answered_itself else UsageSource.COUNTED,
            reason=f"lost with the daemon; {what}",
        )
        await self._asking.ledger.close_turn(closing)
        await self._asking.costs.close(turn.turn, turn.reserved_microusd if answered_itself else 0)

    async def _tried(self) -> Tried:
        rows = await self._asking.database.read(lambda connection: fetch(connection, _ATTEMPTS))
        return {(subsystem, key): Attempts(*told) for subsystem, key, *told in rows}

    async def _write(self, statement: str, bindings: tuple[str, ...]) -> None:
        def work(connection: apsw.Connection) -> None:
            connection.execute(statement, bindings)

        await self._asking.database.write(work)

    def _now(self) -> str:
        return _stamp(self._asking.clock.utc())


def _stamp(at: datetime) -> str:
    return at.astimezone(UTC).isoformat(timespec="milliseconds")


def _stamp_of(turn: TurnOpened) -> str:
    return _stamp(datetime.fromtimestamp(turn.wall_ns / 1e9, UTC))


def _message(turn: TurnOpened) -> tuple[str, str]:
    return turn.subsystem, turn.idempotency_key or ""
