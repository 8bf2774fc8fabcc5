"""The file: only appended to, chained, limited, and written in groups of all or nothing."""

from __future__ import annotations

from pathlib import Path

import apsw
import pytest
from vault_desk import A, B, Desk, RefusedError, frame

from epad.inspection.graph_schema import graph_of, tables_of
from epad.inspection.inspect import look
from runners.vault.schema import COLUMNS
from runners.vault.store import Quotas


def fill(desk: Desk) -> None:
    """A row in each table."""
    desk.remember("build", "make test runs the tests")
    desk.remember("gcc", "the compiler is gcc 12")
    desk.ask("memory_relate", source="build", relation="uses", target="gcc")
    desk.ask("memory_delete", name="gcc", reason="r")
    desk.ask("task_create", title="x")
    desk.ask("comms_post", channel="c", text="x")
    desk.ask("vault_append", path="log.md", text="x")
    desk.store.connection.execute("INSERT INTO losses(sentence) VALUES('x')")


@pytest.mark.parametrize("table", [*COLUMNS, "journal"])
@pytest.mark.parametrize(
    "statement", ["UPDATE {} SET id = id + 100", "DELETE FROM {}", "REPLACE INTO {} SELECT * FROM {}"]
)
def test_no_row_is_changed_or_deleted(desk: Desk, table: str, statement: str) -> None:
    """Triggers refuse it, for every table."""
    fill(desk)
    with pytest.raises(apsw.ConstraintError, match=f"rows of {table} are only appended"):
        desk.store.connection.execute(statement.format(table, table))


def test_an_edit_around_the_triggers_is_found(desk: Desk) -> None:
    """A changed, an added and a deleted row, each by name; and nothing before that."""
    fill(desk)
    desk.store.connection.execute("DROP TRIGGER losses_delete; DELETE FROM losses")
    assert desk.order("verify", heads=[desk.store.head().hex()])["faults"] == []
    for table in ("observations", "tasks"):
        for act in ("update", "delete"):
            desk.store.connection.execute(f"DROP TRIGGER {table}_{act}")
    desk.store.connection.execute("UPDATE observations SET content = 'make evil' WHERE id = 1")
    desk.store.connection.execute("DELETE FROM tasks")
    desk.store.connection.execute("INSERT INTO messages(channel, text) VALUES('c', 'planted')")
    faults = desk.order("verify", heads=[])["faults"]

    assert "observations row 1 is not as it was appended" in faults
    assert "tasks has 0 rows, and the journal 1 of them" in faults
    assert "messages has 2 rows, and the journal 1 of them" in faults


def test_a_rewritten_chain_lacks_the_heads_of_the_ledger(desk: Desk) -> None:
    """Whoever makes the journal anew cannot make the ledger's heads."""
    fill(desk)
    head = desk.store.head().hex()
    desk.store.connection.execute("DROP TRIGGER journal_delete; DELETE FROM journal")
    desk.store.read_head()
    for table, names in COLUMNS.items():
        for number, *row in desk.store.rows(f"SELECT id, {', '.join(names)} FROM {table}"):  # noqa: S608
            desk.store.chain(table, number, row)

    assert desk.order("verify", heads=[])["faults"] == []
    [fault] = desk.order("verify", heads=[head])["faults"]
    assert fault.startswith(f"the ledger has the head {head[:16]}")


def test_each_write_has_the_heads_before_and_after_it(desk: Desk) -> None:
    """They follow from one another; a reading has none."""
    first = desk.remember("a", "one text")["head"]
    second = desk.remember("b", "other words")["head"]
    assert first[1] == second[0]
    assert "head" not in desk.ask("memory_get", name="a")


def test_a_row_says_where_it_comes_from(desk: Desk) -> None:
    """Author, session, tier, taint and turn, in every table."""
    desk.remember("build", "make test", author="agent", tier=1, taint=3)
    for table in ("entities", "observations"):
        query = f"SELECT author, session, tier, taint, turn, created_at FROM {table}"  # noqa: S608
        assert desk.store.rows(query) == [("agent", A, 1, 3, "t", desk.now)]


