"""Answer a call that repeats another one as that was answered: whatever changes anything is done once for a key.

A key is the caller's own, or is made of the model's turn that asked, the tool and the arguments. It belongs to the
session; that of a client, which has no process here, to its subsystem, since a restart of the daemon begins another
session for it. A call that reads is done each time.

| the call of that key | a repeat with the same tool and arguments |
|---|---|
| is under way | waits, and gets the same answer |
| has ended, its answer is kept | gets the same answer, also from a later run of the daemon |
| has ended, its answer is not kept | `already_done` or `already_ended`, by the ledger |
| was begun by a run that was killed | `end_unknown`, by the ledger |
| was refused, or no worker had it: nothing was done | is done |

A repeat with another tool or other arguments is refused (`key_reused`). Nothing is done a second time under its key,
by itself or otherwise, within the bounds below.

Bounds: a key is known for KEPT_SECONDS, MOST_CALLS of a subsystem, the newest; their answers together have MOST_BYTES,
the oldest go first. Of the runs before this one the ledger is asked for MOST_CALLS calls, MOST_RECORDS records back.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass
from hashlib import sha256
from typing import Final, Protocol, TypeVar

import apsw
import msgspec
from structlog.typing import FilteringBoundLogger

from epad.gate.tool_risk import ToolRisk
from epad.ledger.query import records_of_turn, tools_opened
from epad.ledger.record import ToolClosed, ToolOpened, ToolOutcome
from epad.storage.database import Database, DatabaseError, fetch
from epad.tools import answers
from epad.tools.protocol import ToolAnswer
from epad.tools.sessions import Session
from statemachine.clock import Clock

KEPT_SECONDS: Final = 86_400.0
MOST_CALLS: Final = 10_000
MOST_BYTES: Final = 16 << 20
MOST_RECORDS: Final = 100_000
TOOL_ANSWER_SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS tool_answer (
  id INTEGER PRIMARY KEY,
  subsystem TEXT NOT NULL,
  scope TEXT NOT NULL,
  key TEXT NOT NULL,
  call_sha256 BLOB NOT NULL,
  turn TEXT NOT NULL,
  answer BLOB,
  wall_ns INTEGER NOT NULL,
  UNIQUE (subsystem, scope, key)
) STRICT;
"""
_FIND: Final = (
    "SELECT call_sha256, turn, answer FROM tool_answer "
    "WHERE subsystem = ? AND scope = ? AND key = ? AND wall_ns >= ?"
)
_KEEP: Final = "INSERT OR REPLACE INTO tool_answer VALUES (NULL, ?, ?, ?, ?, ?, ?, ?)"
_EXPIRE: Final = "DELETE FROM tool_answer WHERE wall_ns < ?"
_FORGET: Final = """
DELETE FROM tool_answer WHERE subsystem = ?1 AND id <= (
  SELECT id FROM tool_answer WHERE subsystem = ?1 ORDER BY id DESC LIMIT 1 OFFSET ?2)
"""
_EMPTY: Final = """
UPDATE tool_answer SET answer = NULL WHERE subsystem = ?1 AND answer IS NOT NULL AND id <= (
  SELECT max(id) FROM (
    SELECT id, sum(length(answer)) OVER (ORDER BY id DESC) AS kept FROM tool_answer
    WHERE subsystem = ?1 AND answer IS NOT NULL) WHERE kept > ?2)
"""
_TIDY_CALLS: Final = 64
_TIDY_BYTES: Final = 1 << 20
_MOST_TOLD: Final = 5
DONE_ONCE: Final = frozenset(
    {
        ToolRisk.APPENDS,
        ToolRisk.CHANGES_WORKSPACE,
        ToolRisk.DELETES,
        ToolRisk.SENDS,
        ToolRisk.RUNS_CODE,
        ToolRisk.RUNS_CONTAINER,
        ToolRisk.USES_SECRET,
    }
)
_NOTHING_DONE: Final = frozenset({"no_worker"})
T = TypeVar("T")
Name = tuple[str, str, str]
"""Subsystem, scope and key."""


class PastCalls(Protocol):
    """The part of `epad.ledger.store.Ledger` that is read for calls of before."""

    @property
    def epoch(self) -> int: ...

    async def read(self, work: Callable[[apsw.Connection], T]) -> T:
        """Raises LedgerError."""
        ...


