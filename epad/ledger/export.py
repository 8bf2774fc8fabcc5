"""Records for other programs: as JSON, and as spans with the attribute names of OpenTelemetry's GenAI conventions."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import apsw
import msgspec

from epad.ledger.errors import RecordError
from epad.ledger.hashes import leaf_hash
from epad.ledger.query import records_of_turn
from epad.ledger.record import (
    KINDS,
    Record,
    ToolClosed,
    ToolOpened,
    ToolOutcome,
    TurnClosed,
    TurnOpened,
    decode,
)
from epad.ledger.rows import Row, Unreadable, known_last, read_rows, row_at, trimmed_through


@dataclass(frozen=True, slots=True)
class Shown:
    """A record as it is given out.

    `record` is None where it is lost or damaged, and `fault` says so; or where it is not kept any more: `is_trimmed`.
    """

    seq: int
    leaf: bytes
    record: Record | None
    fault: str = ""
    is_trimmed: bool = False

    def fields(self) -> dict[str, Any]:
        """JSON values; bytes as hex."""
        fields: dict[str, Any] = {"seq": self.seq, "leaf": self.leaf.hex()}
        if self.is_trimmed:
            return fields | {"kind": "trimmed", "note": "only its hash is kept: [ledger] keep_records"}
        if self.record is None:
            return fields | {"kind": "unknown", "fault": self.fault}
        fields["kind"] = KINDS[type(self.record)].name.lower()
        values = {name: getattr(self.record, name) for name in self.record.__struct_fields__}
        fields.update(msgspec.to_builtins(values, builtin_types=(bytes,)))
        return {name: _in_hex(value) for name, value in fields.items()}


def records_from(connection: apsw.Connection, first: int, last: int | None = None) -> Iterator[Shown]:
    """Records in order, damaged ones said to be so."""
    trimmed = trimmed_through(connection)
    for item in read_rows(connection, first):
        if isinstance(item, Unreadable):
            yield Shown(item.first, b"", None, f"unreadable: {item.detail}")
        elif last is not None and item.seq > last:
            return
        else:
            yield _shown(item, trimmed)


def newest_records(connection: apsw.Connection, count: int) -> Iterator[Shown]:
    """Return the last so many."""
    last = known_last(connection) or 0
    return records_from(connection, max(1, last - count + 1))


def record_at(connection: apsw.Connection, sequence: int) -> Shown | None:
    """Return one record, or None if there is none."""
    row = row_at(connection, sequence)
    return _shown(row, trimmed_through(connection)) if row is not None else None


def spans_from(connection: apsw.Connection) -> Iterator[dict[str, Any]]:
    """Yield one span for each turn that has ended, then one for each that has not."""
    open_turns: dict[str, TurnOpened] = {}
    open_tools: dict[str, ToolOpened] = {}
    for shown in records_from(connection, 1):
        match shown.record:
            case TurnOpened() as opened:
                open_turns[opened.turn] = opened
            case TurnClosed() as closed:
                yield _span(shown.seq, open_turns.pop(closed.turn, None), closed)
            case ToolOpened() as opened_tool:
                open_tools[opened_tool.turn] = opened_tool
            case ToolClosed() as closed_tool:
                begun = open_tools.pop(closed_tool.turn, None)
                yield _tool_span(shown.seq, begun, closed_tool, _trace_of(connection, begun))
    for opened_tool in open_tools.values():
        yield _tool_span(0, opened_tool, None, _trace_of(connection, opened_tool))
    for opened in open_turns.values():
        yield _span(0, opened, None)


def _shown(row: Row, trimmed: int) -> Shown:
    leaf = row.leaf if isinstance(row.leaf, bytes) else b""
    if row.body is None and row.seq <= trimmed:
        return Shown(row.seq, leaf, None, is_trimmed=True)
    if not isinstance(row.body, bytes):
        return Shown(row.seq, leaf, None, "lost: its body is gone")
    if leaf_hash(row.body) != leaf:
        return Shown(row.seq, leaf, None, "damaged: its body does not hash to its leaf")
    try:
        return Shown(row.seq, leaf, decode(row.seq, row.body))
    except RecordError as error:
        return Shown(row.seq, leaf, None, str(error))


def _in_hex(value: Any) -> Any:
    """Return a value of a record with its bytes as hex, at any depth."""
    if isinstance(value, bytes):
        return value.hex()
    return [_in_hex(item) for item in value] if isinstance(value, list | tuple) else value


def _trace_of(connection: apsw.Connection, opened: ToolOpened | None) -> str:
    """Return the turn at the root: the model's that asked for a tool's, also of one that undoes another tool's."""
    if opened is None or not opened.parent:
        return ""
    above = next(
        (one for one in records_of_turn(connection, opened.parent) if isinstance(one, ToolOpened)), None
    )
    return opened.parent if above is None else above.parent or above.turn


