"""Word the records of turns and sessions, for `epactl trace` and `epactl explain`. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from epad.answers.decisions import Kind, Link
from epad.answers.tools import TracedEffect, TracedSession, TracedTurn
from epad.gate.tiers import Tier
from epad.gate.tool_labels import in_words
from epad.gate.tool_profile import OUTSIDE
from epad.gate.tool_risk import READS, ToolRisk
from epad.gate.tool_table import BOTH, LOWEST, Taint
from epad.ledger.record import Effect, Labelled, ToolClosed, ToolOpened, TurnClosed, TurnOpened
from epad.ledger.screened import Found
from epad.ledger.session_trace import KnownSession
from epad.ledger.session_trace import TracedTurn as Records

OPEN: Final = "open"
UNKNOWN: Final = "unknown"
_LOOKS: Final = {"attack": "like an attack", "benign": "benign", "unsure": "like neither"}


def moment(wall_ns: int) -> str:
    """Return a record's time in UTC, to the millisecond."""
    at = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=wall_ns // 1_000)
    return at.isoformat(timespec="milliseconds")


def tier_label(number: int) -> str:
    """Return a tier's word; of a number that this epad knows no tier of, the number."""
    try:
        return Tier(number).label
    except ValueError:
        return str(number)


def session(known: KnownSession) -> TracedSession:
    """Return a session as it is answered."""
    began, ended = known.began, known.ended
    return {
        "session": began.session,
        "subsystem": began.subsystem,
        "tier": tier_label(began.tier),
        "parent": began.parent,
        "template": began.template,
        "why": began.reason,
        "began_at": moment(began.wall_ns),
        "began_by": began.by,
        "ended_at": moment(ended.wall_ns) if ended else "",
        "ended_by": ended.by if ended else "",
        "ended_why": ended.reason if ended else "",
    }


def turn(records: Records, epoch: int) -> TracedTurn:
    """Return a turn as it is answered. One of an earlier run of the daemon without an end is of unknown end."""
    opened, closed = records.opened, records.closed
    either = records.any
    is_tool = isinstance(either, ToolOpened | ToolClosed)
    return {
        "turn": either.turn,
        "kind": "tool" if is_tool else "model",
        "parent": opened.parent if isinstance(opened, ToolOpened) else "",
        "name": _name(records),
        "began_at": moment(either.wall_ns),
        "ended_at": moment(closed.wall_ns) if closed else "",
        "outcome": outcome(records, epoch),
        "reason": closed.reason if closed else "",
        "row": row(records),
        "risk": opened.risk if isinstance(opened, ToolOpened) else "",
        "taint": opened.taint if isinstance(opened, ToolOpened) else 0,
        "input_tokens": closed.input_tokens if isinstance(closed, TurnClosed) else 0,
        "output_tokens": closed.output_tokens if isinstance(closed, TurnClosed) else 0,
        "result_bytes": closed.result_bytes if isinstance(closed, ToolClosed) else 0,
        "cpu_ms": closed.cpu_ms if isinstance(closed, ToolClosed) else 0,
        "wall_ms": closed.wall_ms if isinstance(closed, ToolClosed) else _between_ms(opened, closed),
        "effects": [effect(one) for one in closed.effects] if isinstance(closed, ToolClosed) else [],
        "undo": closed.undo if isinstance(closed, ToolClosed) else "",
    }


def outcome(records: Records, epoch: int) -> str:
    """Return the recorded outcome; `open` for a turn under way, `unknown` where the daemon died during it."""
    if records.closed is not None:
        return str(records.closed.outcome)
    return OPEN if records.any.epoch == epoch else UNKNOWN


def effect(told: Effect) -> TracedEffect:
    """Return an effect as it is answered."""
    return {"target": told.target, "before": _hex(told.before_sha256), "after": _hex(told.after_sha256)}


def effect_in_words(told: TracedEffect) -> str:
    """Return the deed: made, changed, removed; of anything else, that it was touched."""
    match told["before"], told["after"]:
        case None, None:
            return f"touched {told['target']}"
        case None, str():
            return f"made {told['target']}"
        case str(), None:
            return f"removed {told['target']}"
        case _:
            return f"changed {told['target']}"


def row(records: Records) -> str:
    """Return the row of the gate's table that a tool's turn has; empty for a model's."""
    either = records.any
    return either.row if isinstance(either, ToolOpened | ToolClosed) else ""


def session_of(records: Records) -> str:
    """Return the session that a tool's turn names; empty for a model's."""
    either = records.any
    return either.session if isinstance(either, ToolOpened | ToolClosed) else ""


def parent_of(records: Records) -> str:
    """Return the model's turn that asked for a tool's; empty if that is not known."""
    return records.opened.parent if isinstance(records.opened, ToolOpened) else ""


def row_in_words(row: str, risk: str = "") -> str:
    """Say the meaning of a row of the gate's table."""
    first, _, rest = row.partition("/")
    if first == "hold":
        return f"refused: the subsystem, the tool or its category was held ({rest})"
    if first == "order":
        return "a person's order"
    if first == OUTSIDE:
        return "refused: the tool is not among those that the configuration gives"
    try:
        grade = ToolRisk(risk or first)
    except ValueError:
        return f"row {row}"
    if rest == "tier":
        return f"refused: a tool that {grade.meaning} takes the tier {LOWEST[grade].label} or above"
    phase, _, taint = rest.partition("/")
    again = (
        ", which takes a consent that knows of the session's untrusted and private content" if taint else ""
    )
    return f"a tool that {grade.meaning}, in the phase {phase}{again}"


def taint_in_words(taint: int) -> str:
    """Say the labels of a session's content; one that this epad does not know is left out."""
    return in_words(Taint(taint & BOTH))


