"""What the ledger has acknowledged is on the disk, in order, and chained."""

from __future__ import annotations

import asyncio
import contextlib
import resource
import signal
import subprocess
import sys
from pathlib import Path

import apsw
import msgspec
import pytest
from ledger_world import BOOT, closing, config, fill, open_ledger, opening, places, stored, turn_id

from epad.ledger.entry import CloseTurn
from epad.ledger.errors import LedgerBusyError, LedgerError, LedgerUnavailableError
from epad.ledger.query import Spend
from epad.ledger.record import (
    EpochStarted,
    Outcome,
    Record,
    TurnClosed,
    TurnOpened,
    UsageSource,
    decode,
    encode,
)
from epad.ledger.store import Ledger
from epad.ledger.sums import Totals
from epad.ledger.verify import Verdict, verify
from epad.storage.open_file import OpenFiles
from statemachine.clock import ManualClock


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "ledger.db"


def epoch_at(path: Path, sequence: int) -> EpochStarted:
    body = stored(path, sequence)[5]
    assert isinstance(body, bytes)
    record = decode(sequence, body)
    assert isinstance(record, EpochStarted)
    return record


async def test_turns_are_numbered_from_the_epoch_on(path):
    """The opening of the file is record 1; a turn's two records follow as they come."""
    ledger = await open_ledger(path)

    assert await ledger.open_turn(opening(1)) == 2
    assert await ledger.close_turn(closing(1)) == 3
    assert ledger.records == 3
    await ledger.close()
    assert verify(path).verdict is Verdict.OK
    assert verify(path).checked == 3


async def test_two_hundred_at_once_share_commits(path):
    """Concurrent turns get a number each, in a handful of commits."""
    ledger = await open_ledger(path)

    numbers = await asyncio.gather(*(ledger.open_turn(opening(number)) for number in range(200)))
    assert sorted(numbers) == list(range(2, 202))
    assert 1 < ledger.commits < 100
    assert ledger.waiting == 0
    await ledger.close()
    assert verify(path).verdict is Verdict.OK


async def test_a_batch_is_never_larger_than_configured(path):
    """A limit on the batch makes more commits of the same turns."""
    ledger = await open_ledger(path, batch_turns=10)

    await asyncio.gather(*(ledger.open_turn(opening(number)) for number in range(100)))
    assert ledger.commits >= 11
    await ledger.close()


async def test_what_one_turn_of_the_loop_brings_is_one_commit(path):
    """Records made without a pause between them reach the disk together."""
    ledger = await open_ledger(path)
    before = ledger.commits

    await asyncio.gather(*(ledger.open_turn(opening(number)) for number in range(50)))
    assert ledger.commits == before + 1
    await ledger.close()


async def test_a_lazy_closing_shares_the_commit_of_the_next_opening(path):
    """It waits for company, comes before the opening that it waited for, and goes alone if none comes."""
    ledger = await open_ledger(path)
    await ledger.open_turn(opening(1))
    before = ledger.commits

    closed = ledger.close_turn(closing(1), lazily=True)
    assert await ledger.open_turn(opening(2)) == 4
    assert (await closed, ledger.commits) == (3, before + 1)
    assert await ledger.close_turn(closing(2), lazily=True) == 5
    await ledger.close()
    assert verify(path).verdict is Verdict.OK


async def test_a_lazy_closing_is_on_the_disk_when_the_ledger_is_closed(path):
    """Whoever stops the daemon does not have to wait for it."""
    ledger = await open_ledger(path)
    await ledger.open_turn(opening(1))

    closed = ledger.close_turn(closing(1), lazily=True)
    await ledger.close()
    assert await closed == 3
    assert stored(path, 3)[1] == turn_id(1)


async def test_a_closing_is_known_by_its_opening_in_the_same_commit_or_on_the_disk(path):
    """A turn is closed right after its opening, or in a later epoch; one never opened is not, nor one refused."""
    ledger = await open_ledger(path)
    both = await asyncio.gather(ledger.open_turn(opening(1)), ledger.close_turn(closing(1)))
    assert both == [2, 3]
    await ledger.open_turn(opening(2))
    await ledger.close()

    ledger = await open_ledger(path)
    assert await ledger.close_turn(closing(2)) == 6
    with pytest.raises(LedgerError, match="never opened"):
        await ledger.close_turn(closing(3))
    await ledger.close()


