"""Why: the chain finding -> anomaly -> policy rule -> step -> result, read back from the journal."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import apsw

from epad.answers import decisions
from epad.control_loop.journal import RUNG
from epad.control_loop.step import StepName
from epad.storage.database import Database, fetch
from epad.storage.event_log import EventKind
from statemachine.finding import Severity
from statemachine.phase import Phase

# Links a chain shows at most, newest kept: more is `epactl events`.
MAX_LINKS = 200
_MOST_CHANGES = 5


@dataclass(frozen=True, slots=True)
class Link:
    """Holds one link of a chain. `id` joins to events, metrics and log lines."""

    kind: decisions.Kind
    id: str
    at: str
    text: str
    fields: Mapping[str, Any]

    def as_json(self) -> decisions.Link:
        return {"kind": self.kind, "id": self.id, "at": self.at, "text": self.text, "fields": self.fields}


class History:
    """Reads the journal for people."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def explain(self, subject: str | None) -> list[decisions.Link]:
        """The chain about a subsystem, a datastore, a phase (its latest entry), an id, or the last incident.

        An id is an event's number, or as in a chain: `step-3`. A victim's chain holds its root's. The chain of the last
        incident begins with the active anomalies.
        """
        return await self._database.read(lambda connection: _explain(connection, subject))

    async def transitions(self, limit: int = 50) -> list[decisions.Transition]:
        """Return the newest transitions, oldest first."""

        def work(connection: apsw.Connection) -> list[decisions.Transition]:
            rows = fetch(
                connection,
                "SELECT id, utc, source, destination, trigger, guard, sentence, cause FROM transition"
                " ORDER BY id DESC LIMIT ?",
                (limit,),
            )
            return [_transition(row) for row in reversed(rows)]

        return await self._database.read(work)


def _transition(row: Sequence[Any]) -> decisions.Transition:
    number, at, source, destination, trigger, guard, sentence, cause = row
    return {
        "id": number,
        "at": at,
        "source": source,
        "destination": destination,
        "trigger": trigger,
        "guard": guard,
        "sentence": sentence,
        "cause": json.loads(cause),
    }


def is_id(subject: str) -> bool:
    """Tell if it is an id: one as it stands in a chain, or an event's number."""
    return re.fullmatch(r"((anomaly|transition|step)-)?[0-9]{1,18}", subject) is not None


def _explain(connection: apsw.Connection, subject: str | None) -> list[decisions.Link]:
    told: list[Link] = []
    if subject is not None and subject.isdecimal():
        told += _event_links(connection, int(subject))
        subject = _subject_of_event(connection, int(subject))
    if subject is not None:
        told += _change_links(connection, subject)
    links = _chain(connection, _anomalies_about(connection, subject), subject, told)
    if subject is None:
        now = _chain(connection, _active(connection), "", [])
        links = now + [link for link in links if link not in now][len(now) - MAX_LINKS :]
    return [link.as_json() for link in links[:MAX_LINKS]]


def _chain(
    connection: apsw.Connection, anomalies: Sequence[int], subject: str | None, told: Iterable[Link]
) -> list[Link]:
    """Return the findings, decisions and steps in the order of time, beside the links given already."""
    links = [*told, *(link for number in anomalies for link in _anomaly_links(connection, number))]
    entries = _entries(connection, subject)
    links += _transition_links(connection, anomalies, entries | _restores(connection, subject))
    links += _step_links(connection, anomalies, subject, entries)
    # Within one millisecond the chain's own order holds.
    links.sort(key=lambda link: (link.at, _ORDER.index(link.kind)))
    return links[-MAX_LINKS:]


_ORDER = ("event", "finding", "anomaly", "rule", "step", "result")
# An event and what the journal has of it are not stamped in the same moment; an order comes before what it raises.
_EVENT_LAG_SECONDS = 2.0


def _event_links(connection: apsw.Connection, number: int) -> Iterable[Link]:
    for at, kind, subsystem, fields in _event(connection, number):
        yield Link("event", str(number), at, f"{kind} {subsystem}".strip(), json.loads(fields))


def _change_links(connection: apsw.Connection, subsystem: str) -> Iterable[Link]:
    """Yield how the last starts of a subsystem differed from those before them."""
    query = "SELECT id, utc, fields FROM event WHERE kind = ? AND subsystem = ? ORDER BY id DESC LIMIT ?"
    for number, at, fields in fetch(
        connection, query, (EventKind.SUBSYSTEM_CHANGED, subsystem, _MOST_CHANGES)
    ):
        told = json.loads(fields)
        yield Link("event", str(number), at, told["sentence"], told)


