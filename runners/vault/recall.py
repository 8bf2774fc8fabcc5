"""Search memory: FTS5 finds the candidates and ranks them by bm25.

Common words find nearly every text and cost the most, so in a large scope the rarest words are taken first, up to a
number of candidates.
"""

from __future__ import annotations

from typing import Any, Final

from runners.vault import words
from runners.vault.errors import VaultError
from runners.vault.memory import Memory, Text, labels
from runners.vault.store import By, Store

MOST_WORDS: Final = 24
CANDIDATES: Final = 2000
"""A word that finds more is left out, unless there is no other; and words are taken until so many are found."""
TEXT_CHARACTERS: Final = 1200
_SPARE: Final = 4
"""So many times more rows are looked at than asked for: some are of another type."""


class Recall:
    """The search of memory."""

    def __init__(self, store: Store, memory: Memory) -> None:
        self._store = store
        self._memory = memory

    def search(self, by: By, *, query: str, limit: int = 10, kind: str | None = None) -> dict[str, Any]:
        """Return the visible texts that fit a query best, the best first. Raises VaultError."""
        found: list[tuple[Text, float]] = []
        for number, score in self._ranked(by, _terms(query), limit * _SPARE):
            text = self._memory.text(number, by)
            if text is not None and kind in {None, text.entity_type}:
                found.append((text, score))
            if len(found) == limit:
                break
        texts = [text for text, _ in found]
        self._memory.recalled.note(by, texts)
        return {"results": [_shown(text, score) for text, score in found], **labels(by, texts)}

    def _ranked(self, by: By, terms: list[str], most: int) -> list[tuple[int, float]]:
        scopes = " OR ".join(f'"x{scope}"' for scope in by.scopes)
        chosen, is_common = self._affordable(scopes, terms)
        if not chosen:
            return []
        matching = _matching(scopes, chosen)
        if is_common:  # no word of it is rare: the newest texts, since ranking all would cost too much
            rows = self._store.rows(
                "SELECT rowid FROM found WHERE found MATCH ? ORDER BY rowid DESC LIMIT ?", matching, most
            )
            return [(row[0], 0.0) for row in rows]
        rows = self._store.rows(
            "SELECT rowid, bm25(found, 1.0, 0.0) AS score FROM found WHERE found MATCH ? ORDER BY score LIMIT ?",
            *(matching, most),
        )
        return [(number, round(-score, 6)) for number, score in rows]

    def _affordable(self, scopes: str, terms: list[str]) -> tuple[list[str], bool]:
        """Return the words to search for, the rarest first, and if even the rarest is too common."""
        counted = sorted((self._count(scopes, term), term) for term in terms)
        counted = [(count, term) for count, term in counted if count]
        chosen, total = list[str](), 0
        for count, term in counted:
            total += count
            if chosen and total > CANDIDATES:
                break
            chosen.append(term)
        return chosen, bool(counted) and counted[0][0] > CANDIDATES

    def _count(self, scopes: str, term: str) -> int:
        """Return how many texts have a word, or one more than CANDIDATES."""
        query = "SELECT count(*) FROM (SELECT 1 FROM found WHERE found MATCH ? LIMIT ?)"
        return int(self._store.one(query, _matching(scopes, [term]), CANDIDATES + 1))


def _terms(query: str) -> list[str]:
    terms = [word for word in words.words_in(query.casefold()) if word.isprintable()]
    if not terms:
        raise VaultError(f"the query {query[:80]!r} has no word", "search for words of the text")
    return list(dict.fromkeys(terms))[:MOST_WORDS]


def _matching(scopes: str, terms: list[str]) -> str:
    """Return an FTS5 expression; a quoted string is words, and never an operator."""
    wanted = " OR ".join('"' + term.replace('"', '""') + '"' for term in terms)
    return f"scope : ({scopes}) AND text : ({wanted})"


def _shown(text: Text, score: float) -> dict[str, Any]:
    content = text.shown
    if len(content) > TEXT_CHARACTERS:
        content = content[:TEXT_CHARACTERS] + "…"
    return {
        "name": text.name,
        "type": text.entity_type,
        "score": score,
        "text": content,
        "source": text.source,
    }