async def test_more_than_may_wait_are_turned_away(path):
    """A disk that does not keep up is felt at once, and what was taken is still written."""
    ledger = await open_ledger(path, waiting_turns=5)

    results = await asyncio.gather(
        *(ledger.open_turn(opening(number)) for number in range(8)), return_exceptions=True
    )
    assert [isinstance(result, LedgerBusyError) for result in results] == [False] * 5 + [True] * 3
    assert await ledger.open_turn(opening(9)) == 7
    await ledger.close()


async def test_a_cancelled_caller_does_not_lose_the_record(path):
    """Whoever stops waiting has still spoken: the record is written and the chain goes on."""
    ledger = await open_ledger(path)
    task = asyncio.ensure_future(ledger.open_turn(opening(1)))
    await asyncio.sleep(0)
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task

    assert await ledger.open_turn(opening(2)) == 3
    assert ledger.waiting == 0
    await ledger.close()
    assert stored(path, 2)[1] == turn_id(1)


async def test_a_turn_is_opened_once_and_closed_once(path):
    """What contradicts the ledger is refused alone; the others in its batch are not harmed."""
    ledger = await open_ledger(path)
    calls = [
        ledger.open_turn(opening(1)),
        ledger.open_turn(opening(1)),
        ledger.close_turn(closing(2)),
        ledger.close_turn(closing(1)),
        ledger.close_turn(closing(1)),
    ]

    results = await asyncio.gather(*calls, return_exceptions=True)
    assert [isinstance(result, LedgerError) for result in results] == [False, True, True, False, True]
    assert ledger.records == 3
    await ledger.close()
    assert verify(path).verdict is Verdict.OK


async def test_a_refused_turn_needs_no_opening(path):
    """A refusal reserves nothing, so it is recorded by one record."""
    ledger = await open_ledger(path)
    refused = CloseTurn(turn_id(1), "chat", Outcome.REFUSED, 0, 0, 0, UsageSource.COUNTED, 402, "budget")

    assert await ledger.close_turn(refused) == 2
    await ledger.close()


async def test_text_that_cannot_be_written_harms_only_itself(path):
    """A lone surrogate in a client's model name is that client's trouble."""
    ledger = await open_ledger(path)
    bad = CloseTurn(turn_id(1), "chat", Outcome.REFUSED, 0, 0, 0, UsageSource.COUNTED, 0, "\ud800")

    results = await asyncio.gather(
        ledger.close_turn(bad), ledger.open_turn(opening(2)), return_exceptions=True
    )
    assert isinstance(results[0], LedgerError)
    assert results[1] == 2
    await ledger.close()


async def test_each_opening_says_how_the_one_before_ended(path):
    """An orderly close is told from a crash, and epochs count up."""
    await fill(path, 1)
    ledger = await open_ledger(path)
    connection = ledger._appender.connection()
    await ledger._writer.call(lambda: connection.execute("SELECT 1"))
    await ledger.close()

    assert epoch_at(path, 1).clean
    assert epoch_at(path, 4).clean
    assert epoch_at(path, 4).epoch == 2
    assert epoch_at(path, 4).previous_link == stored(path, 3)[7]


async def test_a_closed_ledger_takes_nothing(path):
    """After the orderly end no record is promised any more; closing twice is nothing."""
    ledger = await open_ledger(path)
    await ledger.close()
    await ledger.close()

    with pytest.raises(LedgerUnavailableError, match="closed"):
        await ledger.open_turn(opening(1))


async def test_a_file_that_is_no_database_is_named(path):
    """Opening fails with the file's name, and no thread is left behind waiting."""
    path.write_bytes(b"not a database" * 100)

    with pytest.raises(LedgerUnavailableError, match=r"ledger\.db"):
        await open_ledger(path)


async def test_lost_turns_are_those_of_former_epochs(path):
    """A turn that was open at the crash is lost; one that is open now is not."""
    ledger = await open_ledger(path)
    await ledger.open_turn(opening(1))
    await ledger.open_turn(opening(2))
    await ledger.close_turn(closing(2))
    assert await ledger.lost_turns() == []
    await ledger.close()

    ledger = await open_ledger(path)
    await ledger.open_turn(opening(3))
    assert [turn.turn for turn in await ledger.lost_turns()] == [turn_id(1)]
    await ledger.close()


