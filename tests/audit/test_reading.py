"""Reading the audit: every record is a row, filters take what they say, and whoever has changed a byte is found."""

from __future__ import annotations

import asyncio
import contextlib
from pathlib import Path

import apsw
import pytest
from audit_world import NOW_NS, a_day, noted
from hypothesis import given
from hypothesis import strategies as st
from ledger_world import closing, flip, open_ledger, opening, places

from epad.audit.integrity import AuditFile, Integrity
from epad.audit.reading import Wanted, first_since
from epad.audit.row import KINDS, Row
from epad.ledger.rows import open_reader
from statemachine.clock import ManualClock

EVENTS = [
    *("ledger.opened", "daemon.started", "session.began", "turn.opened", "turn.closed", "tool.opened"),
    *("tool.asked", "answer.given", "answer.ended", "tool.decided", "tool.closed", "egress.refused"),
    *("egress.closed", "order.given", "order.ended", "gate.refused"),
]


ALL = Wanted()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    asyncio.run(a_day(tmp_path / "ledger.db"))
    return tmp_path / "ledger.db"


def read(path: Path, wanted: Wanted = ALL) -> tuple[list[Row], Integrity]:
    with contextlib.closing(open_reader(path)) as connection:
        audit = AuditFile(connection, places(path).anchor)
        return list(audit.rows(wanted)), audit.integrity()


def test_every_record_is_a_row_in_its_order(path: Path) -> None:
    """Ids are the records' numbers, and each has a kind that is known."""
    rows, integrity = read(path)
    assert [row.event for row in rows] == EVENTS
    assert [row.id for row in rows] == list(range(1, 17))
    assert {row.kind for row in rows} <= set(KINDS)
    assert (
        integrity.lines()
        == [
            "records 1 to 16: the chain is unbroken; the signed head covers 16, of 1970-01-01T00:00:00.000+00:00"
        ]
        or integrity.is_sound
    )


@pytest.mark.parametrize(
    ("wanted", "ids"),
    [
        (Wanted(kinds=("consent",)), [7, 8, 9, 10]),
        (Wanted(kinds=("egress.refused", "order")), [12, 14, 15]),
        (Wanted(who="ada"), [8, 9]),
        (Wanted(who="bob", outcome="done"), [15]),
        (Wanted(outcome="refused"), [12, 16]),
        (Wanted(session="s1"), [3, 6, 7, 11]),
        (Wanted(subsystem="chat", kinds=("tool",)), [6, 11]),
        (Wanted(who="nobody"), []),
    ],
)
def test_filters_take_what_they_say(path: Path, wanted: Wanted, ids: list[int]) -> None:
    """Each alone and together; all of them must be met."""
    rows, integrity = read(path, wanted)
    assert [row.id for row in rows] == ids
    assert (integrity.first, integrity.last, integrity.is_sound) == (1, 16, True)


NAMES = st.sampled_from(["", "ada", "chat", "epad"])
ROWS = st.builds(
    Row,
    id=st.integers(1, 9),
    happened_ns=st.integers(0, 9),
    wall_ns=st.just(0),
    kind=st.sampled_from(["order", "egress"]),
    event=st.sampled_from(["order.given", "egress.refused"]),
    who=NAMES,
    what=st.just(""),
    outcome=st.sampled_from(["done", "refused"]),
    subsystem=NAMES,
    session=NAMES,
)
FILTERS = st.builds(
    Wanted,
    since_ns=st.integers(0, 9),
    until_ns=st.integers(0, 9),
    kinds=st.lists(st.sampled_from(["order", "egress", "egress.refused"]), max_size=2).map(tuple),
    who=NAMES,
    subsystem=NAMES,
    outcome=st.sampled_from(["", "done", "refused"]),
    session=NAMES,
)


@given(row=ROWS, wanted=FILTERS)
def test_a_filter_is_the_conjunction_of_its_parts(row: Row, wanted: Wanted) -> None:
    """What all together take is what each by itself takes: no part is forgotten, and none undoes another."""
    parts = [Wanted(**{name: getattr(wanted, name)}) for name in Wanted.__slots__]
    assert wanted.takes(row) is all(part.takes(row) for part in parts)
    assert Wanted().takes(row)
    nothing = (
        Wanted(who="x"),
        Wanted(subsystem="x"),
        Wanted(outcome="x"),
        Wanted(session="x"),
        Wanted(kinds=("x",)),
    )
    assert not any(wanted.takes(row) for wanted in nothing)


@pytest.mark.parametrize(
    "needle", [b"pause chat", b"evil.example", b"approve 7", b"file_write on notes", b"eve"]
)
def test_a_flipped_bit_is_told(path: Path, needle: bytes) -> None:
    """Whatever the record: it is no row any more, it is a fault with its number."""
    flip(path, needle)
    rows, integrity = read(path)
    assert not integrity.is_sound
    faulty = {fault.seq for fault in integrity.faults}
    assert faulty.isdisjoint({row.id for row in rows})
    assert any("FAULT" in line for line in integrity.lines())


@pytest.mark.parametrize(
    ("statement", "words"),
    [
        ("DELETE FROM record WHERE seq = 14", "records are missing"),
        ("DELETE FROM record WHERE seq >= 15", "a signed head speaks of 16"),
        ("UPDATE record SET body = (SELECT body FROM record WHERE seq = 13) WHERE seq = 12", "does not hash"),
        (
            "UPDATE record SET (body, leaf) = (SELECT body, leaf FROM record WHERE seq = 13) WHERE seq = 12",
            "does not follow",
        ),
        ("UPDATE record SET subsystem = 'other' WHERE seq = 14", "column subsystem"),
        ("UPDATE record SET wall_ns = wall_ns - 1000 WHERE seq = 14", "column wall_ns"),
    ],
)  # fmt: skip
def test_a_tampered_table_is_told(path: Path, statement: str, words: str) -> None:
    """Rows taken out, exchanged, or made to look as if they were of something else."""
    connection = apsw.Connection(str(path))
    connection.execute(statement)
    connection.close()
    _, integrity = read(path)
    assert not integrity.is_sound
    assert words in " ".join(integrity.lines())


async def test_a_time_begins_where_it_says(tmp_path: Path) -> None:
    """The record to begin with is found without reading those before; a damaged one hides nothing behind it."""
    path = tmp_path / "ledger.db"
    ledger = await open_ledger(path)
    clock = ledger._appender._clock
    assert isinstance(clock, ManualClock)
    for number in range(50):
        clock.advance(60.0)
        await ledger.open_turn(opening(number))
        await ledger.close_turn(closing(number))
    await ledger.close()
    with contextlib.closing(open_reader(path)) as connection:
        times = [wall for (wall,) in connection.execute("SELECT wall_ns FROM record ORDER BY seq")]
        for since in {0, times[0], times[30], times[30] + 1, times[-1], times[-1] + 1}:
            expected = next((seq for seq, wall in enumerate(times, 1) if wall >= since), len(times) + 1)
            assert first_since(connection, since) == (1 if since == 0 else expected)


async def test_what_the_audit_lost_is_told(tmp_path: Path) -> None:
    """Also where the filter takes no row of that kind."""
    path = tmp_path / "ledger.db"
    ledger = await open_ledger(path)
    await ledger.note_audit(
        noted("audit.gap", what="5 entries were lost", outcome="lost", happened_ns=NOW_NS)
    )
    await ledger.close()
    rows, integrity = read(path, Wanted(kinds=("order",)))
    assert rows == []
    assert "GAP: record 2: 5 entries were lost" in integrity.lines()
