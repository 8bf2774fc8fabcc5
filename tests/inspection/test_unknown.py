"""What this process cannot judge is not damaged; and rot is found in it all the same."""

from __future__ import annotations

import os
import random
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import apsw
import pytest

from epad.checkpoint.manifest import Part
from epad.checkpoint.verify import database_faults
from epad.datastore.restore import answer
from epad.inspection.baseline import load_baseline
from epad.inspection.inspect import Look, copy_faults, look

TABLE = "CREATE TABLE t (id INTEGER PRIMARY KEY, name TEXT)"
FTS = [TABLE, "CREATE VIRTUAL TABLE f USING fts5(a, tokenize='unicode61')", "INSERT INTO f VALUES ('hello')"]
FTS4 = [TABLE, "CREATE VIRTUAL TABLE f USING fts4(a, tokenize=porter)", "INSERT INTO f VALUES ('hello')"]

FOREIGN: dict[str, list[str]] = {
    "collation of a column": [
        "CREATE TABLE t (id INTEGER PRIMARY KEY, name TEXT COLLATE localized)",
        "CREATE INDEX i ON t (name)",
    ],
    "collation of an index": [TABLE, "CREATE INDEX i ON t (name COLLATE localized)"],
    "collation of a key": ["CREATE TABLE t (id INTEGER, name TEXT PRIMARY KEY COLLATE localized)"],
    "collation of a table without rowid": [
        "CREATE TABLE t (id INTEGER, name TEXT COLLATE localized PRIMARY KEY) WITHOUT ROWID"
    ],
    "function in an index": [TABLE, "CREATE INDEX i ON t (fold(name))"],
    "function in a partial index": [TABLE, "CREATE INDEX i ON t (name) WHERE fold(name) > 'a'"],
    "function in a check": ["CREATE TABLE t (id INTEGER PRIMARY KEY, name TEXT CHECK (fold(name) <> 'x'))"],
    "function in a generated column": [
        "CREATE TABLE t (id INTEGER PRIMARY KEY, name TEXT, f TEXT GENERATED ALWAYS AS (fold(name)) VIRTUAL)"
    ],
    "function in a stored column with an index": [
        "CREATE TABLE t (id INTEGER PRIMARY KEY, name TEXT, f TEXT GENERATED ALWAYS AS (fold(name)) STORED)",
        "CREATE INDEX i ON t (f)",
    ],
    "function in a view": [TABLE, "CREATE VIEW v AS SELECT fold(name) AS f FROM t"],
    "function in a trigger": [
        TABLE,
        "CREATE TABLE l (x)",
        "CREATE TRIGGER g AFTER INSERT ON t BEGIN INSERT INTO l VALUES (fold(new.name)); END",
    ],
    "collation of an entity's name": [
        "CREATE TABLE entities (id INTEGER PRIMARY KEY, name TEXT COLLATE localized, type TEXT)",
        "CREATE TABLE relations (from_id TEXT, to_id TEXT)",
        TABLE,
        "INSERT INTO entities (name) VALUES ('a'), ('b')",
        "INSERT INTO relations VALUES (1, 2)",
    ],
    "module of its own": [
        *FTS,
        "PRAGMA writable_schema = 1",
        "UPDATE sqlite_schema SET sql = replace(sql, 'fts5', 'vec0')",
    ],
    "tokenizer of its own": [
        *FTS,
        "PRAGMA writable_schema = 1",
        "UPDATE sqlite_schema SET sql = replace(sql, 'unicode61', 'jieba')",
    ],
    "icu tokenizer": [
        *FTS4,
        "PRAGMA writable_schema = 1",
        "UPDATE sqlite_schema SET sql = replace(sql, 'porter', 'icu')",
    ],
    "syntax of later": [
        TABLE,
        "CREATE INDEX i ON t (name)",
        "PRAGMA writable_schema = 1",
        "UPDATE sqlite_schema SET sql = sql || ' USING brin' WHERE name = 'i'",
    ],
    "foreign key to a column without a key": [
        "CREATE TABLE p (a, b)",
        "CREATE TABLE t (id INTEGER PRIMARY KEY, name TEXT REFERENCES p (b))",
    ],
}


def _fold(*texts: object) -> str:
    return str(texts[0]).casefold()


def connect(path: Path) -> apsw.Connection:
    """A program with a collation and a function of its own."""
    connection = apsw.Connection(str(path))
    connection.create_collation("localized", lambda a, b: (a > b) - (a < b))
    connection.create_scalar_function("fold", _fold, 1, deterministic=True)
    return connection


def rest(path: Path) -> None:
    then = time.time() - 60
    os.utime(path, (then, then))


