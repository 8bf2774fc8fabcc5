"""Carry out a person's order to undo a turn, or a session from its newest turn back."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import apsw

from epad.answers.tools import UndonePaths, UndonePlan
from epad.ledger import session_trace
from epad.ledger.errors import LedgerError
from epad.ledger.record import ToolClosed, ToolOpened
from epad.ledger.session_trace import TracedTurn
from epad.ledger.store import Ledger
from epad.operations.protocol import ConflictError, UnknownTurnError
from epad.tools.undoing import TOOL, Changed, Found, UndoError, Undoing

_PAGE_TURNS: Final = 1_000
_TOLD_PATHS: Final = 20


@dataclass(frozen=True, slots=True)
class UndoOrders:
    """Looks at what can be undone, and undoes it. `undoing` is None in a daemon without tools."""

    ledger: Ledger
    undoing: Undoing | None

    async def plan(self, name: str) -> UndonePlan:
        """Return what an undo of a turn or session would find. Raises UnknownTurnError, ConflictError."""
        undoing, turns = await self._turns(name)
        return {"name": name, "turns": [await _looked(undoing, one) for one in turns]}

    async def undo(self, name: str, reason: str, by: str) -> tuple[list[str], bool]:
        """Undo it; return a sentence for each turn, and if anything was left. Raises UnknownTurnError, ConflictError.

        It goes on behind a turn that cannot be undone: what is left is told.
        """
        undoing, turns = await self._turns(name)
        results: list[str] = []
        is_left = False
        for one in turns:
            try:
                found = await undoing.undo(one, reason, by)
            except UndoError as error:
                results.append(f"{one.tool} {one.turn}: not undone: {error}")
                is_left = True
            except LedgerError as error:
                raise ConflictError(
                    f"the ledger takes no record now: {error}; before it: {results}"
                ) from error
            else:
                results.append(sentence(one, found))
                is_left = is_left or bool(found.changed_since or found.not_kept)
        return results, is_left

    async def _turns(self, name: str) -> tuple[Undoing, Sequence[Changed]]:
        """Return the turns that are meant, newest first."""
        if self.undoing is None:
            raise ConflictError("this daemon has no tools, so none of their changes are kept")
        undoing, epoch = self.undoing, self.ledger.epoch
        try:
            found = await self.ledger.read(lambda db: _of_name(db, name))
        except LedgerError as error:
            raise ConflictError(f"the ledger cannot be read: {error}") from error
        if not found:
            raise UnknownTurnError(name)
        changed = [_changed(one) for one in _newest_first(found) if _may_have_changed(one, epoch)]
        kept = [one for one in changed if undoing.can_undo(one)]
        if not kept:
            why = "it has changed no file, or its before-images are older than 24 hours or over the quota"
            raise ConflictError(f"there is nothing of {name} to undo: {why}")
        return undoing, kept


def sentence(changed: Changed, found: Found) -> str:
    """Say what an undo has done, and what it has left."""
    said = [
        f"{words} {_named(paths)}"
        for words, paths in (
            ("put back", found.restored),
            ("was as before:", found.as_before),
            ("left alone, changed since:", found.changed_since),
            ("left alone, nothing was kept of:", found.not_kept),
        )
        if paths
    ]
    return f"{changed.tool} {changed.turn}: {'; '.join(said) or 'it had changed nothing'}"


def _named(paths: Sequence[str]) -> str:
    more = f" and {len(paths) - _TOLD_PATHS} more" if len(paths) > _TOLD_PATHS else ""
    return ", ".join(paths[:_TOLD_PATHS]) + more


async def _looked(undoing: Undoing, one: Changed) -> UndonePaths:
    try:
        found, why = await undoing.look(one), ""
    except UndoError as error:
        found, why = Found(), str(error)
    return {
        "turn": one.turn,
        "tool": one.tool,
        "restored": found.restored,
        "as_before": found.as_before,
        "changed_since": found.changed_since,
        "not_kept": found.not_kept,
        "why": why,
    }


def _of_name(connection: apsw.Connection, name: str) -> list[TracedTurn]:
    """Return the turn of a name, or all tools' turns of the session of a name."""
    turn = session_trace.turn_named(connection, name)
    if turn is not None:
        return [turn]
    session = session_trace.session_named(connection, name)
    found: list[TracedTurn] = []
    after = 0
    while session is not None:
        page = session_trace.page_of(connection, session, after, _PAGE_TURNS)
        found += [one for one in page.turns if isinstance(one.any, ToolOpened | ToolClosed)]
        after = page.after
        if not after:
            break
    return found


def _may_have_changed(one: TracedTurn, epoch: int) -> bool:
    """Tell if a tool's turn may have changed files; one under way is its caller's."""
    if not isinstance(one.opened, ToolOpened) or one.opened.tool == TOOL:
        return False
    if one.closed is None:
        return one.opened.epoch != epoch
    return isinstance(one.closed, ToolClosed) and bool(one.closed.undo)


def _newest_first(turns: Sequence[TracedTurn]) -> list[TracedTurn]:
    """Sort by the end, which is nearer to the change than the beginning; no setting of a clock changes the order."""

    def ended(one: TracedTurn) -> tuple[int, int]:
        last = one.closed or one.any
        return last.epoch, last.monotonic_ns

    return sorted(turns, key=ended)[::-1]


def _changed(one: TracedTurn) -> Changed:
    record = one.any
    if not isinstance(record, ToolOpened | ToolClosed):
        raise TypeError("a model's turn changes no file")
    return Changed(record.turn, record.subsystem, record.session, record.tool)
