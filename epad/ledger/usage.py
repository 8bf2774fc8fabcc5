"""Sum up turns, tokens and money since a time, by agent, model or day."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from typing import Any

import apsw

from epad.ledger.query import opening, sound, unclosed_turns
from epad.ledger.record import Outcome, TurnClosed, TurnOpened
from epad.ledger.rows import STATEMENT_ROWS
from epad.storage.database import fetch

NO_MODEL = "-"
"""The model of a turn that was refused before it was opened, or whose opening is damaged."""
# Along the index of closings, page by page, so that the daemon's log can be reset between two of them.
_CLOSED_PAGE = (
    "SELECT seq, CAST(body AS BLOB), CAST(leaf AS BLOB), CAST(turn AS BLOB), wall_ns FROM record "
    "WHERE kind = 2 AND (wall_ns, seq) > (?, ?) ORDER BY wall_ns, seq LIMIT ?"
)


@dataclass(slots=True)
class Usage:
    """Sums up some turns. Tokens and micro-USD are the charged ones; reservations belong to open turns alone."""

    turns: int = 0
    """Ended after they were forwarded, well or not."""
    failed: int = 0
    """Of the turns, those that failed or were cut."""
    refused: int = 0
    open: int = 0
    """Not ended: under way, lost, or with a damaged end."""
    input_tokens: int = 0
    output_tokens: int = 0
    charged_tokens: int = 0
    charged_microusd: int = 0
    reserved_tokens: int = 0
    reserved_microusd: int = 0

    def add_closed(self, turn: TurnClosed) -> None:
        """Count a turn that has ended."""
        self.refused += turn.outcome is Outcome.REFUSED
        self.turns += turn.outcome is not Outcome.REFUSED
        self.failed += turn.outcome in {Outcome.FAILED, Outcome.CUT}
        self.input_tokens += turn.input_tokens
        self.output_tokens += turn.output_tokens
        self.charged_tokens += turn.charged_tokens
        self.charged_microusd += turn.charged_microusd

    def add_open(self, turn: TurnOpened) -> None:
        """Count a turn of which only the reservation is known."""
        self.open += 1
        self.reserved_tokens += turn.reserved_tokens
        self.reserved_microusd += turn.reserved_microusd


@dataclass(slots=True)
class Account:
    """The usage of each agent, model or day; all of it together; and how many ends of turns are damaged."""

    rows: dict[str, Usage] = field(default_factory=dict)
    total: Usage = field(default_factory=Usage)
    damaged: int = 0

    def of(self, key: str) -> tuple[Usage, Usage]:
        """Return the two counters for a key."""
        return self.rows.setdefault(key, Usage()), self.total

    def as_json(self, by: str) -> dict[str, Any]:
        """Days in their order; agents and models, those that were charged most first."""
        rows = sorted(self.rows.items(), key=_by_day if by == "day" else _by_charge)
        return {
            "by": by,
            "rows": [{by: key, **asdict(usage)} for key, usage in rows],
            "total": asdict(self.total),
            "damaged": self.damaged,
        }


def _by_day(row: tuple[str, Usage]) -> str:
    return row[0]


def _by_charge(row: tuple[str, Usage]) -> tuple[int, str]:
    return -row[1].charged_tokens, row[0]


def usage_since(connection: apsw.Connection, wall_ns: int, by: str) -> Account:
    """Sum up the turns that ended or opened since a time, by `agent`, `model` or `day` (of UTC).

    A turn whose end is damaged counts as open, by its reservation. Raises apsw.Error where SQLite cannot read.
    """
    account = Account()
    # First, so that a turn which ends meanwhile is counted once: as ended.
    still_open = {turn.turn: turn for turn in unclosed_turns(connection) if turn.wall_ns >= wall_ns}
    for turn, closed in _closings(connection, wall_ns):
        if closed is None:
            account.damaged += 1
            still_open |= {opened.turn: opened for opened in opening(connection, turn)}
            continue
        still_open.pop(closed.turn, None)
        model = _model_of(connection, turn) if by == "model" else ""
        for place in account.of(_key(by, closed, model)):
            place.add_closed(closed)
    for opened in still_open.values():
        for place in account.of(_key(by, opened, opened.model)):
            place.add_open(opened)
    return account


def _closings(connection: apsw.Connection, wall_ns: int) -> Iterator[tuple[object, TurnClosed | None]]:
    """Yield each closing record since a time with its turn as the row has it; None for a damaged one."""
    last = (wall_ns - 1, 1 << 62)
    while page := fetch(connection, _CLOSED_PAGE, (*last, STATEMENT_ROWS)):
        for sequence, body, leaf, turn, _ in page:
            record = sound(sequence, body, leaf)
            yield turn, record if isinstance(record, TurnClosed) else None
        last = (page[-1][4], page[-1][0])


def _model_of(connection: apsw.Connection, turn: object) -> str:
    return next((opened.model for opened in opening(connection, turn)), NO_MODEL)


def _key(by: str, turn: TurnOpened | TurnClosed, model: str) -> str:
    if by == "agent":
        return turn.subsystem
    return model if by == "model" else datetime.fromtimestamp(turn.wall_ns / 1e9, UTC).date().isoformat()
