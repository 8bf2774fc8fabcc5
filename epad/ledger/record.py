"""Define a record's contents and bytes.

A body is a MessagePack array whose first element names format and kind. Bytes are hashed as stored: nothing
is ever encoded again to be checked. Fields may be added at the end, with a default; any other change gives a kind
a new format, and the former ones are read for ever.
"""

from __future__ import annotations

from enum import IntEnum, StrEnum

import msgspec
from msgspec import Struct

from epad.ledger.errors import RecordError

Span = tuple[int, int]
"""Sequence numbers from the first to the second, both included."""


class Kind(IntEnum):
    """Names the kind of a record; the numbers are on disk and never change."""

    OPENED = 1
    CLOSED = 2
    EPOCH = 3
    REPAIRED = 4
    TRIMMED = 5
    TOOL_OPENED = 6
    TOOL_CLOSED = 7
    SESSION = 8
    AUDITED = 9
    LABELLED = 10
    ROOTED = 11
    SCREENED = 16


class Outcome(StrEnum):
    """Names the end of a turn."""

    DONE = "done"
    FAILED = "failed"
    REFUSED = "refused"
    CUT = "cut"


class ToolOutcome(StrEnum):
    """Names the end of a tool's turn. `killed`: a hold ended it."""

    DONE = "done"
    FAILED = "failed"
    REFUSED = "refused"
    CUT = "cut"
    CANCELLED = "cancelled"
    TIMED_OUT = "timed_out"
    KILLED = "killed"


class UsageSource(StrEnum):
    """Names the source of the charged tokens: the upstream's usage, our own count, or the whole reservation."""

    USAGE = "usage"
    COUNTED = "counted"
    RESERVED = "reserved"


def tag(kind: Kind, form: int) -> int:
    """Return the first element of a body: the kind's number, and the format's."""
    return form << 8 | kind


class TurnOpened(Struct, frozen=True, array_like=True, gc=False, tag=tag(Kind.OPENED, 2)):
    """A turn is about to be forwarded. `turn` is 32 hex digits; without a closing record it is lost.

    The fields with a column of their own stand first, for a check reads no further: 0.55 M records a second, not 0.47
    (bench/ledger.py).

    `reserved_microusd` is the most that it can cost, in micro-USD; records from before there was money read 0. `path`
    is the gateway's, so that a lost turn can be asked again; earlier records have none.
    """

    turn: str
    subsystem: str
    wall_ns: int
    dialect: str
    model: str
    prompt_bound: int
    output_cap: int
    reserved_tokens: int
    idempotency_key: str | None
    request_sha256: bytes
    boot_id: str
    monotonic_ns: int
    epoch: int
    reserved_microusd: int = 0
    path: str = ""


class TurnClosed(Struct, frozen=True, array_like=True, gc=False, tag=tag(Kind.CLOSED, 2)):
    """Records a turn's end and its cost, in tokens and micro-USD. `http_status` is 0 without an answer."""

    turn: str
    subsystem: str
    wall_ns: int
    outcome: Outcome
    input_tokens: int
    output_tokens: int
    charged_tokens: int
    usage_source: UsageSource
    http_status: int
    reason: str
    boot_id: str
    monotonic_ns: int
    epoch: int
    charged_microusd: int = 0


class EpochStarted(Struct, frozen=True, array_like=True, gc=False, tag=tag(Kind.EPOCH, 1)):
    """The ledger was opened for writing. `clean` says that the epoch before was closed in order."""

    nonce: bytes
    previous_link: bytes
    clean: bool
    wall_ns: int
    boot_id: str
    monotonic_ns: int
    epoch: int


class Repaired(Struct, frozen=True, array_like=True, gc=False, tag=tag(Kind.REPAIRED, 1)):
    """Damage was dealt with. `lost` records keep their leaf and link where those are known, but no body."""

    restored: tuple[Span, ...]
    lost: tuple[Span, ...]
    cause: str
    source: str
    wall_ns: int
    boot_id: str
    monotonic_ns: int
    epoch: int


class Trimmed(Struct, frozen=True, array_like=True, gc=False, tag=tag(Kind.TRIMMED, 1)):
    """Records that bodies of records 1 to `through` are no longer kept; leaves and links are. `sums` is their sum."""

    through: int
    sums: bytes
    reason: str
    wall_ns: int
    boot_id: str
    monotonic_ns: int
    epoch: int


