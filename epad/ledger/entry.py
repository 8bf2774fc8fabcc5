"""Define the callers' entries about a turn; the ledger adds number, time and epoch itself."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from msgspec import Struct
from msgspec.structs import asdict

from epad.ledger.errors import RecordError
from epad.ledger.hashes import HASH_BYTES
from epad.ledger.record import (
    Audited,
    Effect,
    Labelled,
    Outcome,
    Record,
    Rooted,
    Screened,
    Screening,
    Session,
    ToolClosed,
    ToolOpened,
    ToolOutcome,
    TurnClosed,
    TurnOpened,
    UsageSource,
)

_is_turn = re.compile("[0-9a-f]{32}").fullmatch


class OpenTurn(Struct, frozen=True, gc=False):
    """A turn about to be forwarded; `payload` is kept only where `ledger.payloads` says so."""

    turn: str
    subsystem: str
    dialect: str
    model: str
    prompt_bound: int
    output_cap: int
    reserved_tokens: int
    request_sha256: bytes
    idempotency_key: str | None = None
    payload: bytes | None = None
    reserved_microusd: int = 0
    path: str = ""

    def __post_init__(self) -> None:
        _require_turn(self.turn)
        _require_hash(self.turn, "request_sha256", self.request_sha256)


class CloseTurn(Struct, frozen=True, gc=False):
    """A turn that has ended. Only a refused one need not have been opened."""

    turn: str
    subsystem: str
    outcome: Outcome
    input_tokens: int
    output_tokens: int
    charged_tokens: int
    usage_source: UsageSource
    http_status: int = 0
    reason: str = ""
    charged_microusd: int = 0

    def __post_init__(self) -> None:
        _require_turn(self.turn)


class OpenTool(Struct, frozen=True, gc=False):
    """A tool about to be called; the fields are those of ToolOpened."""

    turn: str
    subsystem: str
    tool: str
    session: str
    tier: int
    risk: str
    taint: int
    row: str
    definition_sha256: bytes
    arguments_sha256: bytes
    parent: str = ""
    idempotency_key: str | None = None
    reserved_tokens: int = 0

    def __post_init__(self) -> None:
        _require_turn(self.turn)
        _require_hash(self.turn, "definition_sha256", self.definition_sha256)
        _require_hash(self.turn, "arguments_sha256", self.arguments_sha256)


class CloseTool(Struct, frozen=True, gc=False):
    """A tool's turn that has ended; the fields are those of ToolClosed. A refused one need not have been opened."""

    turn: str
    subsystem: str
    tool: str
    session: str
    outcome: ToolOutcome
    row: str = ""
    reason: str = ""
    result_sha256: bytes = b""
    result_bytes: int = 0
    charged_tokens: int = 0
    effects: tuple[Effect, ...] = ()
    undo: str = ""
    cpu_ms: int = 0
    wall_ms: int = 0

    def __post_init__(self) -> None:
        _require_turn(self.turn)


class NoteSession(Struct, frozen=True, gc=False):
    """A session that begins or ends; the fields are those of Session."""

    session: str
    subsystem: str
    began: bool
    tier: int
    parent: str = ""
    command_sha256: bytes = b""
    reason: str = ""
    by: str = ""
    child: str = ""
    template: str = ""


class NoteLabel(Struct, frozen=True, gc=False):
    """A session that is given a label; the fields are those of Labelled."""

    session: str
    subsystem: str
    label: int
    turn: str
    source: str


class NoteRoot(Struct, frozen=True, gc=False):
    """The root over a store's rows; the fields are those of Rooted."""

    store: str
    size: int
    root: bytes
    cause: str
    by: str = ""
    accepted: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        _require_hash(self.store, "root", self.root)


class NoteAudit(Struct, frozen=True, gc=False):
    """Something done, decided or refused; the fields are those of Audited."""

    event: str
    subsystem: str
    who: str
    what: str
    outcome: str
    happened_ns: int
    session: str = ""
    evidence: str = ""
    evidence_sha256: bytes = b""


class NoteScreened(Struct, frozen=True, gc=False):
    """Turns that were screened; the fields are those of Screened."""

    screenings: tuple[Screening, ...]
    version: int
    training_sha256: bytes