async def test_spending_is_what_was_charged_or_is_reserved(path):
    """A closed turn counts by its charge when it closed, an open one by its whole reservation."""
    clock = ManualClock()
    ledger = await Ledger.open(path, config(), clock, BOOT)
    start = epoch_at(path, 1).wall_ns
    await ledger.open_turn(opening(1))
    clock.advance(60)
    await ledger.close_turn(closing(1, charged_tokens=30))
    await ledger.open_turn(opening(2, "wargame", reserved_tokens=500))

    later = start + 60_000_000_000
    expected = [Spend("chat", later, 30), Spend("wargame", later, 500)]
    assert await ledger.spending_since(start) == expected
    assert await ledger.spending_since(later) == expected
    assert await ledger.spending_since(later + 1) == []
    await ledger.close()


async def test_totals_go_on_from_where_they_were(path):
    """Sums grow by what is new, by subsystem."""
    ledger = await open_ledger(path)
    for number in range(4):
        name = "chat" if number % 2 else "wargame"
        await ledger.open_turn(opening(number, name))
        await ledger.close_turn(closing(number, name))
        totals = await ledger.totals()

    assert totals == {"chat": Totals(40, 20, 60, 2), "wargame": Totals(40, 20, 60, 2)}
    await ledger.close()


def in_format_1(record: Record) -> bytes:
    """A body as the first format had it: the time behind what a turn asked for or came to."""
    if not isinstance(record, TurnOpened | TurnClosed):
        return encode(record)
    values = msgspec.structs.asdict(record)
    wall_ns, names = values.pop("wall_ns"), list(values)
    values_then = list(values.values())
    values_then.insert(names.index("boot_id"), wall_ns)
    return msgspec.msgpack.encode([0x101 if isinstance(record, TurnOpened) else 0x102, *values_then])


async def test_a_ledger_of_the_first_format_goes_on(path, monkeypatch):
    """What is lost, spent and charged in it is known, it verifies in full, and today's records are chained to it."""
    monkeypatch.setattr("epad.ledger.batch.encode", in_format_1)
    await fill(path, 300, places(path))
    ledger = await open_ledger(path, places(path))
    await ledger.open_turn(opening(300))
    await ledger.close()
    monkeypatch.undo()
    body = stored(path, 2)[5]
    assert isinstance(body, bytes)
    assert body.startswith(b"\xdc\x00\x10\xcd\x01\x01")

    ledger = await open_ledger(path, places(path))
    assert [turn.turn for turn in await ledger.lost_turns()] == [turn_id(300)]
    await ledger.close_turn(closing(300))
    assert (await ledger.totals())["chat"] == Totals(301 * 20, 301 * 10, 301 * 30, 301)
    await ledger.close()
    report = verify(path, anchor=places(path).anchor, full=True)
    assert (report.words(), report.checked) == ("OK", 605)


async def test_a_full_disk_fails_those_who_wait_and_no_one_else(path):
    """SQLITE_FULL rolls back: what was acknowledged stays, and writing goes on when there is room again."""
    ledger = await open_ledger(path)
    await ledger.open_turn(opening(0))
    connection = ledger._appender.connection()
    pages = int(str(connection.pragma("page_count")))
    await ledger._writer.call(lambda: connection.pragma("max_page_count", pages))

    results = await asyncio.gather(
        *(ledger.open_turn(opening(number)) for number in range(1, 200)), return_exceptions=True
    )
    failed = [result for result in results if isinstance(result, LedgerUnavailableError)]
    assert failed
    assert "free space" in str(failed[0])
    await ledger._writer.call(lambda: connection.pragma("max_page_count", 1_000_000))
    kept = ledger.records
    assert await ledger.open_turn(opening(500)) == kept + 1
    await ledger.close()
    assert verify(path).verdict is Verdict.OK
    assert verify(path).last_seq == kept + 1


