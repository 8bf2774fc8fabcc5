"""Bodies beyond `keep_records` go; all that was said of them before is still true."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
from pathlib import Path

import apsw
import pytest
from ledger_world import closing, fill, open_ledger, opening, places, stored
from patience import until
from trimmed_world import KEPT, SEALED, SMALL, TURNS, finish, is_sealed, sealed_ledger, trimmed_ledger

from epad.ledger.anchor import verifier_at
from epad.ledger.export import record_at, records_from
from epad.ledger.full_verification import check_segments, verify_everything
from epad.ledger.kept_sums import kept_sums
from epad.ledger.proof import prove
from epad.ledger.record import Trimmed
from epad.ledger.rows import first_moment, last_sequence, newest_trim, open_reader, trimmed_through
from epad.ledger.seal import all_seals
from epad.ledger.segment import segment_paths
from epad.ledger.sums import Totals
from epad.ledger.trim import BATCH_ROWS, drop_bodies, plan_trim
from epad.ledger.usage import usage_since
from epad.ledger.verify import Verdict, verify


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "ledger.db"


@pytest.fixture(scope="module")
def made_once(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("trimmed")
    asyncio.run(trimmed_ledger(directory / "ledger.db"))
    return directory


@pytest.fixture
def trimmed(made_once: Path, path: Path) -> Path:
    shutil.copytree(made_once, path.parent, dirs_exist_ok=True)
    return path


async def test_the_oldest_go_by_whole_segments_and_no_more_than_may(trimmed: Path) -> None:
    with contextlib.closing(open_reader(trimmed)) as connection:
        through, last = trimmed_through(connection), last_sequence(connection)
        ends = {seal.trailer.last for seal in all_seals(connection).values()}
        bodies = [row.record is not None for row in records_from(connection, 1)]
    assert through in ends
    assert last - through >= KEPT
    assert bodies == [seq > through for seq in range(1, last + 1)]


async def test_what_is_left_verifies_to_the_byte(trimmed: Path) -> None:
    """Links, heads of any age, indexes, segments, sums; and says how many are not kept."""
    report = verify_everything(trimmed, places(trimmed), full=True)
    assert (report.words(), report.tombstones) == ("OK", 0)
    with contextlib.closing(open_reader(trimmed)) as connection:
        assert report.trimmed == trimmed_through(connection)


async def test_nothing_that_was_spent_is_forgotten(trimmed: Path, tmp_path: Path) -> None:
    """Totals, the spending of each age, and the turns that are open, as without any trimming."""
    whole = tmp_path / "whole" / "ledger.db"
    whole.parent.mkdir()
    await fill(whole, TURNS, places(whole), seal_records=SEALED, keep_records=0)
    told = []
    for each in (trimmed, whole):
        ledger = await open_ledger(each, places(each), **SMALL | {"keep_records": 0})
        spending = await ledger.spending(1 << 62, 1 << 62)
        told.append((await ledger.totals(), sum(used.tokens for used in spending.used)))
        await ledger.close()
    assert told[0] == told[1]
    assert told[0][0] == {"chat": Totals(20 * TURNS, 10 * TURNS, 30 * TURNS, TURNS)}


async def test_sums_that_are_lost_come_back_without_the_bodies(trimmed: Path) -> None:
    """The record of the trimming has those of what has gone: the sums of the seals are only the shorter way."""
    with contextlib.closing(apsw.Connection(str(trimmed))) as connection:
        connection.execute("DELETE FROM sums")
    ledger = await open_ledger(trimmed, places(trimmed), **SMALL)
    assert await ledger.totals() == {"chat": Totals(20 * TURNS, 10 * TURNS, 30 * TURNS, TURNS)}
    await ledger.close()


async def test_the_hashes_of_what_has_gone_still_vouch(trimmed: Path) -> None:
    """A leaf that is changed breaks the chain; a body that is missing behind the trimmed ones is damage."""
    with contextlib.closing(open_reader(trimmed)) as connection:
        through = trimmed_through(connection)
    proof = prove_one(trimmed, through - 2)
    assert proof["seq"] == through - 2
    with contextlib.closing(apsw.Connection(str(trimmed))) as connection:
        connection.execute("UPDATE record SET leaf = zeroblob(32) WHERE seq = ?", (through - 1,))
    assert verify(trimmed).verdict is Verdict.CORRUPT


def prove_one(path: Path, sequence: int) -> dict[str, object]:
    with contextlib.closing(open_reader(path)) as connection:
        return prove(connection, places(path).anchor, sequence)


@pytest.mark.parametrize(
    "what", ["DELETE FROM record WHERE seq = {first}", "UPDATE record SET body = NULL WHERE seq = {kept}"]
)
async def test_no_more_may_be_missing_than_the_record_says(trimmed: Path, what: str) -> None:
    """Neither a row of which only the body may be gone, nor a body behind them."""
    with contextlib.closing(open_reader(trimmed)) as connection:
        through = trimmed_through(connection)
    with contextlib.closing(apsw.Connection(str(trimmed))) as connection:
        connection.execute(what.format(first=through - 3, kept=through + 1))
    assert verify(trimmed).verdict is Verdict.CORRUPT


async def test_a_segment_that_is_to_be_there_is_missed(trimmed: Path) -> None:
    segments = segment_paths(places(trimmed).segments)
    assert check_segments(trimmed, places(trimmed)).faults == ()
    segments[-2].unlink()
    assert [fault.seq for fault in check_segments(trimmed, places(trimmed)).faults] != []


async def test_a_repair_of_the_catalogue_takes_the_segments_that_are_left(trimmed: Path) -> None:
    with contextlib.closing(open_reader(trimmed)) as connection:
        through, before = trimmed_through(connection), all_seals(connection)
    with contextlib.closing(apsw.Connection(str(trimmed))) as connection:
        connection.execute("UPDATE seal SET trailer = zeroblob(3) WHERE no = (SELECT max(no) FROM seal)")
    report = verify_everything(trimmed, places(trimmed), full=True)
    ledger = await open_ledger(trimmed, places(trimmed), **SMALL)
    await ledger.repair(report, [])
    await ledger.close()
    with contextlib.closing(open_reader(trimmed)) as connection:
        after = all_seals(connection)
    left = {number: seal for number, seal in before.items() if seal.trailer.last > through}
    assert {number: after[number] for number in left} == left
    assert verify_everything(trimmed, places(trimmed), full=True).words() == "OK"


@pytest.mark.parametrize("dropped", [0, 7, BATCH_ROWS])
async def test_what_a_crash_left_undoneis_done_by_the_next_start(path: Path, dropped: int) -> None:
    """The record is written; then not one body has gone, or some have."""
    await sealed_ledger(path)
    ledger = await open_ledger(path, places(path), seal_records=SEALED, keep_records=0)
    appender = ledger._appender
    with contextlib.closing(open_reader(path)) as connection:
        trim = plan_trim(connection, KEPT, last_sequence(connection), verifier_at(places(path).anchor))
    assert trim is not None
    await ledger._writer.call(lambda: appender.append_own(trim.record))
    if dropped:
        await ledger._writer.call(
            lambda: appender.write(lambda db: drop_bodies(db, 1, min(dropped, trim.through)))
        )
    await ledger.close()
    await finish(path)
    assert verify_everything(path, places(path), full=True).words() == "OK"


async def test_bodies_may_go_while_others_are_checked(path: Path) -> None:
    """A check that began before the record was written does not take what goes for damage."""
    await sealed_ledger(path)
    ledger = await open_ledger(path, places(path), seal_records=SEALED, keep_records=0)
    with contextlib.closing(open_reader(path)) as connection:
        trim = plan_trim(connection, KEPT, last_sequence(connection), verifier_at(places(path).anchor))
    assert trim is not None

    def progress(_done: int, _total: int) -> None:
        if newest_trim_of(path) is None:
            appender = ledger._appender
            asyncio.run_coroutine_threadsafe(
                ledger._writer.call(lambda: appender.append_own(trim.record)), loop
            ).result()
            drop = lambda: appender.write(lambda db: drop_bodies(db, 1, trim.through))  # noqa: E731
            asyncio.run_coroutine_threadsafe(ledger._writer.call(drop), loop).result()

    loop = asyncio.get_running_loop()
    report = await asyncio.to_thread(verify, path, progress=progress, anchor=places(path).anchor)
    await ledger.close()
    assert report.verdict.is_sound
    assert verify(path).trimmed > 0


def newest_trim_of(path: Path) -> Trimmed | None:
    with contextlib.closing(open_reader(path)) as connection:
        return newest_trim(connection)


@pytest.mark.parametrize(
    "spoil",
    [
        "DELETE FROM sums WHERE no = (SELECT max(no) FROM sums)",
        "UPDATE record SET body = x'00' WHERE seq = 5",
    ],
)
async def test_nothing_goes_that_is_not_counted_or_that_a_repair_needs(path: Path, spoil: str) -> None:
    await sealed_ledger(path)
    with contextlib.closing(apsw.Connection(str(path))) as connection:
        connection.execute(spoil)
    with contextlib.closing(open_reader(path)) as connection:
        verifier = verifier_at(places(path).anchor)
        assert len(kept_sums(connection, verifier)) <= 2
        assert plan_trim(connection, KEPT, last_sequence(connection), verifier) is None


async def test_what_is_asked_of_records_that_are_not_kept(trimmed: Path) -> None:
    """They are said to be so, and are no fault; the usage begins with the first that is kept."""
    with contextlib.closing(open_reader(trimmed)) as connection:
        through, first = trimmed_through(connection), first_moment(connection)
        shown = record_at(connection, through)
        usage = usage_since(connection, 0, "agent")
    assert shown is not None
    assert (shown.fields()["kind"], shown.fault) == ("trimmed", "")
    assert 0 < usage.total.turns < TURNS
    assert (usage.damaged, usage.total.open) == (0, 0)
    assert first == stored(trimmed, through + 1)[4]


async def test_the_file_stops_growing(path: Path) -> None:
    """Pages of bodies that have gone are written anew: what is added for good are hashes."""
    sizes = {}
    for turns, keep in ((500, 200), (1_500, 200), (1_500, 0)):
        where = path.parent / f"{turns}-{keep}" / "ledger.db"
        where.parent.mkdir()
        ledger = await open_ledger(where, places(where), seal_records=100, keep_records=keep)
        for first in range(0, turns, 50):
            some = range(first, first + 50)
            await asyncio.gather(*(ledger.open_turn(opening(number)) for number in some))
            await asyncio.gather(*(ledger.close_turn(closing(number)) for number in some))
            await until(lambda: is_sealed(where, 200))  # noqa: B023  awaited before the next round
        await ledger.close()
        if keep:
            await finish(where)
        sizes[turns, keep] = where.stat().st_size
    assert sizes[1_500, 200] - sizes[500, 200] < 0.4 * (sizes[1_500, 0] * 1_000 / 1_500)
