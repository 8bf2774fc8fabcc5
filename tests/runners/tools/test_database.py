"""Databases: hostile statements and files, of which nothing is written or left behind; and plain reading."""

from __future__ import annotations

import random
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import apsw
import pytest
from tool_process import World

COUNTS = "WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c{}) SELECT {} FROM c"

HOSTILE = [
    ("ATTACH '../made.db' AS made", "not allowed"),
    ("VACUUM INTO '../made.db'", "not allowed"),
    ("VACUUM", "not allowed"),
    ("CREATE TABLE made(x)", "not allowed"),
    ("CREATE TEMP TABLE made(x)", "not allowed"),
    ("CREATE VIRTUAL TABLE made USING fts5(x)", "not allowed"),
    ("INSERT INTO people VALUES ('eve', 5)", "not allowed"),
    ("UPDATE people SET age = 0", "not allowed"),
    ("DELETE FROM people", "not allowed"),
    ("DROP TABLE people", "not allowed"),
    ("BEGIN IMMEDIATE", "not allowed"),
    ("PRAGMA user_version = 5", "not allowed"),
    ("PRAGMA journal_mode = wal", "not allowed"),
    ("PRAGMA writable_schema = 1", "not allowed"),
    ("PRAGMA wal_checkpoint", "not allowed"),
    ("PRAGMA temp_store_directory = '/tmp'", "not allowed"),
    ("PRAGMA locking_mode = normal", "not allowed"),
    ("SELECT * FROM pragma_user_version(5)", "SQLite says"),
    ("SELECT load_extension('/tmp/x.so')", "not authorized"),
    ("SELECT fts3_tokenizer('simple')", "not authorized"),
    ("SELECT 1; SELECT 2", "more than one statement"),
    ("SELECT 1; DELETE FROM people", "not allowed"),
    ("SELECT 1; ATTACH 'made.db' AS made", "more than one|not allowed"),
    (COUNTS.format("", "count(*)"), "stopped after"),
    ("SELECT count(*) FROM people a, people b" + ", people x".join([""] * 65), "at most 64"),  # noqa: S608
    ("SELECT zeroblob(1000000000)", "too long"),
    ("SELECT length(randomblob(67000000) || randomblob(67000000))", "too long"),
    (COUNTS.format(" LIMIT 400", "length(group_concat(zeroblob(1000000)))"), "too long"),
    ("SELECT " + "1 + " * 500 + "1", "SQLite says"),
    (" UNION ALL ".join(["SELECT 1"] * 100), "SQLite says"),
    ("SELECT '" + "x" * 200_000 + "'", "too long"),
    ("SELECT * FROM missing", "no such table"),
    ("SELECT ?", "SQLite says"),
    ("not SQL", "syntax error"),
]


@pytest.mark.parametrize(("sql", "said"), HOSTILE, ids=range(len(HOSTILE)))
def test_a_hostile_statement_is_refused(world: World, sql: str, said: str) -> None:
    """By name; the database keeps its bytes, and no file is made inside or outside."""
    before, outside = (world.root / "data.sqlite").read_bytes(), world.outside()
    names = sorted(path.name for path in world.root.iterdir())
    refusal = world.worker.refusal("sqlite_query", path="data.sqlite", sql=sql)
    assert any(each in refusal for each in said.split("|")), refusal
    assert (world.root / "data.sqlite").read_bytes() == before
    assert world.outside() == outside
    assert sorted(path.name for path in world.root.iterdir()) == names


def test_what_cannot_be_stopped_inside_is_ended_with_its_process(world: World) -> None:
    """A LIKE of many wildcards, in a bounded pattern, has no point at which it could be asked."""
    sql = "SELECT hex(zeroblob(1000000)) LIKE ?"
    answer = world.worker.answer(
        "sqlite_query", {"path": "data.sqlite", "sql": sql, "parameters": ["%0" * 100 + "1"]}, timeout=1
    )
    assert answer.get("ended") in {"timeout", None}
    assert world.worker("sqlite_query", path="data.sqlite", sql="SELECT 1")["rows"] == [[1]]


BENIGN: list[tuple[str, Any, list[list[Any]]]] = [
    ("SELECT name FROM people WHERE age > ?", [3], [["bob"]]),
    ("SELECT name FROM people WHERE age = :age", {"age": 3}, [["ann"]]),
    ("SELECT 1;", None, [[1]]),
    ("SELECT 1 -- and a word", None, [[1]]),
    (COUNTS.format(" LIMIT 1000", "count(*)"), None, [[1000]]),
    ("PRAGMA user_version", None, [[0]]),
    ("PRAGMA integrity_check", None, [["ok"]]),
    ("SELECT name FROM pragma_table_info('people')", None, [["name"], ["age"]]),
    ("SELECT " + "(" * 1500 + "1" + ")" * 1500, None, [[1]]),
    ("SELECT json_extract('{\"a\": [1, 2]}', '$.a[1]')", None, [[2]]),
    ("SELECT name LIKE 'a%', upper(name) FROM people LIMIT 1", None, [[1, "ANN"]]),
    (
        "SELECT 9007199254740993, -9223372036854775808, 5",
        None,
        [["9007199254740993", "-9223372036854775808", 5]],
    ),
    ("SELECT 9e999, -9e999, 0.1, NULL", None, [["inf", "-inf", 0.1, None]]),
    ("SELECT x'00ff', ?", [True], [[{"base64": "AP8=", "bytes": 2}, 1]]),
    ("SELECT 'ü', char(0) || 'a', ''", None, [["ü", "\0a", ""]]),
]