@dataclass(frozen=True, slots=True)
class Keyed:
    """Holds the facts of a call that its key is about. `parent` is the model's turn that asked, if that is known."""

    session: Session
    turn: str
    tool: str
    risk: ToolRisk
    arguments_sha256: bytes
    key: str | None
    parent: str
    read: Callable[[], None] = lambda: None
    """Labels the session, which is given the answer."""

    @property
    def call_sha256(self) -> bytes:
        """Return what another call under the key must be equal in."""
        return _call_sha256(self.tool, self.arguments_sha256)

    @property
    def name(self) -> Name | None:
        """Return the key with its owner; None where the call has none, or is done each time."""
        key = _key_of(self.key, self.parent, self.call_sha256)
        return (self.session.subsystem, self.session.scope, key) if key and self.risk in DONE_ONCE else None


@dataclass(frozen=True, slots=True)
class PastCall:
    """Names a call of before. `wall_ns` is when it was begun."""

    call_sha256: bytes
    turn: str
    wall_ns: int


@dataclass(frozen=True, slots=True)
class KeyReused:
    """Tells that a key was used before with another tool or other arguments."""

    code: str = "key_reused"
    why: str = "this idempotency key was used for another call: another tool, or other arguments"
    hint: str = "a call of its own has a key of its own"


class Claim:
    """A key while its call is under way. `joined` counts the repeats that wait for its answer."""

    def __init__(self, repeats: Repeats, name: Name, call: Keyed) -> None:
        self.name = name
        self.call = call
        self.joined = 0
        self.is_carried_out = False
        """Once it is, `end` comes in any case, also where the caller has gone."""
        self.ended: asyncio.Future[ToolAnswer | None] = asyncio.get_running_loop().create_future()
        self._repeats = repeats

    async def end(self, answer: ToolAnswer | None, *, was_begun: bool) -> None:
        """Keep the answer of a call that may have done anything. None: a fault of epad's own."""
        try:
            if was_begun:
                await self._repeats.keep(self, answer)
        finally:
            self._repeats.release(self, answer)


class Repeats:
    """The keys of calls that are under way, and the answers of those that have ended."""

    def __init__(
        self, database: Database, ledger: PastCalls, clock: Clock, log: FilteringBoundLogger
    ) -> None:
        self._database = database
        self._ledger = ledger
        self._clock = clock
        self._log = log
        self._under_way: dict[Name, Claim] = {}
        self._past: Mapping[Name, PastCall] | None = None
        self._not_kept: dict[Name, PastCall] = {}
        self._calls = self._bytes = 0

    async def once(
        self, call: Keyed, make: Callable[[Claim | None], Awaitable[ToolAnswer]]
    ) -> ToolAnswer | KeyReused:
        """Return the answer of the call that this one repeats, or `make` it.

        Raises DatabaseError, LedgerError: it cannot be told if the key was used before, and nothing was done.
        """
        name = call.name
        if name is None:
            return await make(None)
        while (other := self._under_way.get(name)) is not None:
            if other.call.call_sha256 != call.call_sha256:
                return KeyReused()
            other.joined += 1
            try:
                answer = await asyncio.shield(other.ended)
            finally:
                other.joined -= 1
            if answer is not None:
                return self._repeated(call, answer)
        # Claimed before the disk is asked: nobody else gets in between.
        claim = self._under_way[name] = Claim(self, name, call)
        made: ToolAnswer | None = None
        try:
            found = await self._find(name, call.call_sha256)
            if isinstance(found, KeyReused):
                return found
            made = found or await make(claim)
        finally:
            if not claim.is_carried_out:
                self.release(claim, made)
        return self._repeated(call, made) if found else made

    def release(self, claim: Claim, answer: ToolAnswer | None) -> None:
        """Let those who wait have the answer; None: they try by themselves."""
        if self._under_way.get(claim.name) is claim:
            del self._under_way[claim.name]
        if not claim.ended.done():
            claim.ended.set_result(answer)

    async def keep(self, claim: Claim, answer: ToolAnswer | None) -> None:
        """Keep an answer, on the disk when this returns; without it, that the call was begun."""
        name, call = claim.name, claim.call
        encoded = None if answer is None else msgspec.json.encode(answer)
        row = (*name, call.call_sha256, call.turn, encoded, self._now_ns())
        self._calls, self._bytes = self._calls + 1, self._bytes + len(encoded or b"")
        is_due = self._calls >= _TIDY_CALLS or self._bytes >= _TIDY_BYTES
        if is_due:
            self._calls = self._bytes = 0

        def work(connection: apsw.Connection) -> None:
            connection.execute(_KEEP, row)
            if is_due:
                connection.execute(_EXPIRE, (self._oldest_ns(),))
                connection.execute(_FORGET, (name[0], MOST_CALLS))
                connection.execute(_EMPTY, (name[0], MOST_BYTES))

        try:
            await self._database.write(work)
        except DatabaseError as error:
            self._not_kept[name] = PastCall(call.call_sha256, call.turn, self._now_ns())
            if len(self._not_kept) > MOST_CALLS:
                del self._not_kept[next(iter(self._not_kept))]
            self._log.error("tool.answer_not_kept", turn=call.turn, subsystem=name[0], error=str(error))

    def _repeated(self, call: Keyed, answer: ToolAnswer) -> ToolAnswer:
        self._log.info("tool.repeated", subsystem=call.session.subsystem, tool=call.tool, turn=answer.turn)
        call.read()
        return answer

    async def _find(self, name: Name, call_sha256: bytes) -> ToolAnswer | KeyReused | None:
        """Return the answer of a call of before; None: there was none, or it did nothing."""
        bindings = (*name, self._oldest_ns())
        rows = await self._database.read(lambda connection: fetch(connection, _FIND, bindings))
        if rows:
            known, turn, answer = rows[0]
        else:
            past = self._not_kept.get(name) or (await self._opened_before()).get(name)
            if past is None or past.wall_ns < self._oldest_ns():
                return None
            known, turn, answer = past.call_sha256, past.turn, None
        if known != call_sha256:
            return KeyReused()
        return await self._by_ledger(turn) if answer is None else _read_answer(answer)

    async def _opened_before(self) -> Mapping[Name, PastCall]:
        """Return the calls with a key that earlier runs have begun, read once: their answers may be lost."""
        if self._past is None:
            since, epoch = self._oldest_ns(), self._ledger.epoch
            self._past = await self._ledger.read(
                lambda connection: _by_name(
                    one
                    for one in tools_opened(connection, since, MOST_RECORDS, MOST_CALLS)
                    if one.epoch < epoch
                )
            )
        return self._past

    async def _by_ledger(self, turn: str) -> ToolAnswer | None:
        """Say by the ledger how a call ended whose answer is lost; None: it did nothing."""
        records = await self._ledger.read(lambda connection: list(records_of_turn(connection, turn)))
        closed = next((one for one in records if isinstance(one, ToolClosed)), None)
        return _of_the_past(turn, closed)

    def _now_ns(self) -> int:
        return int(self._clock.utc().timestamp() * 1e9)

    def _oldest_ns(self) -> int:
        return self._now_ns() - int(KEPT_SECONDS * 1e9)


