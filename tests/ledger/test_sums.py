"""The sums at seals: of any history what a reading of all records comes to, and no other sums are believed."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import math
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import apsw
import pytest
import read_backwards
from hypothesis import HealthCheck, Phase, example, given, settings
from hypothesis import strategies as st
from kept_past import RecordedTurns, TwoClocks
from ledger_world import closing, config, flip, open_ledger, opening, places, stored, turn_id
from msgspec import structs

from epad.configuration.schema import BudgetConfig
from epad.gateway.budget import Budgets, Spend
from epad.gateway.limits import REQUEST_SECONDS, WINDOWS
from epad.ledger import sums
from epad.ledger.anchor import verifier_at
from epad.ledger.catalogue import renewed_digest
from epad.ledger.chain import Fault, FaultKind
from epad.ledger.errors import LedgerUnavailableError, RecordError
from epad.ledger.full_verification import verify_everything
from epad.ledger.head import load_or_make_key
from epad.ledger.integrity import Integrity
from epad.ledger.kept_sums import keep_sums, kept_sums, sign_sums
from epad.ledger.record import Record
from epad.ledger.rows import open_reader, read_chunks
from epad.ledger.seal import all_seals
from epad.ledger.segment import Seal
from epad.ledger.spent import add_records, wrong_sums
from epad.ledger.sums import LEVELS, Slot, Summing, Sums, Totals, Used, decode_sums, encode_sums
from epad.ledger.verify import Verdict, verify
from epad.metrics.registry import Metrics
from epad.storage.database import fetch
from statemachine.clock import ManualClock

TURNS, SEALED = 30, 20
UNLIMITED = {shape.limit: 1 << 60 for shape in WINDOWS} | {"requests_per_minute": 1 << 60}

EDGES = sorted({8 * seconds + off for level in LEVELS for seconds in level for off in (-1, 0, 1)})
EIGHTHS = st.one_of(
    st.integers(0, 16),
    st.integers(0, 720),
    st.integers(0, 9_000_000),
    st.sampled_from(EDGES),
    st.sampled_from([8 * seconds for level in LEVELS for seconds in level]).map(
        lambda eighths: eighths * 7 // 8
    ),
)
STEPS = st.sampled_from([1.0, -1.0, 7_200.0, -7_200.0, 40 * 86_400.0, -40 * 86_400.0])
EVENTS = st.one_of(
    st.tuples(st.just("open"), st.sampled_from("ab"), st.integers(0, 100)),
    st.tuples(st.just("close"), st.integers(0, 3), st.integers(0, 100)),
    st.tuples(st.just("spend"), st.sampled_from("ab"), st.integers(1, 100)),
    st.tuples(st.just("wait"), EIGHTHS),
    st.tuples(st.just("step"), STEPS),
    st.tuples(st.just("begin"), st.booleans()),
    st.tuples(st.just("reboot"), EIGHTHS),
    st.tuples(st.just("damage")),
    st.tuples(st.just("seal")),
)


class History(RecordedTurns):
    """Random turns and restarts; seals keep the sums, as of then."""

    def __init__(self) -> None:
        super().__init__(TwoClocks())
        self.begin()
        self.open_turns: dict[int, str] = {}
        self.number = 0

    def play(self, event: tuple[object, ...]) -> None:
        match event:
            case ("open", str(name), int(tokens)):
                self.number += 1
                self.open(self.number, name, tokens)
                self.open_turns[self.number] = name
            case ("spend", str(name), int(tokens)):
                self.number += 1
                self.open(self.number, name, tokens)
                self.close(self.number, name, tokens)
            case ("close", int(which), int(tokens)) if self.open_turns:
                number = sorted(self.open_turns)[which % len(self.open_turns)]
                self.close(number, self.open_turns.pop(number), tokens)
            case ("wait", int(eighths)):
                self.clock.advance(eighths / 8)
            case ("step", float(seconds)):
                self.clock.step(seconds)
            case ("begin", bool(clean)):
                self.begin(clean=clean)
            case ("reboot", int(eighths)):
                self.clock.reboot()
                self.clock.advance(eighths / 8)
                self.begin()
            case ("damage",):
                self.tear()
            case ("seal",):
                self.kept = encode_sums(self.summing().sums())

    def tear(self) -> None:
        """Damage the newest record, unless it is sealed: sums know what a record said before it was damaged."""
        if self.summing().through > decode_sums(self.kept).through:
            self.connection.execute(
                "UPDATE record SET body = zeroblob(9) WHERE seq = (SELECT max(seq) FROM record)"
            )


def counted(used: list[Used], now: float) -> dict[str, int]:
    """What every window comes to."""
    budgets = Budgets({name: BudgetConfig(**UNLIMITED) for name in "ab"}, 99)
    budgets.restore(
        [Spend(one.subsystem, one.tokens, one.age_ns / 1e9, 0, one.requests) for one in used], now
    )
    return {
        f"{name} {limit}": usage.used for name in "ab" for limit, usage in budgets.snapshot(name, now).items()
    }


HISTORIES = st.lists(EVENTS, max_size=60)
# Two spends that only an hour's window tells apart, summed up meanwhile.
APART = [
    ("spend", "a", 10), ("wait", 800), ("spend", "a", 10), ("wait", 800), ("begin", True), ("seal",), ("wait", 27_520),
]  # fmt: skip


@settings(max_examples=300, deadline=None)
@given(HISTORIES)
@example(APART)
def test_the_sums_come_to_what_a_reading_of_all_records_comes_to(events: list[tuple[object, ...]]) -> None:
    """In this boot in every window exactly; over reboots never to less. And by whatever pieces they were made."""
    check(events)


def check(events: list[tuple[object, ...]]) -> None:
    history = History()
    for event in events:
        history.play(event)
    now = history.clock.stamp(history.epoch)
    by_sums = history.summing().spending(now, sums.FOREVER_NS, 61 * sums.SECOND_NS).used
    all_read = read_backwards.spending(history.connection, now, sums.FOREVER_NS, 61 * sums.SECOND_NS).used
    left, right = counted(by_sums, history.clock.monotonic()), counted(all_read, history.clock.monotonic())
    if history.clock.boots == 1:
        assert left == right
    assert all(left[key] >= right[key] for key in right)
    assert {key: left[key] for key in left if "in_all" in key} == {
        key: right[key] for key in right if "in_all" in key
    }
    whole = Summing()
    add_records(history.connection, whole)
    assert encode_sums(history.summing().sums()) == encode_sums(whole.sums())
    assert decode_sums(encode_sums(whole.sums())) == whole.sums()


def two_levels_at_once(
    summing: Summing, levels: tuple[dict[tuple[str, int], Slot], ...], level: int, key: tuple[str, int]
) -> None:
    """Planted: a slot goes a level too far."""
    MERGE(summing, levels, level, key)
    for wider in list(levels[level + 1]) if level + 2 < len(LEVELS) else ():
        MERGE(summing, levels, level + 1, wider)


def forgotten(
    _: Summing, levels: tuple[dict[tuple[str, int], Slot], ...], level: int, key: tuple[str, int]
) -> None:
    """Planted: what no window tells apart is dropped."""
    levels[level].pop(key)


def aged_by_the_wall_clock(summing: Summing) -> None:
    """Planted: how old a slot is at least is taken from the wall clock."""
    summing._note_newest()
    for run in summing._runs:
        run.top_ns += max(0, summing._runs[-1].last.wall_ns - run.last.wall_ns)
    COMPACT(summing)


def never_over(summing: Summing, record: Record) -> None:
    """Planted: no life of the daemon ever ends."""
    summing._epoch = record.epoch


MERGE, COMPACT = Summing._merge, Summing._compact
PLANTED: dict[str, tuple[str, Callable[..., object]]] = {
    "merged a level too far": ("_merge", two_levels_at_once),
    "merged and forgotten": ("_merge", forgotten),
    "aged by the wall clock": ("_compact", aged_by_the_wall_clock),
    "a lost turn is always in flight": ("_end_epoch", never_over),
}


@pytest.mark.parametrize("fault", PLANTED)
def test_the_histories_find_a_planted_fault(monkeypatch: pytest.MonkeyPatch, fault: str) -> None:
    """So that a green run says something."""
    monkeypatch.setattr(Summing, *PLANTED[fault])
    thorough = settings(
        max_examples=2_000, deadline=None, derandomize=True, database=None, phases=[Phase.explicit, Phase.generate],
        suppress_health_check=list(HealthCheck),
    )  # fmt: skip
    with pytest.raises(AssertionError):
        thorough(example(APART)(given(HISTORIES)(check)))()


def test_slots_are_as_fine_as_the_windows_tell_apart() -> None:
    """A window of other buckets, or a longer one, needs other slots."""
    finite = [shape for shape in WINDOWS if math.isfinite(shape.seconds)]
    widths = [shape.seconds / shape.buckets for shape in finite]
    assert [(width, until) for width, until in LEVELS] == [
        (width, shape.seconds + width) for width, shape in zip(widths, finite, strict=True)
    ]
    assert all(wider % width == 0 for width, wider in itertools.pairwise(widths))
    assert LEVELS[0][1] >= REQUEST_SECONDS


def test_a_year_of_turns_takes_no_more_room_than_a_month() -> None:
    """A turn each two minutes: what is kept grows until the longest window is full, and no further."""
    history = History()
    sizes = []
    for _ in range(4):
        for _ in range(2_000):
            history.clock.advance(1_800)
            history.play(("open", "a", 50))
            history.play(("close", 0, 30))
        history.play(("seal",))
        sizes.append(len(history.kept))
        history.connection.execute("DELETE FROM record WHERE seq < (SELECT max(seq) FROM record)")
    assert max(sizes) < 1.02 * sizes[0] + 64
    assert history.summing().totals()["a"].turns == 8_000


@pytest.mark.parametrize(
    "body",
    [b"", b"\xc1", encode_sums(Summing().sums())[:-1], encode_sums(structs.replace(Summing().sums(), form=2)),
     encode_sums(structs.replace(Summing().sums(), slots=((0, 0, "a", Slot(1)),)))],
)  # fmt: skip
def test_what_is_no_sums_of_this_form_is_said_to_be_none(body: bytes) -> None:
    """Never read as something else."""
    with pytest.raises(RecordError):
        decode_sums(body)


# A ledger with its file, its heads, its seals.


@pytest.fixture(scope="module")
def pristine(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three segments, and a tail behind them; one turn is open."""
    state = tmp_path_factory.mktemp("pristine")
    asyncio.run(make(state / "ledger.db"))
    return state


