"""Undo what calls of tools have changed, by a worker in the subsystem's cell: the daemon never writes in a workspace.

An undo is a turn of its own, below the turn that it undoes: recorded before it begins and at its end, with who ordered
it and why. It needs no gate's row: a person orders it on the control socket, also while the subsystem is held.

| after a call that | the daemon |
|---|---|
| ended, however | says in its record if it can be undone |
| was killed | removes the temporary files that it has left |
| died with the daemon | removes them too, and looks which of its changes were made |
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from hashlib import sha256
from typing import Final, Protocol

import msgspec
from msgspec import Struct
from msgspec.structs import replace
from structlog.typing import FilteringBoundLogger

from epad import EpadError
from epad.gate.tiers import Tier
from epad.gate.tool_risk import READS, ToolRisk
from epad.ledger.entry import CloseTool, OpenTool, TurnNames
from epad.ledger.record import ToolOpened, ToolOutcome
from epad.tools import answers
from epad.tools.answers import End
from epad.tools.running import Running
from epad.tools.sessions import Session
from epad.tools.undo_store import UndoStore, call_name
from epad.tools.worker import WorkerAnswer
from epad.tools.workers import Workers

TOOL: Final = "undo"
ROW: Final = "order/undo"
"""Stands in the record in the place of a row of the gate's table."""
_CATEGORY: Final = "files"
_SECONDS: Final = 60.0
_OUTPUT_BYTES: Final = 256 << 10
_REASON_CHARACTERS: Final = 600
_NO_DEFINITION: Final = bytes(32)
_ENDS_IN_ORDER: Final = frozenset({ToolOutcome.DONE, ToolOutcome.REFUSED})


class UndoError(EpadError):
    """A call cannot be undone; the message says why."""


class UndoLedger(Protocol):
    """The part of the ledger that an undo is recorded in."""

    def open_tool(self, tool: OpenTool) -> asyncio.Future[int]: ...

    def close_tool(self, tool: CloseTool) -> asyncio.Future[int]: ...


class Found(Struct, frozen=True):
    """Names the paths that a call has changed by what was found at them (`runners/tools/undoing.py`)."""

    restored: list[str] = []
    as_before: list[str] = []
    changed_since: list[str] = []
    not_kept: list[str] = []
    tidied: list[str] = []


class Changed(Struct, frozen=True):
    """Names a tool's turn that may have changed files."""

    turn: str
    subsystem: str
    session: str
    tool: str


@dataclass(frozen=True, slots=True)
class Undoing:
    """Looks at what calls have changed, and undoes it. `now` is the time by which turns are named."""

    store: UndoStore
    workers: Workers
    ledger: UndoLedger
    now: Callable[[], float]
    log: FilteringBoundLogger
    _names: TurnNames
    _tasks: set[asyncio.Task[None]]

    @classmethod
    def make(
        cls,
        store: UndoStore,
        workers: Workers,
        ledger: UndoLedger,
        now: Callable[[], float],
        log: FilteringBoundLogger,
    ) -> Undoing:
        """Make one."""
        return cls(store, workers, ledger, now, log, TurnNames(), set())

    def ended(self, session: Session, turn: str, risk: ToolRisk, end: End) -> End:
        """Return the end of a call with its undo, and remove what a killed one has left."""
        if risk in READS:
            return end
        changed = Changed(turn, session.subsystem, session.name, "")
        if end.outcome not in _ENDS_IN_ORDER and self._has(changed, "temporaries"):
            task = asyncio.create_task(self._tidy(changed), name=f"tidy-{turn}")
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        return replace(end, undo=turn) if self._has(changed) else end

    def can_undo(self, changed: Changed) -> bool:
        """Tell if before-images of a call are kept."""
        return self._has(changed)

    async def look(self, changed: Changed) -> Found:
        """Return what an undo would find, and change nothing. Raises UndoError."""
        return _found(await self._ask(changed, "look", ""))

    async def undo(self, changed: Changed, reason: str, by: str) -> Found:
        """Undo one call, and record that. Raises UndoError, LedgerError."""
        turn = self._names(self.now())
        await self.ledger.open_tool(_opening(turn, changed))
        try:
            answer = await self._ask(changed, "", call_name(changed.session, turn))
        except UndoError as error:
            answer = WorkerAnswer(None, error=str(error), ended="error")
        end = answers.end_of(answer, Running())
        await self.ledger.close_tool(_closing(turn, changed, end, f"{by}: {reason}"))
        return _found(answer)

    async def after_crash(self, opened: ToolOpened) -> Found | None:
        """Remove what a call has left that the daemon died in, and look at its changes; None if nothing was kept."""
        changed = Changed(opened.turn, opened.subsystem, opened.session, opened.tool)
        if self._has(changed, "temporaries"):
            await self._tidy(changed)
        return await self.look(changed) if self._has(changed) else None

    async def close(self) -> None:
        """Wait for what is being removed."""
        while self._tasks:
            await asyncio.wait(self._tasks)

    def _has(self, changed: Changed, name: str = "journal") -> bool:
        return self.store.has(changed.subsystem, changed.session, changed.turn, name)

    async def _tidy(self, changed: Changed) -> None:
        try:
            found = _found(await self._ask(changed, "tidy", ""))
        except UndoError as error:
            self.log.error(
                "tool.not_tidied", turn=changed.turn, subsystem=changed.subsystem, error=str(error)
            )
            return
        if found.tidied:
            self.log.info("tool.tidied", turn=changed.turn, subsystem=changed.subsystem, removed=found.tidied)

    async def _ask(self, changed: Changed, only: str, own: str) -> WorkerAnswer:
        """Have a worker do it. Raises UndoError."""
        try:
            worker = await self.workers.lend(changed.subsystem, _CATEGORY)
        except (EpadError, OSError, KeyError) as error:
            raise UndoError(f"no worker of {changed.subsystem} could be started: {error}") from error
        try:
            asked = worker.undo(call_name(changed.session, changed.turn), only, own, _SECONDS, _OUTPUT_BYTES)
            return await asked.within(2 * _SECONDS)
        except (EpadError, TimeoutError) as error:
            raise UndoError(f"the worker of {changed.subsystem} gave no answer: {error}") from error
        finally:
            self.workers.give_back(changed.subsystem, _CATEGORY, worker)


def _found(answer: WorkerAnswer) -> Found:
    """Return what a worker tells. Raises UndoError."""
    if answer.result is None:
        raise UndoError(f"{answer.error} ({answer.hint})" if answer.hint else answer.error)
    return msgspec.convert(answer.result, Found)


def _opening(turn: str, changed: Changed) -> OpenTool:
    return OpenTool(
        turn=turn,
        subsystem=changed.subsystem,
        tool=TOOL,
        session=changed.session,
        tier=Tier.OPERATOR,
        risk=ToolRisk.CHANGES_WORKSPACE,
        taint=0,
        row=ROW,
        definition_sha256=_NO_DEFINITION,
        arguments_sha256=sha256(msgspec.json.encode({"turn": changed.turn})).digest(),
        parent=changed.turn,
    )


def _closing(turn: str, changed: Changed, end: End, why: str) -> CloseTool:
    result = msgspec.json.encode(end.content)
    return CloseTool(
        turn=turn,
        subsystem=changed.subsystem,
        tool=TOOL,
        session=changed.session,
        outcome=end.outcome,
        row=ROW,
        reason=why[:_REASON_CHARACTERS],
        result_sha256=sha256(result).digest(),
        result_bytes=len(result),
        effects=end.effects,
        cpu_ms=end.cpu_ms,
        wall_ms=end.wall_ms,
    )