def _of_the_past(turn: str, closed: ToolClosed | None) -> ToolAnswer | None:
    look = "look at what is there; under another key it is done anew"
    if closed is None:
        why = f"the call was begun before, as turn {turn}, and its end is unknown: the daemon was ended meanwhile"
        return _error(turn, why, look, "end_unknown")
    if closed.reason in _NOTHING_DONE:
        return None
    if closed.outcome is not ToolOutcome.DONE:
        why = f"the call was made before, as turn {turn}, and ended as {closed.outcome} ({closed.reason})"
        return _error(turn, why, look, "already_ended")
    changed = ", ".join(repr(effect.target) for effect in closed.effects[:_MOST_TOLD])
    told = f"; it changed {changed}" if changed else ""
    why = f"the call was done before, as turn {turn}; its result is not kept{told}"
    return _error(turn, why, look, "already_done")


def _error(turn: str, why: str, hint: str, code: str) -> ToolAnswer:
    return ToolAnswer(turn, is_error=True, content=answers.error(why, hint), reason_code=code)


def _read_answer(answer: bytes) -> ToolAnswer:
    return msgspec.json.decode(answer, type=ToolAnswer)


def _by_name(opened: Iterable[ToolOpened]) -> Mapping[Name, PastCall]:
    """Return calls by their keys, the newest of each; a client's are looked for without a session."""
    found: dict[Name, PastCall] = {}
    for one in opened:
        call = _call_sha256(one.tool, one.arguments_sha256)
        key = _key_of(one.idempotency_key, one.parent, call)
        if key and one.risk in DONE_ONCE:
            past = PastCall(call, one.turn, one.wall_ns)
            found.setdefault((one.subsystem, one.session, key), past)
            found.setdefault((one.subsystem, "", key), past)
    return found


def _key_of(key: str | None, parent: str, call_sha256: bytes) -> str:
    if key:
        return f"key {key}"
    return f"parent {parent} {call_sha256.hex()}" if parent else ""


def _call_sha256(tool: str, arguments_sha256: bytes) -> bytes:
    return sha256(tool.encode() + b"\0" + arguments_sha256).digest()
