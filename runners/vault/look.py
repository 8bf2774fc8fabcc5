"""Look whether anything of the store or of the versions was changed around this program, a slice at a time.

| what was done around epad | what tells it |
|---|---|
| a row changed, added or taken out | its digest in the journal, the journal's chain, the count of each table |
| the journal rewritten too, or the file put back to an older one | the roots that the ledger has |
| triggers or tables changed | the schema, compared with that of a new file |
| the index of memory changed | the index, compared with one made anew from the rows |
| a version's bytes changed, also with its times set back | its change time and inode, then its digest |
| a version added, renamed or removed | the names, compared with the digests of the rows |

A look reads the new rows, and the versions whose status has changed. It reads all of it (a full pass) where anybody
else has written to the file, where the store is small, and every so many hours: what changes no status, such as a write
to the disk below the file system, is found then.
"""

from __future__ import annotations

import os
import stat
import time
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import suppress
from hashlib import sha256
from pathlib import Path
from typing import Any, Final

import apsw

from runners.vault.damage import index_rows
from runners.vault.schema import COLUMNS, INDEX, SCHEMA
from runners.vault.store import Store, digest_of, open_connection
from runners.vault.tree import Tree
from runners.vault.versions import VERSIONS, Versions

SLICE_SECONDS: Final = 0.03
"""Requests of sessions wait no longer for a look than about this."""
SMALL_ROWS: Final = 2_000
"""A store of so few rows is read as a whole at each look: some 60 ms."""
MOST_TOLD: Final = 40
MOST_BEYOND: Final = 5_000
_ROWS_AT_ONCE: Final = 200
_BLOCK: Final = 1 << 20

_HIDDEN: Final = (
    "SELECT id FROM observations WHERE session IN"
    " (SELECT of_session FROM retractions WHERE of_session IS NOT NULL)"
)

Status = tuple[int, int, int, int]
Roots = Sequence[tuple[int, str]]


