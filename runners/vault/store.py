"""Keep the store's one file: open it, append rows, chain their digests, and hold the quotas.

| a kill comes | the file has |
|---|---|
| before a batch is committed | nothing of it, and nobody was answered |
| after it | all of it; who was not answered yet does not know |
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any, Final

import apsw
import msgspec
from apsw import sqlite_extra

from runners.vault.errors import VaultError
from runners.vault.schema import COLUMNS, PROVENANCE_NAMES, SCHEMA

SHARED: Final = "shared"
"""The scope whose rows a person has promoted."""
OPERATOR: Final = "operator"
_TEXTS: Final = {
    "observations": ("content",),
    "relations": ("relation",),
    "tasks": ("title", "detail", "evidence"),
    "messages": ("text",),
}
"""The tables that a session's quota counts, and their columns of text."""
_FIRST_HEAD: Final = bytes(32)
_SUM_BYTES: Final = 8
_VFS: Final = "cksmvfs"


class By(msgspec.Struct, frozen=True):
    """Names who asks: the subsystem, its session, tier and taint, the turn, and if it may read `shared`.

    `held` are the subsystems in quarantine, whose rows nobody else sees meanwhile.
    """

    author: str
    session: str
    tier: int = 0
    taint: int = 0
    turn: str = ""
    shared: bool = False
    held: tuple[str, ...] = ()

    @property
    def scopes(self) -> tuple[str, ...]:
        """Return the scopes whose rows it sees."""
        return (self.session, SHARED) if self.shared else (self.session,)


@dataclass(frozen=True, slots=True)
class Quotas:
    """Limits the rows and the bytes of one session, and the bytes of the whole file."""

    rows: int = 10_000
    row_bytes: int = 32 << 10
    session_bytes: int = 16 << 20
    file_bytes: int = 1 << 30


class Store:
    """One open file. `hidden` are the sessions whose rows nobody sees any more."""

    def __init__(
        self, path: Path, quotas: Quotas | None = None, now: Callable[[], float] = time.time
    ) -> None:
        self.connection = connect(path)
        self.quotas = quotas or Quotas()
        self.now = now
        self._used: dict[str, tuple[int, int]] = {}
        self.hidden: set[str] = set()
        self.load()

    def load(self) -> None:
        """Read what is kept in memory anew, after a batch that was not committed too."""
        self._used.clear()
        self.read_head()
        found = self.connection.execute(
            "SELECT DISTINCT of_session FROM retractions WHERE of_session IS NOT NULL"
        )
        self.hidden = {session for (session,) in found}

    def read_head(self) -> None:
        """Read the head of the chain, at the beginning of a transaction: another life may have written."""
        self._head = self.one("SELECT head FROM journal ORDER BY id DESC LIMIT 1") or _FIRST_HEAD

    def append(self, table: str, by: By, **values: object) -> int:
        """Append a row and its place in the chain; return its id. Raises VaultError where a quota is full."""
        if table in _TEXTS and values.get("scope") != SHARED:
            texts = (str(values[name]).encode() for name in _TEXTS[table])
            self._take(by.session, sum(map(len, texts)))
        stamp = (self.now(), by.author, by.session, by.tier, by.taint, by.turn)
        given = values | dict(zip(PROVENANCE_NAMES, stamp, strict=True))
        names = COLUMNS[table]
        marks = ", ".join("?" * len(names))
        row = [given.get(name) for name in names]
        self.connection.execute(f"INSERT INTO {table}({', '.join(names)}) VALUES({marks})", row)
        number = self.connection.last_insert_rowid()
        self.chain(table, number, row)
        return number

    def chain(self, table: str, number: int, row: list[Any]) -> None:
        """Append a row's digest to the journal."""
        digest = digest_of(table, number, row)
        self._head = sha256(self._head + digest).digest()
        self.connection.execute(
            "INSERT INTO journal(kind, row, digest, head) VALUES(?, ?, ?, ?)",
            (table, number, digest, self._head),
        )

    def head(self) -> bytes:
        """Return the head of the chain: a digest of all rows in their order."""
        return self._head

    def one(self, query: str, *values: object) -> Any:
        """Return the first value of the first row; None without one."""
        row = self.connection.execute(query, values).fetchone()
        return None if row is None else row[0]

    def rows(self, query: str, *values: object) -> list[tuple[Any, ...]]:
        """Return all rows of a query."""
        return self.connection.execute(query, values).fetchall()

    def _take(self, session: str, size: int) -> None:
        """Count a row of a session. Raises VaultError where there is no room for it."""
        quotas = self.quotas
        if size > quotas.row_bytes:
            raise VaultError(
                f"the text has {size} bytes; one row may have {quotas.row_bytes}",
                "store it in parts, or a summary",
            )
        rows, used = self._used.get(session) or self._measured(session)
        hint = "start a new session, or store less; a person keeps what matters by `epactl memory promote`"
        if rows >= quotas.rows:
            raise VaultError(f"this session has stored {rows} rows; its limit is {quotas.rows}", hint)
        if used + size > quotas.session_bytes:
            raise VaultError(
                f"this session has stored {used} bytes; its limit is {quotas.session_bytes}", hint
            )
        if not rows % 64 and self._file_bytes() > quotas.file_bytes:
            raise VaultError(
                f"the store has reached its limit of {quotas.file_bytes} bytes",
                "a person has to move vault/ out of the state directory while epad is stopped; a new one is made",
            )
        self._used[session] = rows + 1, used + size

    def _measured(self, session: str) -> tuple[int, int]:
        rows = used = 0
        for table, names in _TEXTS.items():
            size = f"length(CAST({' || '.join(names)} AS BLOB))"
            own = f"session = ? AND scope <> '{SHARED}'" if table == "observations" else "session = ?"
            query = f"SELECT count(*), coalesce(sum({size}), 0) FROM {table} WHERE {own}"  # noqa: S608
            [(count, total)] = self.rows(query, session)
            rows, used = rows + count, used + total
        return rows, used

    def _file_bytes(self) -> int:
        return int(self.one("PRAGMA page_count")) * int(self.one("PRAGMA page_size"))


def connect(path: Path) -> apsw.Connection:
    """Open the file with page sums and its tables. Raises apsw.Error."""
    if _VFS not in apsw.vfs_names():
        sqlite_extra.load(apsw.Connection(":memory:"), "cksumvfs")
    connection = open_connection(path)
    if str(connection.pragma("checksum_verification")) == "0":
        connection.reserve_bytes(reserve=_SUM_BYTES)
        connection.execute("VACUUM")
        connection.close()
        connection = open_connection(path)
    with connection:
        connection.execute(SCHEMA)
    return connection


def open_connection(path: Path) -> apsw.Connection:
    """Open a file as it is. Raises apsw.Error."""
    connection = apsw.Connection(str(path))
    connection.set_busy_timeout(2_000)
    connection.pragma("journal_mode", "wal")
    connection.pragma("synchronous", "full")
    connection.pragma("foreign_keys", 1)
    connection.pragma("recursive_triggers", 1)  # so that INSERT OR REPLACE meets the triggers too
    connection.pragma("trusted_schema", 0)
    connection.pragma("cell_size_check", 1)
    connection.pragma("temp_store", 2)
    connection.pragma("cache_size", -8192)
    return connection


def digest_of(table: str, number: int, row: list[Any]) -> bytes:
    """Return the digest of one row, from all its values."""
    return sha256(msgspec.json.encode([table, number, row])).digest()