def make(path: Path, statements: Sequence[str]) -> Path:
    connection = connect(path)
    for statement in statements:
        if statement.startswith("PRAGMA writable_schema"):  # from there on this SQLite may not know it either
            add_rows(connection, 0, 300)
        connection.execute(statement)
    if not any(statement.startswith("PRAGMA writable_schema") for statement in statements):
        add_rows(connection, 0, 300)
    connection.close()
    rest(path)
    return path


def add_rows(connection: apsw.Connection, first: int, number: int) -> None:
    rows = [(f"row {n} of many", n) for n in range(first, first + number)]
    connection.execute("BEGIN")
    connection.executemany("INSERT INTO t (name, id) VALUES (?, ?)", rows)
    connection.execute("COMMIT")


def see(path: Path, home: Path) -> Look:
    return look(path, home, "auto", 0.05)


def flip(path: Path, bit: int) -> None:
    """Rot: the file system is told nothing of it."""
    status = path.stat()
    data = bytearray(path.read_bytes())
    data[bit // 8] ^= 1 << bit % 8
    path.write_bytes(data)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


@pytest.fixture(params=FOREIGN)
def foreign(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    return make(tmp_path / "store.db", FOREIGN[request.param])


def test_what_only_its_own_program_has_is_no_damage(foreign: Path, tmp_path: Path) -> None:
    """Not at the first look, not at rest, not in a copy that a checkpoint took."""
    for _ in range(3):
        seen = see(foreign, tmp_path / "home")
        assert (seen.faults, seen.error) == ((), "")
    assert seen.how == "at rest"
    assert list(copy_faults(tmp_path / "home" / "good", tmp_path / "home")) == []
    part = Part("datastores/m/store.db", "store.db", 0, "", "sqlite_backup", str(foreign), "datastore")
    assert list(database_faults(tmp_path / "home" / "good", part)) == []


def test_its_program_may_write_on(foreign: Path, tmp_path: Path) -> None:
    """Rows come, change and go; what was compared before is compared again."""
    see(foreign, tmp_path / "home")
    try:
        connection = connect(foreign)
        add_rows(connection, 1000, 20)
        connection.execute("UPDATE t SET name = 'another text' WHERE id = 1005")
        connection.execute("DELETE FROM t WHERE id = 1006")
        connection.close()
    except apsw.Error:
        pytest.skip("the SQLite of this test lacks it as well")
    for _ in range(2):
        seen = see(foreign, tmp_path / "home")
        assert (seen.faults, seen.error) == ((), "")


@pytest.mark.parametrize("seed", range(3))
def test_a_bit_that_flips_in_it_at_rest_is_found(foreign: Path, tmp_path: Path, seed: int) -> None:
    """The comparison of a file at rest needs no SQL."""
    see(foreign, tmp_path / "home")
    flip(foreign, random.Random(seed).randrange(foreign.stat().st_size * 8))
    assert {kind for kind, _ in see(foreign, tmp_path / "home").faults} == {"rot"}


@pytest.mark.parametrize("name", ["collation of a column", "function in an index", "tokenizer of its own"])
def test_a_broken_page_is_found_beside_what_cannot_be_judged(tmp_path: Path, name: str) -> None:
    """Trees are read page by page, whatever their order is for their own program."""
    path = make(tmp_path / "store.db", FOREIGN[name])
    note = see(path, tmp_path / "home").note
    assert note.startswith("not judged: ")
    data = bytearray(path.read_bytes())
    for page in range(1, len(data) // 4096):
        data[4096 * page + 3] ^= 0x40  # the number of cells
    path.write_bytes(data)
    rest(path)
    assert {kind for kind, _ in see(path, tmp_path / "home").faults} == {"structure"}


def test_rows_that_are_lost_are_told_beside_what_cannot_be_judged(tmp_path: Path) -> None:
    """Counting needs no collation."""
    path = make(tmp_path / "store.db", FOREIGN["collation of a column"])
    see(path, tmp_path / "home")
    connection = connect(path)
    connection.execute("DELETE FROM t WHERE id > 100")
    connection.close()
    rest(path)
    assert {kind for kind, _ in see(path, tmp_path / "home").faults} == {"shrink"}


def test_a_bit_that_flips_in_a_schema_is_no_unknown_syntax(tmp_path: Path) -> None:
    """It is held against the last sound copy."""
    path = make(tmp_path / "store.db", [TABLE, "CREATE INDEX i ON t (name)"])
    see(path, tmp_path / "home")
    at = path.read_bytes().index(b"CREATE INDEX i ON") + len("CREATE INDEX i O")
    flip(path, 8 * at)
    connection = path.open("r+b")
    connection.close()
    rest(path)
    assert {kind for kind, _ in see(path, tmp_path / "fresh").faults} == set()
    os.utime(path)
    assert {kind for kind, _ in see(path, tmp_path / "home").faults} == {"structure"}


def patched(path: Path, at: int, value: bytes) -> Path:
    make(path, [TABLE])
    data = bytearray(path.read_bytes())
    data[at : at + len(value)] = value
    path.write_bytes(data)
    rest(path)
    return path


def ciphertext(path: Path, header: bytes = b"") -> Path:
    path.write_bytes(header + random.Random(5).randbytes(40 * 4096 - len(header)))
    rest(path)
    return path


OPAQUE: dict[str, Callable[[Path], Path]] = {
    "encrypted": ciphertext,
    "encrypted behind a plain header": lambda path: ciphertext(path, b"SQLite format 3\x00\x10\x00\x01\x01"),
    "read by a later SQLite alone": lambda path: patched(path, 19, b"\x03"),
    "schema of a later format": lambda path: patched(path, 44, (5).to_bytes(4, "big")),
}


@pytest.fixture(params=OPAQUE)
def opaque(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    return OPAQUE[request.param](tmp_path / "store.db")


@pytest.mark.parametrize("kind", ["auto", "sqlite"])
def test_what_cannot_be_read_at_all_is_said_and_not_blamed(opaque: Path, tmp_path: Path, kind: str) -> None:
    """The look says why; from then on its bytes are compared while it rests."""
    seen = look(opaque, tmp_path / "home", kind, 0.05)
    assert (seen.faults, seen.is_sound, seen.is_opaque) == ((), False, True)
    assert "cannot judge" in seen.error
    seen = look(opaque, tmp_path / "home", kind, 0.05)
    assert (seen.how, seen.faults, seen.error) == ("at rest", (), "")
    assert "bytes alone" in seen.note
    assert list(copy_faults(opaque, tmp_path / "home")) == []


def test_rot_is_found_in_what_cannot_be_read(opaque: Path, tmp_path: Path) -> None:
    """One bit, anywhere."""
    see(opaque, tmp_path / "home")
    flip(opaque, 8 * (opaque.stat().st_size - 7))
    assert {kind for kind, _ in see(opaque, tmp_path / "home").faults} == {"rot"}


def test_what_was_readable_once_and_is_noise_now_is_damaged(tmp_path: Path) -> None:
    """Unknown is not damaged, but known was."""
    path = make(tmp_path / "store.db", [TABLE])
    see(path, tmp_path / "home")
    good = load_baseline(tmp_path / "home")
    ciphertext(path)
    assert {kind for kind, _ in see(path, tmp_path / "home").faults} == {"structure"}
    patched(path := tmp_path / "other.db", 19, b"\x03")
    assert load_baseline(tmp_path / "home") == good


def test_a_header_of_zeros_behind_the_magic_is_damaged(tmp_path: Path) -> None:
    """Also at a first look: it is neither ciphertext nor of a later format."""
    path = tmp_path / "store.db"
    path.write_bytes(b"SQLite format 3\x00" + bytes(9000))
    rest(path)
    assert {kind for kind, _ in see(path, tmp_path / "home").faults} == {"structure"}


def test_a_write_ahead_log_beside_what_cannot_be_judged(tmp_path: Path) -> None:
    """The copy is taken out of WAL mode, whatever its schema says."""
    path = tmp_path / "store.db"
    connection = connect(path)
    connection.execute("PRAGMA journal_mode = wal")
    for statement in FOREIGN["collation of a column"]:
        connection.execute(statement)
    add_rows(connection, 0, 300)
    seen = see(path, tmp_path / "home")
    assert (seen.faults, seen.error, seen.rows) == ((), "", 300)
    connection.close()


def test_a_changed_letter_in_a_column_that_ignores_case_is_an_edit(tmp_path: Path) -> None:
    """Its collation takes both for the same; the row was changed for all that."""
    path = tmp_path / "store.db"
    connection = connect(path)
    connection.execute("CREATE TABLE t (id INTEGER PRIMARY KEY, name TEXT COLLATE NOCASE)")
    add_rows(connection, 0, 30)
    see(path, tmp_path / "home")
    connection.execute("UPDATE t SET name = 'Row 7 of many' WHERE id = 7")
    seen = see(path, tmp_path / "home")
    assert (seen.faults, seen.error) == ((), "")
    connection.close()


def test_rot_in_what_cannot_be_read_is_undone(opaque: Path, tmp_path: Path) -> None:
    """The copy that was made while it rested is put in its place, vouched for by its bytes."""
    home, whole = tmp_path / "home", opaque.read_bytes()
    see(opaque, home)
    flip(opaque, 8 * (opaque.stat().st_size - 7))
    done = answer(opaque, home, tmp_path / "checkpoints", "auto", 0.05, "key")
    assert done.error == ""
    assert done.restored is not None
    assert opaque.read_bytes()[100:] == whole[100:]  # a copy of SQLite's own making counts its changes anew
    assert done.seen.faults == ()