@pytest.mark.parametrize(
    ("quotas", "fitting", "error"),
    [
        (Quotas(rows=3), 3, "has stored 3 rows; its limit is 3"),
        (Quotas(session_bytes=60), 2, "has stored 44 bytes; its limit is 60"),
        (Quotas(row_bytes=20), 0, "has 25 bytes; one row may have 20"),
        (Quotas(file_bytes=1), 0, "limit of 1 bytes"),
    ],
)
def test_a_full_quota_is_told_with_its_limit_and_the_fix(
    tmp_path: Path, quotas: Quotas, fitting: int, error: str
) -> None:
    """Nothing of the refused request is kept, also in the next life; another session has its own quota."""
    desk = Desk(tmp_path / "vault.db", quotas)
    for number in range(fitting):
        desk.remember(f"n{number}", f"fact {number} with some words")
    for _ in range(2):
        with pytest.raises(RefusedError, match=error) as refused:
            desk.remember("more", "fact 9 with another words")
        assert refused.value.hint
        desk.again()
    assert desk.store.one("SELECT count(*) FROM entities") == fitting
    assert desk.order("verify", heads=[])["faults"] == []
    if fitting:
        desk.remember("x", "short", B)
    desk.close()


def test_a_group_is_one_transaction_and_a_failed_request_is_not_in_it(desk: Desk) -> None:
    """The others of its group are."""
    by = {"author": "chat", "session": A}
    requests = [
        frame(n, "memory_store", {"by": by, "arguments": {"name": name, "content": f"text {name}"}})
        for n, name in enumerate(("a", "\u202e", "b"))
    ]
    commits: list[int] = []

    def count() -> bool:
        commits.append(1)
        return False

    desk.store.connection.set_commit_hook(count)
    answers = desk.server.group(requests)

    assert len(commits) == 1
    assert ["error" in answer for answer in answers] == [False, True, False]
    assert desk.names() == ["a", "b"]


def test_a_group_that_cannot_be_committed_is_not_acknowledged(desk: Desk) -> None:
    """A full disk, say: each is told, and what is kept in memory is that of the file."""
    desk.remember("a", "text a")
    desk.store.connection.execute(f"PRAGMA max_page_count = {desk.store.one('PRAGMA page_count')}")
    with pytest.raises(RefusedError, match=r"cannot be written: .*full"):
        desk.remember("b", "x" * 30_000)
    desk.store.connection.execute("PRAGMA max_page_count = 1000000")
    assert desk.names() == ["a"]
    desk.remember("b", "text b")
    assert desk.order("verify", heads=[])["faults"] == []


@pytest.mark.parametrize(
    "body", [b"{", b"[]", b'{"id": 5, "tool": "nope"}', b'{"id": 5, "tool": "memory_get", "arguments": {}}']
)
def test_a_request_that_is_none_is_answered(desk: Desk, body: bytes) -> None:
    """And the next one is served."""
    [answer] = desk.server.group([body])
    assert answer["error"]
    desk.remember("a", "text a")


def test_the_probe_of_datastores_knows_the_schema(desk: Desk, tmp_path: Path) -> None:
    """It looks at the file while it is open, finds it sound after more work, and misses nothing of the graph."""
    fill(desk)
    graph = graph_of(tables_of(desk.store.connection))
    assert graph is not None
    assert set(graph.references) == {
        ("relations", "from_entity"),
        ("relations", "to_entity"),
        ("observations", "entity_id"),
    }
    for number in range(3):
        desk.remember("build", f"version {number} of the same name, in two sessions")
        desk.remember("build", f"version {number} of the same name, in two sessions", B)
        seen = look(desk.path, tmp_path / "home", "sqlite", 0.2)
        assert (seen.faults, seen.error) == ((), "")