class Look:
    """Looks at one store and its versions. What it knows is in memory alone, where nobody else writes."""

    def __init__(self, path: Path, store: Store, versions: Versions) -> None:
        self._path = path
        self._store = store
        self._versions = versions
        self._inode = _inode(path)
        self._seen: dict[str, Status] = {}
        self._tree = Tree()
        self._rooted = Tree()
        self._stands = False
        """Tells if the last look has found faults of rows: until they are gone, each look reads all rows."""
        self._head = bytes(32)
        self._counts = dict.fromkeys(COLUMNS, 0)
        self._last: tuple[int, bytes, tuple[Status | None, ...]] = (-1, b"", ())
        self._pass: Iterator[None] | None = None
        self._result: dict[str, Any] = {}

    def step(self, *, roots: Roots, full: bool = False) -> dict[str, Any]:
        """Go on with a look, or begin one; `done` is in the answer of its last step, with the faults."""
        if self._pass is None:
            self._pass = self._looking([(int(size), root) for size, root in roots], full)
        until = time.monotonic() + SLICE_SECONDS
        for _ in self._pass:
            if time.monotonic() >= until:
                return {"done": False}
        self._pass = None
        return {"done": True, **self._result}

    def put_aside(self) -> dict[str, Any]:
        """Move what is no version out of `versions/`, at a person's word."""
        found = [name for name, _ in self._versions.found()]
        known = self._known()
        extra = [name for name in found if name not in {f"{one[:2]}/{one}" for one in known}]
        self._versions.put_aside(extra)
        return {"put_aside": extra}

    def root(self) -> dict[str, Any]:
        """Return the number of rows, and the root over them: of the rows as this life has read them first.

        Where somebody else has written since the last look there is none: `suspect` asks for a look first.
        """
        if self._is_suspect():
            return {"suspect": True}
        rows = self._store.connection.execute(
            "SELECT digest FROM journal WHERE id > ? ORDER BY id", (self._rooted.size,)
        )
        for (digest,) in rows:
            self._rooted.add(digest)
        return {"size": self._rooted.size, "root": self._rooted.root().hex()}

    def forget(self) -> None:
        """Read the rows anew for the next root: some of those that it has read were not committed."""
        self._rooted = Tree()

    def _looking(self, roots: list[tuple[int, str]], full: bool) -> Iterator[None]:
        faults, began = list[str](), time.process_time()
        self._result = {"faults": faults, "full": full}
        if _inode(self._path) != self._inode:
            faults.append("vault.db is not the file that was opened: it was replaced or removed")
        reader: apsw.Connection | None = None
        try:
            reader = open_connection(self._path)
            # Of before the first row is read: who writes meanwhile is suspect at the next look.
            state, is_suspect = self._state(), self._is_suspect()
            reader.execute("BEGIN")  # all of it as of one moment, whatever is appended meanwhile
            yield from self._look_at_rows(reader, roots, full or is_suspect, faults)
            self._last = state
        except (apsw.Error, OSError) as error:
            faults.append(f"vault.db cannot be read: {error}")
        finally:
            if reader is not None:
                reader.close()
        digested = yield from self._look_at_versions(full, faults)
        told = faults[:MOST_TOLD] + (
            [f"and {len(faults) - MOST_TOLD} more"] if len(faults) > MOST_TOLD else []
        )
        self._result |= {
            "faults": told,
            "digested": digested,
            "versions": len(self._seen),
            "cpu_seconds": round(time.process_time() - began, 4),
        }

    def _is_suspect(self) -> bool:
        """Tell if somebody else may have written to the file since the last look."""
        version, head, files = self._state()
        # Rows that were appended since have changed the files too: then SQLite's own number alone tells.
        return version != self._last[0] or (head == self._last[1] and files != self._last[2])

    def _state(self) -> tuple[int, bytes, tuple[Status | None, ...]]:
        """Return SQLite's number of others' writes, the head of the chain, and the status of the files."""
        version = int(self._store.connection.pragma("data_version"))
        files = (self._path.with_name(self._path.name + suffix) for suffix in ("", "-wal"))
        return version, self._store.head(), tuple(map(_status, files))

    def _look_at_rows(
        self, reader: apsw.Connection, roots: list[tuple[int, str]], full: bool, faults: list[str]
    ) -> Iterator[None]:
        faults += _schema_faults(reader)
        size = _count(reader, "journal")
        is_whole = full or self._stands or size <= SMALL_ROWS or size < self._tree.size
        is_whole = is_whole or any(wanted < self._tree.size for wanted, _ in roots)
        chain = _Chain() if is_whole else _Chain(self._tree.copied(), self._head, dict(self._counts))
        newest = max((wanted for wanted, _ in roots), default=0)
        yield from chain.follow(reader, dict(roots), newest, faults)
        if newest > chain.tree.size:
            faults.append(
                f"the journal has {chain.tree.size} rows, and the ledger a root over {newest}: the store was put back"
                " to an older one, or rows were lost"
            )
        for table, count in chain.counts.items():
            there = _count(reader, table)
            if there != count:
                faults.append(f"{table} has {there} rows, and the journal {count} of them")
        if is_whole:
            yield from _look_at_index(reader, faults)
        self._stands = bool(faults)
        if not faults:
            self._tree, self._head, self._counts = chain.tree, chain.head, chain.counts
        self._result |= {
            "size": chain.tree.size,
            "root": chain.tree.root().hex(),
            "whole": is_whole,
            "beyond": chain.beyond,
        }

    def _look_at_versions(self, full: bool, faults: list[str]) -> Generator[None, None, int]:
        try:
            found = dict(self._versions.found())
        except OSError as error:
            faults.append(f"versions/ cannot be read: {error.strerror}")
            return 0
        yield
        known, digested = self._known(), 0  # read behind the directory, so that no new version is unknown
        places = {f"{digest[:2]}/{digest}": digest for digest in known}
        faults += [f"{VERSIONS}/{name} was not added through epad" for name in found if name not in places]
        for place, digest in places.items():
            what = f"version {digest[:16]} of {known[digest]}"
            status = found.get(place)
            if status is None:
                with suppress(OSError):
                    status = os.lstat(self._versions.path(digest))
            if status is None:
                faults.append(f"{what} is missing")
                self._seen.pop(digest, None)
            elif full or self._seen.get(digest) != _of(status):
                digested += 1
                actual = yield from _digest(self._versions.path(digest))
                if actual == digest:
                    self._seen[digest] = _of(status)
                else:
                    faults.append(f"{what} was changed: {actual}")
                    self._seen.pop(digest, None)
            yield
        return digested

    def _known(self) -> dict[str, str]:
        """Return the digest of each version, with the path of a document that has it."""
        rows = self._store.connection.execute(
            "SELECT content, path FROM documents WHERE content <> '' ORDER BY id DESC"
        )
        return {str(content): str(path) for content, path in rows}


def _count(reader: apsw.Connection, table: str) -> int:
    [(count,)] = reader.execute(f"SELECT count(*) FROM {table}")  # noqa: S608
    return int(str(count))