async def make(path: Path) -> None:
    ledger = await open_ledger(path, places(path), seal_records=SEALED)
    for number in range(TURNS):
        await ledger.open_turn(opening(number))
        await ledger.close_turn(closing(number))
        while len(seals_of(path)) < (2 * number + 3) // SEALED:
            await asyncio.sleep(0.005)
    await ledger.open_turn(opening(TURNS))
    await ledger.close()


@pytest.fixture
def path(pristine: Path, tmp_path: Path) -> Path:
    return shutil.copytree(pristine, tmp_path / "state") / "ledger.db"


def seals_of(path: Path) -> dict[int, Seal]:
    with contextlib.closing(open_reader(path)) as connection:
        return dict(all_seals(connection))


def kept_of(path: Path) -> list[Sums]:
    with contextlib.closing(open_reader(path)) as connection:
        return kept_sums(connection, verifier_at(places(path).anchor))


def change(path: Path, work: Callable[[apsw.Connection], object]) -> None:
    """As somebody who knows of the digest would."""
    with contextlib.closing(apsw.Connection(str(path))) as connection, connection, renewed_digest(connection):
        work(connection)


async def look(path: Path) -> tuple[dict[str, Totals], list[tuple[int, int]], list[str], tuple[Fault, ...]]:
    """What a start says of the past: totals, what was used, the lost turns, and faults."""
    ledger = await open_ledger(path, places(path))
    totals = await ledger.totals()
    used = (await ledger.spending(sums.FOREVER_NS, 0)).used
    lost = [turn.turn for turn in await ledger.lost_turns()]
    faults = tuple(ledger.faults)
    await ledger.close()
    return totals, sorted((one.tokens, one.age_ns) for one in used), lost, faults