@pytest.mark.parametrize(("sql", "parameters", "rows"), BENIGN, ids=range(len(BENIGN)))
def test_a_plain_statement_is_answered(world: World, sql: str, parameters: Any, rows: list[Any]) -> None:
    """The benign twins, and values of every kind."""
    found = world.worker("sqlite_query", path="data.sqlite", sql=sql, parameters=parameters)
    assert found["rows"] == rows
    assert not found["truncated"]


@pytest.mark.parametrize(
    ("parameters", "said"),
    [
        ([1 << 70], "beyond 64 bits"),
        ([[1]], "wrong kind"),
        ([1, 2], "SQLite says"),
        ({"b": 1}, "has a parameter"),
    ],
)
def test_a_wrong_parameter_is_told(world: World, parameters: Any, said: str) -> None:
    """By its fix."""
    sql = "SELECT :a" if isinstance(parameters, dict) else "SELECT ?"
    assert said in world.worker.refusal("sqlite_query", path="data.sqlite", sql=sql, parameters=parameters)


def test_rows_and_values_are_cut(world: World) -> None:
    """And told: by count, by bytes, and within one value."""
    many = COUNTS.format(" LIMIT 5000", "x")
    found = world.worker("sqlite_query", path="data.sqlite", sql=many)
    assert (len(found["rows"]), found["truncated"], found["columns"]) == (200, True, ["x"])
    wide = COUNTS.format(" LIMIT 5000", "hex(zeroblob(1000))")
    found = world.worker("sqlite_query", path="data.sqlite", sql=wide, limit=5000)
    assert 20 < len(found["rows"]) < 40
    long = world.worker("sqlite_query", path="data.sqlite", sql="SELECT hex(zeroblob(9000)), zeroblob(9000)")
    assert long["truncated"]
    assert long["rows"][0][1]["bytes"] == 9000
    empty = world.worker("sqlite_query", path="data.sqlite", sql="SELECT name AS who FROM people WHERE 0")
    assert empty == {"columns": ["who"], "rows": [], "truncated": False}


def test_tables_and_their_schema_are_shown(world: World) -> None:
    """With names that must be quoted, views, virtual tables; triggers are shown and not run."""
    with closing(apsw.Connection(str(world.root / "odd.db"))) as database:
        database.execute(
            'CREATE TABLE "a ""b; --"(x); INSERT INTO "a ""b; --" VALUES (1), (2); CREATE VIEW seen AS SELECT 1;'
            'CREATE TRIGGER t AFTER INSERT ON "a ""b; --" BEGIN SELECT 1; END; CREATE VIRTUAL TABLE f USING fts5(x);'
        )
    tables = {each["name"]: each for each in world.worker("sqlite_tables", path="odd.db")["tables"]}
    assert tables['a "b; --'] == {"name": 'a "b; --', "type": "table", "rows": 2}
    assert tables["seen"] == {"name": "seen", "type": "view"}
    assert tables["f"]["type"] == "virtual"
    schema = world.worker("sqlite_schema", path="odd.db", table='a "b; --')["sql"]
    assert [text.split()[1] for text in schema] == ["TABLE", "TRIGGER"]
    assert len(world.worker("sqlite_schema", path="odd.db")["sql"]) > 4
    assert "no table" in world.worker.refusal("sqlite_schema", path="odd.db", table="nothing")


def test_what_is_no_database_is_told(world: World) -> None:
    """A text, a directory, a damaged file, one outside, one that is not read; an empty file is an empty database."""
    data = (world.root / "data.sqlite").read_bytes()
    (world.root / "half.db").write_bytes(data[:5000])
    (world.root / "page.db").write_bytes(data[:4096])
    (world.root / "empty.db").touch()
    (world.root / "link.db").symlink_to("../secret.txt")
    (world.root / ".ssh").mkdir()
    (world.root / ".ssh" / "keys.db").write_bytes(data)
    rows = [
        ("notes.txt", "no SQLite database"),
        ("docs", "is a directory"),
        ("half.db", "cut short"),
        ("page.db", "damaged"),
        ("nothing.db", "no such file"),
        ("link.db", "outside"),
        ("../secret.txt", "outside"),
        (".ssh/keys.db", "not read"),
        ("data.sqlite?mode=rwc", "no such file"),
        ("file:data.sqlite", "no such file"),
        (":memory:", "no such file"),
    ]
    for path, said in rows:
        assert said in world.worker.refusal("sqlite_query", path=path, sql="SELECT * FROM people"), path
    assert world.worker("sqlite_tables", path="empty.db") == {"tables": [], "truncated": False}