class _Chain:
    """Follows the journal from a row on: the chain of heads, the tree over the digests, and the rows of each table."""

    def __init__(
        self, tree: Tree | None = None, head: bytes = bytes(32), counts: dict[str, int] | None = None
    ) -> None:
        self.tree = tree or Tree()
        self.head = head
        self.counts = counts or dict.fromkeys(COLUMNS, 0)
        self.beyond: list[tuple[str, str]] = []
        """The turn and the head of each row behind the ledger's newest root."""

    def follow(
        self, reader: apsw.Connection, roots: Mapping[int, str], newest: int, faults: list[str]
    ) -> Iterator[None]:
        """Read the rows that follow, some at a time."""
        last = self.tree.size
        while True:
            rows: list[tuple[Any, ...]] = reader.execute(
                "SELECT id, kind, row, digest, head FROM journal WHERE id > ? ORDER BY id LIMIT ?",
                (last, _ROWS_AT_ONCE),
            ).fetchall()
            for row in rows:
                self._take(reader, row, roots, newest, faults)
                last = row[0]
            yield
            if not rows:
                return

    def _take(
        self,
        reader: apsw.Connection,
        row: tuple[Any, ...],
        roots: Mapping[int, str],
        newest: int,
        faults: list[str],
    ) -> None:
        number, table, at, digest, chained = row
        if table not in COLUMNS or not isinstance(digest, bytes):
            faults.append(f"journal row {number} is of no table: {table!r}")
            return
        self.head = sha256(self.head + digest).digest()
        self.tree.add(digest)
        self.counts[table] += 1
        if number != self.tree.size:
            faults.append(f"journal row {number} stands where row {self.tree.size} has to")
        if chained != self.head:
            faults.append(f"journal row {number}: its head does not follow from the one before")
            self.head = chained
        values, turn = _row(reader, table, at)
        if values is None:
            faults.append(f"{table} row {at} is gone")
        elif (actual := digest_of(table, at, values)) != digest:
            faults.append(f"{table} row {at} is not as it was appended (now {actual.hex()[:12]})")
        wanted = roots.get(self.tree.size)
        if wanted is not None and wanted != self.tree.root().hex():
            faults.append(
                f"the ledger's root over the first {self.tree.size} rows is {wanted[:16]}, and theirs is"
                f" {self.tree.root().hex()[:16]}: the journal was rewritten"
            )
        if number > newest and len(self.beyond) < MOST_BEYOND:
            if self.beyond and self.beyond[-1][0] == turn:
                self.beyond.pop()
            self.beyond.append((turn, chained.hex()))


def _row(reader: apsw.Connection, table: str, number: int) -> tuple[list[Any] | None, str]:
    names = COLUMNS[table]
    query = f"SELECT {', '.join(names)} FROM {table} WHERE id = ?"  # noqa: S608
    found = reader.execute(query, (number,)).fetchone()
    return (None, "") if found is None else (list(found), str(found[names.index("turn")] or ""))


def _schema_faults(reader: apsw.Connection) -> Iterator[str]:
    """Yield what the file's tables, indexes and triggers have too many, too few or otherwise than a new file."""
    fresh = apsw.Connection(":memory:")
    fresh.execute(SCHEMA)
    query = "SELECT type || ' ' || name, sql FROM sqlite_schema WHERE name NOT LIKE 'sqlite_%'"
    wanted, there = ({str(name): sql for name, sql in one.execute(query)} for one in (fresh, reader))
    fresh.close()
    for name in sorted(wanted.keys() | there.keys()):
        if wanted.get(name) != there.get(name):
            how = "is gone" if name not in there else "is changed" if name in wanted else "was added"
            yield f"the {name} of vault.db {how}"


def _look_at_index(reader: apsw.Connection, faults: list[str]) -> Iterator[None]:
    """Compare each word's places in the index of memory with those in one made anew."""
    fresh = apsw.Connection(":memory:")
    fresh.execute(INDEX)
    for count, row in enumerate(index_rows(reader)):
        fresh.execute("INSERT INTO found(rowid, text, scope) VALUES(?, ?, ?)", row)
        if not count % _ROWS_AT_ONCE:
            yield
    hidden = {number for (number,) in reader.execute(_HIDDEN)}
    pairs = [iter(_places(fresh, hidden)), iter(_places(reader, hidden))]
    count = 0
    while True:
        wanted, there = (next(pair, None) for pair in pairs)
        if wanted != there:
            odd = min(filter(None, (wanted, there)))
            faults.append(f"the index of memory is not that of the rows, at the word {str(odd[0])[:40]!r}")
            break
        if wanted is None:
            break
        count += 1
        if not count % 2_000:
            yield
    fresh.close()


def _places(connection: apsw.Connection, hidden: set[int]) -> Iterator[tuple[Any, ...]]:
    """Yield each word's places, but for those in rows that a retraction of their session has hidden at any time."""
    connection.execute("CREATE VIRTUAL TABLE temp.places USING fts5vocab(main, found, instance)")
    rows = connection.execute("SELECT term, doc, col, offset FROM temp.places")
    return (row for row in rows if row[1] not in hidden)


def _digest(path: Path) -> Generator[None, None, str]:
    """Return the digest of a file's bytes, or in words why it has none."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError as error:
        return f"it cannot be read ({error.strerror})"
    with os.fdopen(descriptor, "rb", buffering=0) as file:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            return "it is no plain file"
        sum_so_far = sha256()
        while block := file.read(_BLOCK):
            sum_so_far.update(block)
            yield
    return sum_so_far.hexdigest()


def _of(status: os.stat_result) -> Status:
    """Return what no edit leaves as it was: times can be set back, the change time and the inode cannot."""
    return status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns


def _status(path: Path) -> Status | None:
    with suppress(OSError):
        return _of(path.stat(follow_symlinks=False))
    return None


def _inode(path: Path) -> tuple[int, int] | None:
    with suppress(OSError):
        status = path.stat(follow_symlinks=False)
        return status.st_dev, status.st_ino
    return None