EXPECTED = (
    {"chat": Totals(TURNS * 20, TURNS * 10, TURNS * 30, TURNS)},
    [(100, 0), (30 * TURNS, 0)],
    [turn_id(TURNS)],
)


async def test_a_start_reads_the_newest_sums_and_what_is_behind_them(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing before the newest seal is read, however long the ledger is."""
    read_from: list[int] = []

    def reading(connection: apsw.Connection, first: int) -> object:
        read_from.append(first)
        return read_chunks(connection, first)

    monkeypatch.setattr("epad.ledger.spent.read_chunks", reading)
    assert (await look(path))[:3] == EXPECTED
    assert min(read_from) == 3 * SEALED + 1
    assert [each.through for each in kept_of(path)] == [3 * SEALED, 2 * SEALED]
    assert verify_everything(path, places(path), full=True).words() == "OK"


async def test_a_ledger_of_before_is_read_as_before_and_gets_sums_at_its_next_seal(path: Path) -> None:
    """Such a file has no table of them."""
    change(path, lambda db: db.execute("DROP TABLE sums").fetchall())
    assert verify_everything(path, places(path), full=True).words() == "OK"
    assert await look(path) == (*EXPECTED, ())
    assert kept_of(path) == []
    ledger = await open_ledger(path, places(path), seal_records=SEALED)
    for number in range(100, 100 + SEALED):
        await ledger.open_turn(opening(number))
    while len(kept_of(path)) < 1:
        await ledger.put_payload(b"")
        await asyncio.sleep(0.005)
    await ledger.close()
    assert verify_everything(path, places(path), full=True).words() == "OK"


def more_tokens(db: apsw.Connection) -> None:
    [(body,)] = fetch(db, "SELECT body FROM sums WHERE no = 3")
    told = decode_sums(body)
    db.execute("UPDATE sums SET body = ? WHERE no = 3", (encode_sums(structs.replace(told, totals=())),))


WRONG: dict[str, Callable[[apsw.Connection], object]] = {
    "a changed sum": more_tokens,
    "a bit flipped": lambda db: db.execute(
        "UPDATE sums SET body = CAST(substr(body, 1, length(body) - 1) || x'07' AS BLOB) WHERE no = 3"
    ).fetchall(),
    "the sums of another segment": lambda db: db.execute(
        "UPDATE sums SET body = (SELECT body FROM sums WHERE no = 2) WHERE no = 3"
    ).fetchall(),
    "the sums of another segment, note and all": lambda db: db.execute(
        "UPDATE sums SET (body, note) = (SELECT body, note FROM sums WHERE no = 2) WHERE no = 3"
    ).fetchall(),
    "the sums of a segment that there is not": lambda db: db.execute(
        "UPDATE sums SET no = 9 WHERE no = 3"
    ).fetchall(),
    "a note that is none": lambda db: db.execute("UPDATE sums SET note = 'x' WHERE no = 3").fetchall(),
    "another segment under the seal": lambda db: db.execute(
        "UPDATE seal SET sha256 = zeroblob(32) WHERE no = 3"
    ).fetchall(),
}


@pytest.mark.parametrize("what", WRONG)
async def test_sums_that_are_not_those_that_were_sealed_are_noticed_and_done_without(
    path: Path, what: str
) -> None:
    """At the start, though the digest beside them was made to fit; then a repair takes them away."""
    change(path, WRONG[what])
    *told, faults = await look(path)
    assert tuple(told) == EXPECTED
    assert [fault.kind for fault in faults] == [FaultKind.CATALOGUE]
    report = verify_everything(path, places(path))
    assert report.verdict is Verdict.CORRUPT
    ledger = await open_ledger(path, places(path))
    await ledger.repair(report, [])
    assert (await ledger.totals())["chat"].turns == TURNS
    await ledger.close()
    assert verify_everything(path, places(path), full=True).words() == "OK"
    assert await look(path) == (*EXPECTED, ())


@pytest.mark.parametrize("full", [False, True])
def test_sums_that_were_wrong_when_they_were_signed_are_noticed(path: Path, full: bool) -> None:
    """Planted: epad itself summed up wrongly. Each night the newest are held against those before."""
    signer = load_or_make_key(places(path).key)
    number = 2 if full else 3

    def wrong(db: apsw.Connection) -> None:
        seal = all_seals(db)[number]
        [(body,)] = fetch(db, "SELECT body FROM sums WHERE no = ?", (number,))
        told = structs.replace(decode_sums(body), outlived=(("chat", 1),))
        keep_sums(db, sign_sums(seal, encode_sums(told), signer))

    change(path, wrong)
    report = verify_everything(path, places(path), full=full)
    assert "not what those records come to" in report.faults[0].detail


async def test_what_a_repair_gave_up_is_in_the_sums_still_and_that_is_no_fault(path: Path) -> None:
    """The closing of the first turn is lost after it was sealed; a reading of all would count its reservation."""
    shutil.rmtree(places(path).segments)
    with contextlib.closing(apsw.Connection(str(path))) as connection:
        connection.execute("UPDATE record SET body = zeroblob(9) WHERE seq = 3")
    ledger = await open_ledger(path, places(path))
    outcome = await ledger.repair(verify(path, anchor=places(path).anchor), [])
    assert outcome.lost == (3,)
    await ledger.close()
    assert await look(path) == (*EXPECTED, ())
    with contextlib.closing(open_reader(path)) as connection:
        assert wrong_sums(connection, verifier_at(places(path).anchor), full=True) == []


async def test_a_close_does_not_wait_for_the_first_summing_up_of_a_long_ledger(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What has no sums yet is summed up from its first record at its next seal: a close comes first."""
    monkeypatch.setattr("epad.ledger.spent.read_chunks", lambda db, first: read_chunks(db, first, 10))
    change(path, lambda db: db.execute("DELETE FROM sums").fetchall())
    ledger = await open_ledger(path, places(path), seal_records=SEALED)
    keeping = ledger._keeping
    assert keeping is not None
    keeping._ending.set()  # as `end` does, at once
    for number in range(100, 100 + SEALED):
        await ledger.open_turn(opening(number))
    while len(seals_of(path)) < 4:
        await ledger.put_payload(b"")
        await asyncio.sleep(0.005)
    await ledger.close()
    assert kept_of(path) == []
    assert verify_everything(path, places(path), full=True).words() == "OK"


async def test_damage_behind_the_newest_seal_is_known_before_anything_opens(path: Path) -> None:
    """The probe's first look tells it, like everything else that it finds."""
    flip(path, bytes(stored(path, 3 * SEALED + 1)[5]), 5)
    ledger = await open_ledger(path, places(path), tail_check_records=1)
    assert [(fault.seq, fault.kind) for fault in ledger.faults] == [(3 * SEALED + 1, FaultKind.BODY)]
    integrity = Integrity(path, config(tail_check_records=1), ledger, ManualClock(), Metrics("test"))
    assert [fault[0] for fault in (await integrity.check()).faults] == [3 * SEALED + 1]
    integrity.close()
    await ledger.close()


@pytest.mark.parametrize("last", [1, SEALED, 3 * SEALED - 1])
async def test_sums_that_reach_beyond_the_records_are_done_without(path: Path, last: int) -> None:
    """Records were cut off and no head tells it: what gets their numbers next is counted, not taken for summed up."""
    change(path, lambda db: db.execute("DELETE FROM record WHERE seq > ?", (last,)).fetchall())
    for file in places(path).anchor.glob("head*"):
        file.unlink()
    ledger = await open_ledger(path, places(path))
    assert ledger.records == last + 1
    await ledger.open_turn(opening(99))
    await ledger.close_turn(closing(99))
    known = (await ledger.totals())["chat"].turns
    await ledger.close()
    with contextlib.closing(apsw.Connection(str(path))) as connection:
        [(closed,)] = connection.execute("SELECT count(*) FROM record WHERE kind = 2").fetchall()
    assert known == closed
    assert FaultKind.CATALOGUE in {fault.kind for fault in ledger.faults}


async def test_a_reading_that_breaks_off_is_begun_again(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was read of it is not taken for all: a turn that a crash left open is behind the newest sums."""
    ledger = await open_ledger(path, places(path))
    ledger._past.forget()

    def breaks_off(db: apsw.Connection, first: int) -> Iterator[object]:
        yield from itertools.islice(read_chunks(db, first, 1), 1)
        raise apsw.IOError("disk I/O error")

    with monkeypatch.context() as broken:
        broken.setattr("epad.ledger.spent.read_chunks", breaks_off)
        with pytest.raises(LedgerUnavailableError):
            await ledger.totals()
    assert [turn.turn for turn in await ledger.lost_turns()] == EXPECTED[2]
    await ledger.close()