class ToolOpened(Struct, frozen=True, array_like=True, gc=False, tag=tag(Kind.TOOL_OPENED, 1)):
    """A tool is about to be called. Without a closing record it is not known if it did anything.

    `parent` is the model's turn that asked for it, empty if that is not known. `taint` is the sum of the labels of
    `epad/gate/tool_table.py`, `row` the row of that table that let it pass.
    """

    turn: str
    subsystem: str
    wall_ns: int
    tool: str
    session: str
    tier: int
    risk: str
    taint: int
    row: str
    definition_sha256: bytes
    arguments_sha256: bytes
    parent: str
    idempotency_key: str | None
    reserved_tokens: int
    boot_id: str
    monotonic_ns: int
    epoch: int


class Effect(Struct, frozen=True, array_like=True, gc=False):
    """Names a file or host that a tool changed; None stands for a file that was not there."""

    target: str
    before_sha256: bytes | None
    after_sha256: bytes | None


class ToolClosed(Struct, frozen=True, array_like=True, gc=False, tag=tag(Kind.TOOL_CLOSED, 1)):
    """Records the end of a tool's turn: its result's hash and size, and the effects that its worker reported.

    A refused call has this record alone; `tool`, `session` and `row` say who was refused, and why.
    """

    turn: str
    subsystem: str
    wall_ns: int
    tool: str
    session: str
    outcome: ToolOutcome
    row: str
    reason: str
    result_sha256: bytes
    result_bytes: int
    charged_tokens: int
    effects: tuple[Effect, ...]
    undo: str
    cpu_ms: int
    wall_ms: int
    boot_id: str
    monotonic_ns: int
    epoch: int


class Session(Struct, frozen=True, array_like=True, gc=False, tag=tag(Kind.SESSION, 1)):
    """An agent's session began or ended: one start of its process, whose tier never changes.

    `parent` is the session that asked for it, empty for one of the configuration; `by` is who started it. A record with
    a `child` is of neither: it says that the session has asked for that one, by a template, and why.
    """

    session: str
    subsystem: str
    wall_ns: int
    began: bool
    tier: int
    parent: str
    command_sha256: bytes
    reason: str
    by: str
    boot_id: str
    monotonic_ns: int
    epoch: int
    child: str = ""
    template: str = ""


class Labelled(Struct, frozen=True, array_like=True, gc=False, tag=tag(Kind.LABELLED, 1)):
    """A session was given a label of taint that it did not have, one of those of `epad/gate/tool_table.py`.

    `source` says in words what brought it: a tool and its target, a host, a message. `turn` is the tool's turn that
    did, empty where none did: a connection of the agent's own, or the configuration.
    """

    session: str
    subsystem: str
    wall_ns: int
    label: int
    turn: str
    source: str
    boot_id: str
    monotonic_ns: int
    epoch: int


class Rooted(Struct, frozen=True, array_like=True, gc=False, tag=tag(Kind.ROOTED, 1)):
    """The Merkle root over the first `size` rows of one of epad's own stores.

    `cause` says what it was taken for: a batch of writes, a day, the state before an order of a person's, what a
    restore has left, or what a person has accepted as it is; then `accepted` names the faults.
    """

    store: str
    size: int
    root: bytes
    wall_ns: int
    cause: str
    by: str
    accepted: tuple[str, ...]
    boot_id: str
    monotonic_ns: int
    epoch: int


class Audited(Struct, frozen=True, array_like=True, gc=False, tag=tag(Kind.AUDITED, 1)):
    """Something was done, decided or refused that has no kind of its own: docs/audit.md lists what.

    `event` is its name, as `order.given`; `who` a person, a subsystem or epad; `what` a short sentence. `evidence` is
    JSON, empty where it was too long to keep; `evidence_sha256` covers all of it. `happened_ns` is its time by the wall
    clock, earlier than `wall_ns` where the ledger took nothing then.
    """

    event: str
    subsystem: str
    wall_ns: int
    who: str
    what: str
    outcome: str
    session: str
    evidence: str
    evidence_sha256: bytes
    happened_ns: int
    boot_id: str
    monotonic_ns: int
    epoch: int


