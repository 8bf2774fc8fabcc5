"""Records that were signed and are gone: noted once, given up on a person's word, forgotten when they are back."""

from __future__ import annotations

from pathlib import Path

import apsw
import pytest

from epad.ledger.entry import Stamp
from epad.ledger.errors import LedgerUnavailableError
from epad.ledger.loss import Losses, Missing
from epad.ledger.paths import witness_of

STAMP = Stamp(1_000, "boot", 500, 3)


@pytest.fixture
def records() -> apsw.Connection:
    connection = apsw.Connection(":memory:")
    connection.execute("CREATE TABLE record(seq INTEGER PRIMARY KEY, body BLOB)")
    return connection


def test_what_is_missing_stays_so_until_every_record_is_back(
    tmp_path: Path, records: apsw.Connection
) -> None:
    """A record of which only the hash is there is not back; a second loss widens the first."""
    losses = Losses(tmp_path / "losses.json")
    assert losses.missing(records) is None
    losses.note(5, 6)
    losses.note(7, 8)
    records.executemany("INSERT INTO record VALUES (?, ?)", [(5, b"x"), (6, b"x"), (7, None), (8, b"x")])
    assert Losses(tmp_path / "losses.json").missing(records) == Missing(5, 8)
    records.execute("UPDATE record SET body = x'00' WHERE seq = 7")
    assert losses.missing(records) is None
    records.execute("DELETE FROM record")
    assert losses.missing(records) is None, "what was back is no loss of then any more"


def test_what_is_given_up_is_kept_on_record(tmp_path: Path, records: apsw.Connection) -> None:
    """With the reason and the clocks; giving up nothing notes nothing."""
    losses = Losses(tmp_path / "losses.json")
    assert losses.accept("nothing", STAMP) is None
    losses.note(1, 4)
    assert losses.accept("the disk died", STAMP) == Missing(1, 4)
    assert losses.missing(records) is None
    [given_up] = losses.accepted()
    assert (given_up.first, given_up.last, given_up.reason, given_up.monotonic_ns) == (
        1,
        4,
        "the disk died",
        500,
    )


def test_a_note_that_cannot_be_read_is_no_leave_to_go_on(tmp_path: Path, records: apsw.Connection) -> None:
    """It says which file it is."""
    (tmp_path / "losses.json").write_text("{")
    with pytest.raises(LedgerUnavailableError, match=r"losses\.json"):
        Losses(tmp_path / "losses.json").missing(records)


def test_the_witness_lies_outside_of_the_state(tmp_path: Path) -> None:
    """Whatever removes the state leaves it; a service may write where its logs are."""
    assert witness_of(Path("/var/lib/epad")) == Path("/var/log/epad/ledger-witness")
    assert not witness_of(tmp_path / "state").is_relative_to(tmp_path / "state")