@dataclass(frozen=True, slots=True)
class Stamp:
    """Holds the values that the ledger itself adds to a record."""

    wall_ns: int
    boot_id: str
    monotonic_ns: int
    epoch: int


Entry = (
    OpenTurn
    | CloseTurn
    | OpenTool
    | CloseTool
    | NoteSession
    | NoteLabel
    | NoteAudit
    | NoteRoot
    | NoteScreened
)
Opening = OpenTurn | OpenTool
"""An entry after which its turn is open."""
Closing = CloseTurn | CloseTool
"""An entry that ends a turn."""


class TurnNames:
    """Names turns: the milliseconds they begin at, then chance.

    Turns of one time are neighbours in the index, so a commit of 32 writes two of its pages; by chance alone it
    wrote 32, which was half the cost of a turn (measured with 60,000 records). Chance is drawn for several at a
    time, as much as one call of the kernel gives without a break: each call lets another thread have the GIL.
    """

    def __init__(self) -> None:
        self._chance = _chance()

    def __call__(self, at_seconds: float) -> str:
        """Return the name of a turn that begins at this time of the clock."""
        return f"{int(at_seconds * 1_000):012x}{next(self._chance)}"


def _chance() -> Iterator[str]:
    while True:
        drawn = os.urandom(250).hex()
        yield from [drawn[at : at + 20] for at in range(0, len(drawn), 20)]


def opened(entry: OpenTurn, stamp: Stamp) -> TurnOpened:
    """Return the record of an opened turn."""
    return TurnOpened(
        turn=entry.turn,
        subsystem=entry.subsystem,
        dialect=entry.dialect,
        model=entry.model,
        prompt_bound=entry.prompt_bound,
        output_cap=entry.output_cap,
        reserved_tokens=entry.reserved_tokens,
        idempotency_key=entry.idempotency_key,
        request_sha256=entry.request_sha256,
        wall_ns=stamp.wall_ns,
        boot_id=stamp.boot_id,
        monotonic_ns=stamp.monotonic_ns,
        epoch=stamp.epoch,
        reserved_microusd=entry.reserved_microusd,
        path=entry.path,
    )


def closed(entry: CloseTurn, stamp: Stamp) -> TurnClosed:
    """Return the record of a closed turn."""
    return TurnClosed(
        turn=entry.turn,
        subsystem=entry.subsystem,
        outcome=entry.outcome,
        input_tokens=entry.input_tokens,
        output_tokens=entry.output_tokens,
        charged_tokens=entry.charged_tokens,
        usage_source=entry.usage_source,
        http_status=entry.http_status,
        reason=entry.reason,
        wall_ns=stamp.wall_ns,
        boot_id=stamp.boot_id,
        monotonic_ns=stamp.monotonic_ns,
        epoch=stamp.epoch,
        charged_microusd=entry.charged_microusd,
    )


def record_of(entry: Entry, stamp: Stamp) -> Record:
    """Return the record of an entry of any kind."""
    if isinstance(entry, OpenTurn):
        return opened(entry, stamp)
    if isinstance(entry, CloseTurn):
        return closed(entry, stamp)
    kind: Any = _RECORDS[type(entry)]
    record: Record = kind(**asdict(entry), **_fields_of(stamp))
    return record


_RECORDS: dict[type[Entry], type[Record]] = {
    OpenTool: ToolOpened,
    CloseTool: ToolClosed,
    NoteSession: Session,
    NoteLabel: Labelled,
    NoteAudit: Audited,
    NoteRoot: Rooted,
    NoteScreened: Screened,
}
"""The records whose fields are their entries' and the stamp's."""


def _fields_of(stamp: Stamp) -> dict[str, Any]:
    return {
        "wall_ns": stamp.wall_ns,
        "boot_id": stamp.boot_id,
        "monotonic_ns": stamp.monotonic_ns,
        "epoch": stamp.epoch,
    }


def _require_hash(turn: str, name: str, value: bytes) -> None:
    if len(value) != HASH_BYTES:
        raise RecordError(f"turn {turn}: {name} has {len(value)} bytes, not 32")


def _require_turn(turn: str) -> None:
    if _is_turn(turn) is None:
        raise RecordError(f"{turn!r} is not a turn: 32 lower-case hex digits, see TurnNames")