def _event(connection: apsw.Connection, number: int) -> list[tuple[str, str, str, str]]:
    query = "SELECT utc, kind, subsystem, fields FROM event WHERE id = ?"
    return [(row[0], row[1], row[2], row[3]) for row in fetch(connection, query, (number,))]


def _subject_of_event(connection: apsw.Connection, number: int) -> str:
    """Return the subject that an event refers to in the journal: its transition, else the anomaly of then."""
    for at, kind, subsystem, fields in _event(connection, number):
        told, around = json.loads(fields), _around(at)
        if kind == EventKind.PHASE_CHANGED:
            query = (
                "SELECT max(id) FROM transition WHERE utc BETWEEN ? AND ? AND source = ? AND destination = ?"
            )
            found = fetch(connection, query, (*around, told["source"], told["destination"]))[0][0]
            return f"transition-{found or 0}"
        query = (
            "SELECT max(id) FROM anomaly WHERE subsystem = ? AND raised_utc <= ?"
            " AND (cleared_utc IS NULL OR cleared_utc >= ?)"
        )
        return f"anomaly-{fetch(connection, query, (subsystem, around[1], around[0]))[0][0] or 0}"
    return "anomaly-0"


def _around(stamp: str) -> tuple[str, str]:
    """Return the interval within which the journal may have stamped an event of this time."""
    lag, at = timedelta(seconds=_EVENT_LAG_SECONDS), datetime.fromisoformat(stamp)
    return (at - lag).isoformat(timespec="milliseconds"), (at + lag).isoformat(timespec="milliseconds")


def _anomalies_about(connection: apsw.Connection, subject: str | None) -> list[int]:
    if subject is None:
        return sorted({number for _, numbers in _last_incident(connection) for number in numbers})
    if subject in {phase.value for phase in Phase}:
        query = "SELECT cause FROM transition WHERE destination = ? ORDER BY id DESC LIMIT 1"
        return [
            number
            for row in fetch(connection, query, (subject,))
            for number in json.loads(row[0])["anomalies"]
        ]
    if is_id(subject):
        return _anomalies_of_id(connection, *subject.split("-"))
    found = set(_newest(connection, subject, 10)) | set(_naming(connection, subject))
    found.update(number for root in _roots(connection, subject) for number in _newest(connection, root, 3))
    return sorted(found)


def _anomalies_of_id(connection: apsw.Connection, kind: str, number: str) -> list[int]:
    queries = {
        "transition": "SELECT cause FROM transition WHERE id = ?",
        "step": "SELECT o.cause FROM step s JOIN operation o ON o.id = s.operation WHERE s.id = ?",
    }
    if kind == "anomaly":
        return [int(number)]
    rows = fetch(connection, queries[kind], (int(number),))
    return [number for row in rows for number in json.loads(row[0])["anomalies"]]


def _active(connection: apsw.Connection) -> list[int]:
    return [
        row[0] for row in fetch(connection, "SELECT id FROM anomaly WHERE cleared_utc IS NULL ORDER BY id")
    ]


def _newest(connection: apsw.Connection, subsystem: str, count: int) -> list[int]:
    query = "SELECT id FROM anomaly WHERE subsystem = ? ORDER BY id DESC LIMIT ?"
    return [row[0] for row in fetch(connection, query, (subsystem, count))]


def _naming(connection: apsw.Connection, name: str) -> list[int]:
    """The last anomalies of others that it was found to suffer from; of a store, those it was found damaged by."""
    query = (
        "SELECT id FROM anomaly WHERE EXISTS (SELECT 1 FROM json_each(evidence, '$.victims') WHERE value = ?1)"
        " OR EXISTS (SELECT 1 FROM json_each(evidence, '$.datastores') WHERE value = ?1) ORDER BY id DESC LIMIT 3"
    )
    return [row[0] for row in fetch(connection, query, (name,))]


def _restores(connection: apsw.Connection, subject: str | None) -> set[int]:
    """Return the transitions that had a store restored, told by its name or who writes it.

    One that is damaged together with another's has no finding of its own: it is restored before it is stated.
    """
    query = (
        "SELECT o.transition FROM step s JOIN operation o ON o.id = s.operation WHERE s.name = ?1"
        " AND ?2 IN (s.target, json_extract(s.arguments, '$.writer')) ORDER BY s.id DESC LIMIT 3"
    )
    rows = fetch(connection, query, (StepName.RESTORE_DATASTORE, subject or ""))
    return {row[0] for row in rows if row[0] is not None}