class Screening(Struct, frozen=True, array_like=True, gc=False):
    """Holds what a model's turn seemed to be for. `score` is a chance in thousandths; nothing was decided by it."""

    turn: str
    subsystem: str
    label: str
    group: str
    score: int


class Screened(Struct, frozen=True, array_like=True, gc=False, tag=tag(Kind.SCREENED, 1)):
    """Turns were screened, by the classifier of this version, fitted to the texts of this digest."""

    screenings: tuple[Screening, ...]
    version: int
    training_sha256: bytes
    wall_ns: int
    boot_id: str
    monotonic_ns: int
    epoch: int


Record = (
    TurnOpened
    | TurnClosed
    | EpochStarted
    | Repaired
    | Trimmed
    | ToolOpened
    | ToolClosed
    | Session
    | Labelled
    | Audited
    | Rooted
    | Screened
)
KINDS: dict[type[Record], Kind] = {
    TurnOpened: Kind.OPENED,
    TurnClosed: Kind.CLOSED,
    EpochStarted: Kind.EPOCH,
    Repaired: Kind.REPAIRED,
    Trimmed: Kind.TRIMMED,
    ToolOpened: Kind.TOOL_OPENED,
    ToolClosed: Kind.TOOL_CLOSED,
    Session: Kind.SESSION,
    Labelled: Kind.LABELLED,
    Audited: Kind.AUDITED,
    Rooted: Kind.ROOTED,
    Screened: Kind.SCREENED,
}
encode = msgspec.msgpack.Encoder().encode


class _OpenedInFormat1(Struct, frozen=True, array_like=True, gc=False, tag=tag(Kind.OPENED, 1)):
    turn: str
    subsystem: str
    dialect: str
    model: str
    prompt_bound: int
    output_cap: int
    reserved_tokens: int
    idempotency_key: str | None
    request_sha256: bytes
    wall_ns: int
    boot_id: str
    monotonic_ns: int
    epoch: int
    reserved_microusd: int = 0
    path: str = ""

    def today(self) -> TurnOpened:
        return TurnOpened(**msgspec.structs.asdict(self))


class _ClosedInFormat1(Struct, frozen=True, array_like=True, gc=False, tag=tag(Kind.CLOSED, 1)):
    turn: str
    subsystem: str
    outcome: Outcome
    input_tokens: int
    output_tokens: int
    charged_tokens: int
    usage_source: UsageSource
    http_status: int
    reason: str
    wall_ns: int
    boot_id: str
    monotonic_ns: int
    epoch: int
    charged_microusd: int = 0

    def today(self) -> TurnClosed:
        return TurnClosed(**msgspec.structs.asdict(self))


_Former = _OpenedInFormat1 | _ClosedInFormat1
_decoder: msgspec.msgpack.Decoder[Record | _Former] = msgspec.msgpack.Decoder(Record | _Former)


def decode(sequence: int, body: bytes) -> Record:
    """Read a body. Raises RecordError, naming the record."""
    try:
        record = _decoder.decode(body)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise RecordError(
            f"ledger record {sequence} is no record that this epad knows: {error}; a newer one may have written it"
        ) from error
    return record.today() if isinstance(record, _Former) else record


def columns_of(record: Record) -> tuple[str | None, Kind, str | None, int]:
    """Return the values that are copied into columns of their own: turn, kind, subsystem, wall_ns."""
    kind = KINDS[type(record)]
    if isinstance(record, TurnOpened | TurnClosed | ToolOpened | ToolClosed):
        return record.turn, kind, record.subsystem, record.wall_ns
    if isinstance(record, Session | Labelled):
        return None, kind, record.subsystem, record.wall_ns
    if isinstance(record, Audited):
        return None, kind, record.subsystem or None, record.wall_ns
    return None, kind, None, record.wall_ns


def spans_of(sequences: list[int]) -> tuple[Span, ...]:
    """Fold ascending sequence numbers into spans."""
    spans: list[Span] = []
    for sequence in sequences:
        if spans and spans[-1][1] == sequence - 1:
            spans[-1] = (spans[-1][0], sequence)
        else:
            spans.append((sequence, sequence))
    return tuple(spans)
