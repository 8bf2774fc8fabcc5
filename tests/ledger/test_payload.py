"""Payloads are kept if told so, found by their hash, and may go without a record noticing."""

from __future__ import annotations

from hashlib import sha256
from pathlib import Path

import apsw
import pytest
from ledger_world import BOOT, closing, config, open_ledger, opening, places, stored
from msgspec.structs import replace

from epad.ledger.full_verification import verify_everything
from epad.ledger.record import TurnOpened, decode
from epad.ledger.store import Ledger
from statemachine.clock import ManualClock

PROMPT = b'{"messages": [{"role": "user", "content": "hello hello hello hello hello"}]}'
DIGEST = sha256(PROMPT).digest()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "ledger.db"


def prompt_turn(number: int = 1):
    return replace(opening(number), request_sha256=DIGEST, payload=PROMPT)


@pytest.mark.parametrize(
    ("payloads", "recorded", "kept"),
    [("off", bytes(32), None), ("hashed", DIGEST, None), ("kept", DIGEST, PROMPT)],
)
async def test_what_is_kept_of_a_prompt(
    path: Path, payloads: str, recorded: bytes, kept: bytes | None
) -> None:
    """Nothing, its hash, or all of it: and not a word more than configured is in the file."""
    ledger = await open_ledger(path, payloads=payloads)
    await ledger.open_turn(prompt_turn())
    assert await ledger.payload(DIGEST) == kept
    assert await ledger.put_payload(b"answer") == sha256(b"answer").digest()
    assert await ledger.payload(sha256(b"answer").digest()) == (b"answer" if kept else None)
    await ledger.close()
    body = stored(path, 2)[5]
    assert isinstance(body, bytes)
    record = decode(2, body)
    assert isinstance(record, TurnOpened)
    assert record.request_sha256 == recorded
    assert b"hello" not in path.read_bytes() or kept


async def test_the_same_payload_is_kept_once_and_small(path: Path) -> None:
    """By its hash, compressed where that helps."""
    ledger = await open_ledger(path, payloads="kept")
    big = b"the same line again\n" * 5_000
    for _ in range(3):
        await ledger.put_payload(big)
    assert await ledger.payload(sha256(big).digest()) == big
    await ledger.close()
    connection = apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READONLY)
    assert connection.execute("SELECT count(*), sum(length(body)) < 2000 FROM payload_kept").fetchone() == (
        1,
        1,
    )
    connection.close()


async def test_pruning_drops_the_old_then_the_oldest(path: Path) -> None:
    """By age, then by size; records, leaves and proofs stay as they are."""
    clock = ManualClock()
    limits = config(payloads="kept", payload_days=1.0, payload_bytes=25)
    ledger = await Ledger.open(path, limits, clock, BOOT, places(path))
    await ledger.open_turn(prompt_turn())
    clock.advance(2 * 86_400)
    digests = []
    for number in range(4):
        digests.append(await ledger.put_payload(b"%010d" % number))
        clock.advance(1)

    assert await ledger.prune_payloads() == 3
    assert await ledger.payload(DIGEST) is None
    assert [await ledger.payload(digest) is not None for digest in digests] == [False, False, True, True]
    assert await ledger.prune_payloads() == 0
    await ledger.close()
    assert verify_everything(path, places(path), full=True).words() == "OK"


async def test_a_changed_payload_is_not_given_out_and_is_dropped(path: Path) -> None:
    """The full check names it; repair takes it away, as pruning would have."""
    ledger = await open_ledger(path, places(path), payloads="kept")
    await ledger.open_turn(prompt_turn())
    whole = await ledger.put_payload(b"whole")

    def damage(connection: apsw.Connection) -> None:
        connection.execute("UPDATE payload_kept SET body = x'00', codec = 0 WHERE hash = ?", (DIGEST,))

    await ledger._writer.call(lambda: ledger._appender.write(damage))
    assert await ledger.payload(DIGEST) is None
    report = verify_everything(path, places(path), full=True)
    assert {fault.kind for fault in report.faults} == {"payload"}
    await ledger.repair(report, [])
    assert await ledger.payload(whole) == b"whole"
    await ledger.close()
    assert verify_everything(path, places(path), full=True).words() == "OK"


async def test_open_payloads_are_kept_for_keyed_turns_until_they_are_closed(path: Path) -> None:
    """A request that another open turn asks too stays until that one is closed; one without a key is never kept."""
    ledger = await open_ledger(path, payloads="open")
    await ledger.open_turn(replace(prompt_turn(1), idempotency_key=None))
    assert await ledger.payload(DIGEST) is None
    first, second = (replace(prompt_turn(number), idempotency_key=f"key-{number}") for number in (2, 3))
    await ledger.open_turn(first)
    await ledger.open_turn(second)
    await ledger.close_turn(closing(2))
    assert await ledger.payload(DIGEST) == PROMPT
    await ledger.close_turn(closing(3))
    assert await ledger.payload(DIGEST) is None
    await ledger.close()