def chain(
    records: Records,
    known: KnownSession | None,
    parent: Records | None,
    epoch: int,
    labels: Sequence[Labelled] = (),
) -> list[Link]:
    """Return the links from the session to the effects, oldest first; `labels` are those of the session by then."""
    links = [] if known is None else [_session_link(known)]
    if parent is not None:
        links.append(_model_link(parent, epoch, asked=True))
    if isinstance(records.any, TurnOpened | TurnClosed):
        return [*links, _model_link(records, epoch, asked=False)]
    return [*links, *map(label_link, labels), _gate_link(records), *_call_links(records, epoch)]


def intent(found: Found) -> Link:
    """Return what a model's turn seemed to be for."""
    one = found.screening
    near = f", nearest to {one.group}" if one.group else ""
    looks = f"it looked {_LOOKS.get(one.label, one.label)}{near} (said with {one.score / 1000:.2f})"
    text = f"{looks}; a signal, by which nothing is decided"
    fields = {"label": one.label, "group": one.group, "score": one.score / 1000, "version": found.version}
    return _link("intent", one.turn, "", text, fields)


def _session_link(known: KnownSession) -> Link:
    told = session(known)
    text = (
        f"session of {told['subsystem']} began, tier {told['tier']}, by {told['began_by'] or 'nobody known'}"
    )
    if told["ended_at"]:
        why = f": {told['ended_why']}" if told["ended_why"] else ""
        text += f"; it ended {told['ended_at']}, by {told['ended_by'] or 'nobody known'}{why}"
    return _link("session", told["session"], told["began_at"], text, {"parent": told["parent"]})


def label_link(noted: Labelled) -> Link:
    """Return the link of a label that a session was given."""
    label = taint_in_words(noted.label)
    by = f", turn {noted.turn}" if noted.turn else ""
    text = f"the session has read {label} content: {noted.source}{by}"
    return _link("label", label, moment(noted.wall_ns), text, {"source": noted.source, "turn": noted.turn})


def _model_link(records: Records, epoch: int, *, asked: bool) -> Link:
    told = turn(records, epoch)
    if told["kind"] == "tool":
        return _link("tool", told["turn"], told["began_at"], f"about the turn of {told['name']}", {})
    text = f"{'asked for by a turn' if asked else 'a turn'} of the model {told['name']}: {told['outcome']}"
    fields = {name: told[name] for name in ("reason", "input_tokens", "output_tokens", "wall_ms")}
    return _link("model", told["turn"], told["began_at"], text, fields)


def _gate_link(records: Records) -> Link:
    either, opened = records.any, records.opened
    words, name = row_in_words(row(records)), _name(records)
    fields: dict[str, Any] = {"row": row(records)}
    if isinstance(opened, ToolOpened):
        text = (
            f"row {row(records)} let {name} pass: {words}; tier {tier_label(opened.tier)}, "
            f"no hold at block or above, taint {taint_in_words(opened.taint)}"
        )
        fields |= {"risk": opened.risk, "tier": tier_label(opened.tier), "taint": opened.taint}
    else:
        text = f"row {row(records)} did not let {name} pass: {words}"
        fields["reason"] = either.reason if isinstance(either, ToolClosed) else ""
    return _link("gate", row(records), moment(either.wall_ns), text, fields)


def _call_links(records: Records, epoch: int) -> Iterator[Link]:
    opened, told = records.opened, turn(records, epoch)
    if isinstance(opened, ToolOpened):
        fields = {
            "arguments_sha256": opened.arguments_sha256.hex(),
            "definition_sha256": opened.definition_sha256.hex(),
            "idempotency_key": opened.idempotency_key,
        }
        yield _link("tool", told["turn"], told["began_at"], f"{told['name']} was begun", fields)
    if told["outcome"] == UNKNOWN:
        yield _link("result", told["turn"], told["began_at"], _unknown(told), {})
    elif told["outcome"] == OPEN:
        yield _link("result", told["turn"], told["began_at"], "it is under way", {})
    else:
        yield _end_link(told)
    for one in told["effects"]:
        yield _link("effect", one["target"], told["ended_at"], effect_in_words(one), dict(one))


def _end_link(told: TracedTurn) -> Link:
    why = f": {told['reason']}" if told["reason"] else ""
    text = f"{told['outcome']}{why}, after {told['wall_ms']} ms"
    if told["outcome"] == "refused":
        text = f"refused{why}; nothing was done"
    elif told["undo"]:
        text += f"; `epactl undo {told['turn']}` takes it back while its before-images are kept"
    fields = {name: told[name] for name in ("cpu_ms", "wall_ms", "result_bytes")}
    return _link("result", told["turn"], told["ended_at"], text, fields)


def _unknown(told: TracedTurn) -> str:
    if told["risk"] in READS:
        return "the daemon died during the call, which only reads: it has changed nothing"
    look = f"`epactl undo {told['turn']} --reason TEXT --dry-run` tells which files it has changed"
    return f"the daemon died during the call, which is not repeated by itself: {look}"


def _link(kind: Kind, name: str, at: str, text: str, fields: dict[str, Any]) -> Link:
    return {"kind": kind, "id": name, "at": at, "text": text, "fields": fields}


def _name(records: Records) -> str:
    either = records.any
    if isinstance(either, ToolOpened | ToolClosed):
        return either.tool
    return records.opened.model if isinstance(records.opened, TurnOpened) else "?"


def _between_ms(opened: TurnOpened | ToolOpened | None, closed: TurnClosed | ToolClosed | None) -> int:
    if opened is None or closed is None or opened.boot_id != closed.boot_id:
        return 0
    return max(0, (closed.monotonic_ns - opened.monotonic_ns) // 1_000_000)


def _hex(digest: bytes | None) -> str | None:
    return None if digest is None else digest.hex()