async def test_after_an_io_error_the_file_is_opened_anew_and_read_back(path):
    """A write the kernel refuses ends that connection; the next write finds every acknowledged record."""
    ledger = await open_ledger(path)
    acknowledged = [await ledger.open_turn(opening(number)) for number in range(5)]
    ledger.guard(OpenFiles.of_databases(path).loss)  # a file that was opened again is the same file
    before = ledger._appender.connection()
    size = Path(f"{path}-wal").stat().st_size
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
        with pytest.raises(LedgerUnavailableError):
            await ledger.open_turn(opening(100))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, ignored)

    assert await ledger.open_turn(opening(101)) == acknowledged[-1] + 1
    assert ledger._appender.connection() is not before
    assert ledger.epoch == 1
    await ledger.close()
    assert verify(path).verdict is Verdict.OK


async def test_a_promise_the_disk_did_not_keep_stops_the_ledger(path):
    """If acknowledged records are gone after an I/O error, nothing more is promised."""
    ledger = await open_ledger(path)
    await ledger.open_turn(opening(1))
    await ledger._writer.call(ledger._appender.drop)
    thief = apsw.Connection(str(path))
    thief.execute("DELETE FROM record WHERE seq = 2")
    thief.close()

    with pytest.raises(LedgerUnavailableError, match="acknowledged"):
        await ledger.open_turn(opening(2))
    await ledger.close()


CHILD = """
import asyncio, sys
from pathlib import Path
sys.path[:0] = sys.argv[2].split(':')
from ledger_world import closing, open_ledger, opening

async def turn(ledger, number):
    print(await ledger.open_turn(opening(number)), flush=True)
    print(await ledger.close_turn(closing(number)), flush=True)

async def main():
    ledger = await open_ledger(Path(sys.argv[1]))
    first = int(sys.argv[3])
    for start in range(first, first + 100_000, 20):
        await asyncio.gather(*(turn(ledger, number) for number in range(start, start + 20)))

asyncio.run(main())
"""


def killed_mid_burst(path: Path, first: int, lines: int) -> list[int]:
    """Run a writer, kill it after so many acknowledgements, and return those."""
    command = [
        sys.executable,
        "-c",
        CHILD,
        str(path),
        f"{Path(__file__).parent}:{Path(__file__).parents[2]}",
        str(first),
    ]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        seen = [int(child.stdout.readline()) for _ in range(lines)]
        child.kill()
        seen += [int(line) for line in child.stdout.read().splitlines(keepends=True) if line.endswith("\n")]
    return seen


async def test_kill_mid_burst_loses_nothing_acknowledged(path):
    """`kill -9` during a burst, thrice: every acknowledged record is there and the chain holds."""
    acknowledged: set[int] = set()
    for attempt in range(3):
        acknowledged.update(killed_mid_burst(path, attempt * 1_000_000, 100 + 37 * attempt))
        report = verify(path)
        assert report.verdict is Verdict.OK
        assert acknowledged <= set(range(1, report.last_seq + 1))

    ledger = await open_ledger(path)
    newest = ledger.records
    spent = await ledger.spending_since(0)
    lost = await ledger.lost_turns()
    await ledger.close()
    assert verify(path).verdict is Verdict.OK
    assert not epoch_at(path, newest).clean
    assert sum(spend.tokens == 100 for spend in spent) == len(lost)


async def test_what_refuses_turns_lets_an_open_one_be_closed_and_what_loses_them_does_not(path):
    """A turn whose end is not on record counts with all that it had reserved."""
    ledger = await open_ledger(path)
    await asyncio.gather(*(ledger.open_turn(opening(number)) for number in (1, 2, 3)))
    why = "no room is left"
    ledger.guard(str, lambda: why)
    opened, closed = await asyncio.gather(
        ledger.open_turn(opening(4)), ledger.close_turn(closing(1)), return_exceptions=True
    )
    assert isinstance(opened, LedgerUnavailableError)
    assert str(opened) == ledger.shut() == why
    assert closed == ledger.records
    ledger.guard(lambda: "ledger.db was deleted")
    with pytest.raises(LedgerUnavailableError, match="was deleted"):
        await ledger.close_turn(closing(2))
    ledger.guard(str)
    await ledger.close_turn(closing(3))
    await ledger.close()
    assert verify(path).verdict is Verdict.OK
