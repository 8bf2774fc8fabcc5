"""Search documents. The index is in memory, made of checked versions: on the disk is none to be tampered with."""

from __future__ import annotations

from typing import Any, Final

import apsw

from runners.vault.documents import Change, Documents
from runners.vault.errors import VaultError
from runners.vault.hidden import revealed
from runners.vault.passages import passages_of
from runners.vault.store import By

URI: Final = "epad://vault/"
MOST_TERMS: Final = 24
_TITLE_WEIGHT: Final = 4.0
_TITLE_CHARACTERS: Final = 300
_TABLE: Final = (
    "CREATE VIRTUAL TABLE passages USING fts5(title, text, path UNINDEXED, section UNINDEXED, version UNINDEXED,"
    " tokenize='porter unicode61 remove_diacritics 2')"
)


class Index:
    """Holds the passages of the documents that may be read."""

    def __init__(self, documents: Documents) -> None:
        self._documents = documents
        self._connection: apsw.Connection | None = None

    def search(self, by: By, *, query: str, limit: int = 10, path: str | None = None) -> dict[str, Any]:
        """Return the passages that fit a query best, the best first, each with its version. Raises VaultError."""
        connection, begin = self._followed(), path or ""
        rows: list[tuple[Any, ...]] = connection.execute(
            "SELECT path, section, title, text, version, bm25(passages, ?, 1.0) AS score FROM passages"
            " WHERE passages MATCH ? AND substr(path, 1, ?) = ? ORDER BY score LIMIT ?",
            (_TITLE_WEIGHT, _matching(query), len(begin), begin, limit),
        ).fetchall()
        found = [
            {
                "uri": URI + row[0],
                "section": revealed(row[1]),
                "title": revealed(row[2][:_TITLE_CHARACTERS]),
                "text": revealed(row[3]),
                "version": row[4],
                "score": round(-row[5], 4),
            }
            for row in rows
        ]
        return {"results": found, "read": self._documents.labels(by, [row[0] for row in rows])}

    def forget(self) -> None:
        """Begin anew at the next search: what was followed was not committed."""
        self._connection = None

    def _followed(self) -> apsw.Connection:
        """Return the index after it has followed what was changed. A version that cannot be read is left out."""
        documents = self._documents
        if self._connection is None:
            self._connection = connection = apsw.Connection(":memory:")
            connection.execute(_TABLE)
            documents.changed.clear()
            for live in documents.live():
                self._put(connection, live)
            return connection
        connection = self._connection
        paths = sorted(documents.changed)
        documents.changed.clear()
        for path in paths:
            connection.execute("DELETE FROM passages WHERE path = ?", (path,))
            change = documents.newest(path)
            if change is not None and change.content:
                self._put(connection, change)
        return connection

    def _put(self, connection: apsw.Connection, change: Change) -> None:
        try:
            passages = passages_of(change.path, self._documents.versions.take(change.content))
        except VaultError:  # the look finds it; until then it is not cited
            self._documents.changed.add(change.path)
            return
        with connection:
            connection.executemany(
                "INSERT INTO passages(title, text, path, section, version) VALUES(?, ?, ?, ?, ?)",
                [(one.title, one.text, change.path, one.section, change.content) for one in passages],
            )


def _matching(query: str) -> str:
    """Return an FTS5 expression: each word of the query as a phrase, so that `evil.example` is one and no operator."""
    terms = [word for word in dict.fromkeys(query.casefold().split()) if any(map(str.isalnum, word))]
    if not terms:
        raise VaultError(f"the query {query[:80]!r} has no word", "search for words, an id, a hash or a host")
    return " OR ".join('"' + term.replace('"', '""').replace("\0", " ") + '"' for term in terms[:MOST_TERMS])
