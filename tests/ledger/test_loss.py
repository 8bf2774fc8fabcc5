"""Records that were signed and are gone: noted once, given up on a person's word, forgotten when they are back."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path

import apsw
import pytest

import epad.ledger.loss
from epad.ledger.anchor import replace_file
from epad.ledger.entry import Stamp
from epad.ledger.errors import LedgerUnavailableError
from epad.ledger.loss import Losses, Missing
from epad.ledger.paths import witness_of

STAMP = Stamp(1_000, "boot", 500, 3)


def of(directory: Path) -> Losses:
    (directory / "anchor").mkdir(exist_ok=True)
    return Losses(directory / "losses.json", directory / "anchor" / "losses.json")


@pytest.fixture
def records() -> apsw.Connection:
    connection = apsw.Connection(":memory:")
    connection.execute("CREATE TABLE record(seq INTEGER PRIMARY KEY, body BLOB)")
    return connection


def test_what_is_missing_stays_so_until_every_record_is_back(
    tmp_path: Path, records: apsw.Connection
) -> None:
    """A record of which only the hash is there is not back; a second loss widens the first."""
    losses = of(tmp_path)
    assert losses.missing(records) is None
    losses.note(5, 6)
    losses.note(7, 8)
    records.executemany("INSERT INTO record VALUES (?, ?)", [(5, b"x"), (6, b"x"), (7, None), (8, b"x")])
    assert of(tmp_path).missing(records) == Missing(5, 8)
    records.execute("UPDATE record SET body = x'00' WHERE seq = 7")
    assert losses.missing(records) is None
    records.execute("DELETE FROM record")
    assert losses.missing(records) is None, "what was back is no loss of then any more"


def test_what_is_given_up_is_kept_on_record(tmp_path: Path, records: apsw.Connection) -> None:
    """With the reason and the clocks; giving up nothing notes nothing."""
    losses = of(tmp_path)
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
        of(tmp_path).missing(records)


def older(file: Path) -> None:
    file.write_bytes(b'{"missing":null,"accepted":[]}')


HARMS: dict[str, Callable[[Path], None]] = {
    "deleted": Path.unlink,
    "older": older,
    "truncated": lambda file: os.truncate(file, 20),
    "emptied": lambda file: os.truncate(file, 0),
}


@pytest.mark.parametrize("harm", HARMS)
@pytest.mark.parametrize("which", ["losses.json", "anchor/losses.json"])
def test_a_note_that_is_lost_is_made_up_for_by_the_other(
    tmp_path: Path, records: apsw.Connection, which: str, harm: str
) -> None:
    """What is missing stays so, and what was given up stays given up: else budgets would have room again."""
    of(tmp_path).note(5, 8)
    HARMS[harm](tmp_path / which)
    assert of(tmp_path).missing(records) == Missing(5, 8)
    assert of(tmp_path).accept("the disk died", STAMP) == Missing(5, 8)
    HARMS[harm](tmp_path / which)
    assert of(tmp_path).missing(records) is None
    assert [given_up.reason for given_up in of(tmp_path).accepted()] == ["the disk died"]
    of(tmp_path).note(9, 9)
    assert (tmp_path / "losses.json").read_bytes() == (tmp_path / "anchor/losses.json").read_bytes()


def test_a_kill_between_the_two_notes_loses_neither(
    tmp_path: Path, records: apsw.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first of them has it, and the next write makes them one again."""
    of(tmp_path).note(5, 8)

    def killed(path: Path, data: bytes) -> None:
        if path.parent.name == "anchor":
            raise OSError(errno.EIO, "killed")
        replace_file(path, data)

    monkeypatch.setattr(epad.ledger.loss, "replace_file", killed)
    with pytest.raises(LedgerUnavailableError, match="killed"):
        of(tmp_path).accept("the disk died", STAMP)
    assert of(tmp_path).missing(records) is None
    assert len(of(tmp_path).accepted()) == 1


def test_the_witness_lies_outside_of_the_state(tmp_path: Path) -> None:
    """Whatever removes the state leaves it; a service may write where its logs are."""
    assert witness_of(Path("/var/lib/epad")) == Path("/var/log/epad/ledger-witness")
    assert not witness_of(tmp_path / "state").is_relative_to(tmp_path / "state")