def _roots(connection: apsw.Connection, victim: str) -> set[str]:
    """Return the roots that a victim was last held to wait for: it has no finding about their trouble itself."""
    query = (
        "SELECT root FROM (SELECT json_extract(arguments, '$.root') AS root FROM step WHERE target = ?"
        " ORDER BY id DESC LIMIT 10) WHERE root IS NOT NULL"
    )
    return {row[0] for row in fetch(connection, query, (victim,))}


def _entries(connection: apsw.Connection, subject: str | None) -> set[int]:
    """Return the transitions asked about: the last incident's, or the one that last led to a phase."""
    if subject is None:
        return {number for number, _ in _last_incident(connection)}
    if subject.startswith("transition-"):
        return {int(subject.removeprefix("transition-"))}
    query = "SELECT max(id) FROM transition WHERE destination = ?"
    return {row[0] for row in fetch(connection, query, (subject,)) if row[0] is not None}


def _last_incident(connection: apsw.Connection) -> list[tuple[int, list[int]]]:
    """Return the transitions since NORMAL was last left, each with the anomalies that it was about."""
    left = fetch(connection, "SELECT max(id) FROM transition WHERE source = ?", (Phase.NORMAL,))[0][0]
    rows = fetch(connection, "SELECT id, cause FROM transition WHERE id >= ?", (left or 0,))
    return [(row[0], json.loads(row[1])["anomalies"]) for row in rows]


def _anomaly_links(connection: apsw.Connection, number: int) -> Iterable[Link]:
    rows = fetch(
        connection,
        "SELECT probe, subsystem, severity, reason, value, limit_value, unit, evidence, raises, raised_utc,"
        " cleared_utc, cleared_reason FROM anomaly WHERE id = ?",
        (number,),
    )
    for row in rows:
        name, about = f"anomaly-{number}", f"{row[0]}/{row[1]}"
        evidence = json.loads(row[7])
        rung = {"rung": evidence.pop(RUNG)} if RUNG in evidence else {}
        measured = {"value": row[4], "limit": row[5], "unit": row[6], **rung, "evidence": evidence}
        yield Link("finding", name, row[9], f"{about}: {row[3]}", measured)
        severity = Severity(row[2]).label
        times = "" if row[8] == 1 else f", {row[8]} times by now"
        yield Link("anomaly", name, row[9], f"{about} raised as {severity}{times}", {"severity": severity})
        if row[10]:
            yield Link("anomaly", name, row[10], f"{about} cleared: {row[11]}", {})


def _transition_links(
    connection: apsw.Connection, anomalies: Sequence[int], entries: set[int]
) -> Iterable[Link]:
    wanted = set(anomalies)
    rows = fetch(
        connection,
        "SELECT id, utc, source, destination, trigger, guard, sentence, cause FROM transition"
        " ORDER BY id DESC LIMIT 500",
    )
    for row in reversed(rows):
        cause = json.loads(row[7])
        if wanted & set(cause["anomalies"]) or row[0] in entries:
            order = f": {cause['order']}" if cause["order"] else ""
            text = f"{row[2]} -> {row[3]} by {row[4]} [{row[5]}]: {row[6]}{order}"
            facts = {name: fact for name, fact in cause["situation"].items() if fact and name != "phase"}
            yield Link("rule", f"transition-{row[0]}", row[1], text, facts)


def _step_links(
    connection: apsw.Connection, anomalies: Sequence[int], subject: str | None, entries: set[int]
) -> Iterable[Link]:
    wanted = set(anomalies)
    rows = fetch(
        connection,
        "SELECT s.id, o.utc, s.utc, s.name, s.target, s.arguments, s.state, s.attempts, s.result, o.id, o.cause,"
        " o.transition FROM step s JOIN operation o ON o.id = s.operation ORDER BY s.id DESC LIMIT 1000",
    )
    for row in reversed(rows):
        arguments = json.loads(row[5])
        about = subject in (row[4], arguments.get("writer", row[4])) or row[11] in entries
        if not about and not wanted & set(json.loads(row[10])["anomalies"]):
            continue
        what = arguments.get("rung", "")
        fields = {"operation": row[9], "arguments": arguments}
        yield Link("step", f"step-{row[0]}", row[1], f"{row[3]} {row[4]} {what}".strip(), fields)
        result = f"{row[3]} {row[4]}: {row[6]} after {row[7]} attempt(s): {row[8]}".removesuffix(": ")
        yield Link("result", f"step-{row[0]}", row[2], result, {"state": row[6]})