def test_a_text_that_is_no_text_is_told(world: World) -> None:
    """With the statement that reads it."""
    sql = "SELECT CAST(x'ff' AS TEXT)"
    assert "CAST(column AS BLOB)" in world.worker.refusal("sqlite_query", path="data.sqlite", sql=sql)


WRITER = """
import sys, apsw
database = apsw.Connection(sys.argv[1])
for sql in sys.argv[2:]:
    database.execute(sql).fetchall()
print("ready", flush=True)
sys.stdin.read()
"""


@contextmanager
def writer(path: Path, *statements: str) -> Iterator[subprocess.Popen[bytes]]:
    """Have another program do something to a database and then wait; killed at the end, in the middle of it all."""
    command = [sys.executable, "-c", WRITER, str(path), *statements]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as running:
        try:
            assert running.stdout
            assert running.stdout.readline() == b"ready\n"
            yield running
        finally:
            running.kill()


def count(world: World, path: str) -> object:
    return world.worker("sqlite_query", path=path, sql="SELECT count(*) FROM t")["rows"][0][0]


def test_a_database_with_a_log_is_read_with_its_log(world: World) -> None:
    """While its writer lives, and after it was killed; nothing beside it changes, and no right to write is needed."""
    path = world.root / "log.db"
    with writer(
        path, "PRAGMA journal_mode=wal", "CREATE TABLE t(x)", "INSERT INTO t VALUES (1)",
        "PRAGMA wal_checkpoint(truncate)", "INSERT INTO t VALUES (2)",
    ):  # fmt: skip
        assert count(world, "log.db") == 2
    files = {name: (world.root / name).read_bytes() for name in ("log.db", "log.db-wal")}
    for name in files:
        (world.root / name).chmod(0o444)
    (world.root / "log.db-shm").unlink()
    assert count(world, "log.db") == 2
    assert {name: (world.root / name).read_bytes() for name in files} == files
    assert not (world.root / "log.db-shm").exists()
    (world.root / "log.db-wal").unlink()
    assert count(world, "log.db") == 1


def test_a_writer_keeps_its_database_to_itself(world: World) -> None:
    """It is told that somebody writes; afterwards it is read."""
    path = world.root / "busy.db"
    with closing(apsw.Connection(str(path))) as database:
        database.execute("CREATE TABLE t(x); INSERT INTO t VALUES (1)")
    with writer(path, "BEGIN IMMEDIATE", "INSERT INTO t VALUES (2)"):
        assert count(world, "busy.db") == 1
    with writer(path, "BEGIN EXCLUSIVE"):
        said = world.worker.refusal("sqlite_query", path="busy.db", sql="SELECT count(*) FROM t")
        assert "another program is writing" in said
    assert count(world, "busy.db") == 1


def test_a_transaction_that_was_cut_off_is_told(world: World) -> None:
    """Its journal has to be played back, which is a write: the program that owns the database does it."""
    path = world.root / "hot.db"
    fill = COUNTS.format(" LIMIT 3000", "hex(randomblob(500))")
    with closing(apsw.Connection(str(path))) as database:
        database.execute(f"CREATE TABLE t(x); INSERT INTO t {fill}")
    with writer(path, "PRAGMA cache_size=10", "PRAGMA cache_spill=10", "BEGIN", "UPDATE t SET x = hex(x)"):
        pass
    assert (world.root / "hot.db-journal").stat().st_size
    before = path.read_bytes()
    said = world.worker.refusal("sqlite_query", path="hot.db", sql="SELECT count(*) FROM t")
    assert "rolled back first" in said
    assert path.read_bytes() == before
    with closing(apsw.Connection(str(path))) as database:
        database.execute("SELECT count(*) FROM t").fetchall()
    assert count(world, "hot.db") == 3000


def test_damaged_databases_end_no_worker(world: World) -> None:
    """Bytes changed at random: each is answered or refused."""
    chance = random.Random(7)
    with closing(apsw.Connection(str(world.root / "sound.db"))) as database:
        fill = COUNTS.format(" LIMIT 300", "x, hex(randomblob(50))")
        database.execute(f"CREATE TABLE t(x, y); CREATE INDEX i ON t(y); INSERT INTO t {fill}")
    sound, ends = (world.root / "sound.db").read_bytes(), set()
    for _ in range(60):
        data = bytearray(sound)
        for _ in range(20):
            data[chance.randrange(100, len(data))] = chance.randrange(256)
        (world.root / "bad.db").write_bytes(data)
        answer = world.worker.answer("sqlite_query", {"path": "bad.db", "sql": "SELECT * FROM t ORDER BY y"})
        ends.add(answer.get("ended", "done"))
    assert ends <= {"done", "error"}
