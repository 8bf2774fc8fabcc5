"""Sum up the audit of a time: what ran, what was refused, who consented, what left, incidents, money, integrity.

Every number is that of records whose ids stand beside it: all of a few, else MOST_IDS and the last; `epactl audit`
shows the others. Memory is bounded: keys beyond MOST_KEYS of a table are summed up in one row, "others".
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, Final

from epad.audit.integrity import Integrity
from epad.audit.row import OPENED, Row

MOST_IDS: Final = 5
MOST_KEYS: Final = 500
MOST_LISTED: Final = 500
"""Entries of a list, the newest; the number of all is told."""
OTHERS: Final = "others"
REFUSED: Final = frozenset({"refused", "denied", "unanswered"})


@dataclass(slots=True)
class Sum:
    """Counts records of one key; `sums` has what else is added up, and `ids` the first of them."""

    count: int = 0
    sums: dict[str, int] = field(default_factory=dict)
    ids: list[int] = field(default_factory=list)
    last_id: int = 0

    def add(self, row: Row, **numbers: int) -> None:
        """Count a record."""
        self.count += 1
        self.last_id = row.id
        if len(self.ids) < MOST_IDS:
            self.ids.append(row.id)
        for name, number in numbers.items():
            self.sums[name] = self.sums.get(name, 0) + number


@dataclass(slots=True)
class Table:
    """Holds sums by key."""

    rows: dict[tuple[str, ...], Sum] = field(default_factory=dict)

    def add(self, key: tuple[str, ...], row: Row, **numbers: int) -> None:
        """Count a record under a key."""
        if key not in self.rows and len(self.rows) >= MOST_KEYS:
            key = (OTHERS, *[""] * (len(key) - 1))
        self.rows.setdefault(key, Sum()).add(row, **numbers)

    def total(self, name: str = "") -> int:
        """Return the number of records, or the sum of a number."""
        return sum(one.sums.get(name, 0) if name else one.count for one in self.rows.values())


@dataclass(slots=True)
class Listed:
    """Holds the newest of some records, and how many there were."""

    count: int = 0
    rows: list[Row] = field(default_factory=list)

    def add(self, row: Row) -> None:
        """Take a record into the list."""
        self.count += 1
        self.rows.append(row)
        if len(self.rows) > MOST_LISTED:
            del self.rows[0]


@dataclass(slots=True)
class Report:
    """Holds the sums of one time. `since` and `until` are as ISO 8601 has them."""

    since: str
    until: str
    kinds: Table = field(default_factory=Table)
    """Of all records, by kind and outcome."""
    turns: Table = field(default_factory=Table)
    """Ends of models' turns by subsystem and outcome, with tokens and micro-USD."""
    tools: Table = field(default_factory=Table)
    """Ends of tools' calls by subsystem, tool and outcome."""
    sessions: Table = field(default_factory=Table)
    refusals: Table = field(default_factory=Table)
    """What was refused, by kind, who and what."""
    orders: Listed = field(default_factory=Listed)
    answers: Listed = field(default_factory=Listed)
    """What persons answered to questions, with who and what came of it."""
    hosts: Table = field(default_factory=Table)
    """Connections that ended, by subsystem and host, with the bytes."""
    attempts: Table = field(default_factory=Table)
    """Connections that were refused, by subsystem, host and reason."""
    secrets: Table = field(default_factory=Table)
    incidents: Listed = field(default_factory=Listed)
    phases: Listed = field(default_factory=Listed)
    changes: Listed = field(default_factory=Listed)
    """Changes of the configuration and of policies."""
    runs: Listed = field(default_factory=Listed)
    """Starts and ends of epad, and what befell the ledger."""
    records: int = 0

    def add(self, row: Row) -> None:
        """Count a record."""
        self.records += 1
        self.kinds.add((row.kind, row.outcome), row)
        if row.outcome in REFUSED:
            self.refusals.add((row.kind, row.who, row.what), row)
        take = _TAKERS.get(row.kind)
        if take is not None:
            take(self, row)


def report_of(rows: Iterable[Row], since: str, until: str) -> Report:
    """Sum up rows."""
    report = Report(since, until)
    for row in rows:
        report.add(row)
    return report


def as_json(report: Report, integrity: Integrity) -> dict[str, Any]:
    """Return the sums as JSON values, which a test counts again."""
    tables = ("kinds", "turns", "tools", "sessions", "refusals", "hosts", "attempts", "secrets")
    lists = ("orders", "answers", "incidents", "phases", "changes", "runs")
    return {
        "since": report.since,
        "until": report.until,
        "records": report.records,
        "integrity": integrity.lines(),
        **{name: _table_json(getattr(report, name)) for name in tables},
        **{name: getattr(report, name).count for name in lists},
    }


def _table_json(table: Table) -> list[dict[str, Any]]:
    return [
        {"key": list(key), "count": one.count, **one.sums, "ids": one.ids}
        for key, one in sorted(table.rows.items())
    ]


def _turn(report: Report, row: Row) -> None:
    if row.outcome != OPENED:
        names = ("input_tokens", "output_tokens", "charged_tokens", "charged_microusd")
        report.turns.add(
            (row.subsystem, row.outcome), row, **{name: int(row.details[name]) for name in names}
        )


def _tool(report: Report, row: Row) -> None:
    if row.outcome != OPENED:
        report.tools.add((row.subsystem, str(row.details["tool"]), row.outcome), row)


def _session(report: Report, row: Row) -> None:
    report.sessions.add((row.subsystem, row.outcome), row)


def _order(report: Report, row: Row) -> None:
    if row.event.endswith(".ended"):
        report.orders.add(row)


def _consent(report: Report, row: Row) -> None:
    if row.event == "answer.ended":
        report.answers.add(row)


def _egress(report: Report, row: Row) -> None:
    details = row.details
    host = f"{details.get('host', '?')}:{details.get('port', '?')}"
    stands_for = 1 + _number(details.get("unsaid_before"))
    if row.event == "egress.closed":
        sent = _number(details.get("sent_bytes")) + _number(details.get("sent_bytes_before"))
        received = _number(details.get("received_bytes")) + _number(details.get("received_bytes_before"))
        key = (row.subsystem, host)
        report.hosts.add(key, row, connections=stands_for, sent_bytes=sent, received_bytes=received)
    elif row.event in {"egress.refused", "egress.direct"}:
        why = str(details.get("why") or details.get("words") or "")
        report.attempts.add((row.subsystem, host, why), row, attempts=stands_for)


def _secret(report: Report, row: Row) -> None:
    name = str(row.details.get("secret") or row.details.get("name") or row.what)
    report.secrets.add((name, row.who, row.event), row)


def _number(value: Any) -> int:
    return value if isinstance(value, int) else 0


def _listed(name: str) -> Callable[[Report, Row], None]:
    def add(report: Report, row: Row) -> None:
        getattr(report, name).add(row)

    return add


_TAKERS: Final[dict[str, Callable[[Report, Row], None]]] = {
    "turn": _turn,
    "tool": _tool,
    "session": _session,
    "order": _order,
    "consent": _consent,
    "egress": _egress,
    "secret": _secret,
    "incident": _listed("incidents"),
    "phase": _listed("phases"),
    "config": _listed("changes"),
    "daemon": _listed("runs"),
    "ledger": _listed("runs"),
}