def _tool_span(
    sequence: int, opened: ToolOpened | None, closed: ToolClosed | None, trace: str
) -> dict[str, Any]:
    """Return the span of a tool's turn: below that of the model's turn which asked for it, if that is known."""
    turn = closed or opened
    if turn is None:
        raise ValueError("a span of nothing")
    attributes: dict[str, Any] = {
        "gen_ai.operation.name": "execute_tool",
        "gen_ai.tool.name": turn.tool,
        "gen_ai.tool.call.id": turn.turn,
        "gen_ai.conversation.id": turn.session,
        "epad.turn": turn.turn,
        "epad.subsystem": turn.subsystem,
        "epad.gate.row": turn.row,
        "epad.outcome": closed.outcome if closed else "open",
    }
    if opened is not None:
        attributes |= {"epad.tool.risk": opened.risk, "epad.tool.tier": opened.tier}
    if closed is not None:
        attributes |= {"epad.tool.result_bytes": closed.result_bytes, "epad.ledger.seq": sequence}
        if closed.outcome is not ToolOutcome.DONE:
            attributes["error.type"] = closed.reason or closed.outcome
    parent = opened.parent if opened is not None else ""
    return {
        "name": f"execute_tool {turn.tool}",
        "kind": "SPAN_KIND_INTERNAL",
        "trace_id": trace or turn.turn,
        "span_id": turn.turn[-16:],
        "parent_span_id": parent[-16:] or None,
        "start_time_unix_nano": (opened or turn).wall_ns,
        "end_time_unix_nano": closed.wall_ns if closed else None,
        "attributes": attributes,
    }


def _span(sequence: int, opened: TurnOpened | None, closed: TurnClosed | None) -> dict[str, Any]:
    turn = closed or opened
    if turn is None:
        raise ValueError("a span of nothing")
    attributes: dict[str, Any] = {"epad.turn": turn.turn, "epad.subsystem": turn.subsystem}
    if opened is not None:
        # The record does not name the operation; a turn that may put out nothing is an embedding.
        attributes |= {
            "gen_ai.operation.name": "chat" if opened.output_cap else "embeddings",
            "gen_ai.provider.name": opened.dialect,
            "gen_ai.request.model": opened.model,
            "gen_ai.request.max_tokens": opened.output_cap,
            "epad.reserved_tokens": opened.reserved_tokens,
            "epad.reserved_microusd": opened.reserved_microusd,
        }
    if closed is not None:
        attributes |= {
            "gen_ai.usage.input_tokens": closed.input_tokens,
            "gen_ai.usage.output_tokens": closed.output_tokens,
            "epad.charged_tokens": closed.charged_tokens,
            "epad.charged_microusd": closed.charged_microusd,
            "epad.usage_source": closed.usage_source,
            "epad.ledger.seq": sequence,
        }
        if closed.http_status:
            attributes["http.response.status_code"] = closed.http_status
        if closed.outcome != "done":
            attributes["error.type"] = closed.reason or closed.outcome
    attributes["epad.outcome"] = closed.outcome if closed else "open"
    model = opened.model if opened else ""
    return {
        "name": f"{attributes.get('gen_ai.operation.name', 'chat')} {model}".strip(),
        "kind": "SPAN_KIND_CLIENT",
        "trace_id": turn.turn,
        "span_id": turn.turn[-16:],  # its beginning is the time, which turns may share
        "start_time_unix_nano": (opened or turn).wall_ns,
        "end_time_unix_nano": closed.wall_ns if closed else None,
        "attributes": attributes,
    }
