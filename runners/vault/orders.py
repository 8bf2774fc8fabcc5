"""Carry out an operator's orders on the store: promote an entity to `shared`, retract, and list.

The rows say `operator` as their author where a person has put a tombstone; a promoted text keeps its first author,
session, tier and taint, so that whoever reads it gets the labels of its origin.
"""

from __future__ import annotations

from typing import Any, Final

from runners.vault.errors import VaultError
from runners.vault.memory import CONTENT, OBSERVATION, Memory, Text
from runners.vault.store import OPERATOR, SHARED, By, Store

MOST_LISTED: Final = 200
EXCERPT_CHARACTERS: Final = 120
_WHO: Final = By(OPERATOR, "")


class Orders:
    """The requests of a person; each is called within a batch's transaction."""

    def __init__(self, store: Store, memory: Memory) -> None:
        self._store = store
        self._memory = memory

    def promote(self, *, name: str, reason: str, session: str = "", dry_run: bool = False) -> dict[str, Any]:
        """Copy an entity's texts to `shared`; return a sentence. Raises VaultError for none, or several sessions'."""
        origin = self._one_session(name, session)
        by = By(OPERATOR, origin)
        number, kind = self._memory.entity(origin, name) or (0, "")
        texts = list(self._memory.texts(number, by))
        what = f"{len(texts)} text{'s' * (len(texts) != 1)} of {name!r}, by {texts[0].author}"
        if dry_run:
            return {"sentence": f"would promote {what}"}
        shared = self._memory.entity(SHARED, name)
        if shared is not None and shared[1] != kind:
            raise VaultError(f"{name!r} is shared as a {shared[1]}, not a {kind}", "retract that one first")
        new = shared[0] if shared else self._new(name, kind, texts[0])
        for text in texts:
            author = By(text.author, text.session, text.tier, text.taint, reason[:200])
            self._add(author, new, name, text)
        return {"sentence": f"{what} are shared from now on"}

    def retract(
        self, *, reason: str, name: str = "", session: str = "", dry_run: bool = False
    ) -> dict[str, Any]:
        """Hide a shared entity, or all rows of a session; return a sentence. Raises VaultError for neither."""
        return (
            self._retract_session(session, reason, dry_run)
            if session and not name
            else self._retract_entity(name, session or SHARED, reason, dry_run)
        )

    def list(self, *, session: str = "") -> dict[str, Any]:
        """Return the newest entities of all sessions, or of one, with a person's view of each; and the losses."""
        where, values = ("WHERE scope = ?", (session,)) if session else ("", ())
        found = self._store.rows(f"SELECT id FROM entities {where} ORDER BY id DESC", *values)  # noqa: S608
        rows = list[dict[str, Any]]()
        for (number,) in found:
            if len(rows) == MOST_LISTED:
                break
            scope = self._store.one("SELECT scope FROM entities WHERE id = ?", number)
            newest = next(self._memory.texts(number, By(OPERATOR, scope), newest_first=True), None)
            if newest is not None:
                rows.append(_row(newest, scope))
        losses = [sentence for (sentence,) in self._store.rows("SELECT sentence FROM losses ORDER BY id")]
        return {"entities": rows, "hidden_sessions": sorted(self._store.hidden), "losses": losses}

    def _retract_session(self, session: str, reason: str, dry_run: bool) -> dict[str, Any]:
        store, count = self._store, 0
        for table in ("observations", "relations", "tasks", "messages"):
            count += store.one(f"SELECT count(*) FROM {table} WHERE session = ?", session)  # noqa: S608
        if not count:
            raise VaultError(f"no row is of a session {session!r}", "epactl memory list shows the sessions")
        if dry_run:
            return {"sentence": f"would hide {count} rows of session {session}"}
        row = {"of_session": session, "up_to_observation": 0, "up_to_relation": 0, "reason": reason}
        store.append("retractions", _WHO, **row)
        store.hidden.add(session)
        store.connection.execute(
            "DELETE FROM found WHERE rowid IN (SELECT id FROM observations WHERE session = ?)", (session,)
        )
        return {"sentence": f"{count} rows of session {session} are hidden"}

    def _retract_entity(self, name: str, scope: str, reason: str, dry_run: bool) -> dict[str, Any]:
        entity = self._memory.entity(scope, name)
        texts = list(self._memory.texts(entity[0], By(OPERATOR, scope))) if entity else []
        if entity is None or not texts:
            where = "is shared" if scope == SHARED else f"is of session {scope}"
            raise VaultError(f"no memory named {name!r} {where}", "epactl memory list shows those there are")
        if dry_run:
            return {"sentence": f"would hide {len(texts)} texts of {name!r}"}
        self._memory.retract(_WHO, entity[0], reason)
        return {"sentence": f"{len(texts)} texts of {name!r} are hidden"}

    def _one_session(self, name: str, session: str) -> str:
        found = self._store.rows("SELECT id, scope FROM entities WHERE name = ?", f"{session}/{name}")
        if not session:
            found = self._store.rows(
                "SELECT id, scope FROM entities WHERE scope <> ? AND substr(name, length(scope) + 2) = ?",
                SHARED,
                name,
            )
        live = [scope for number, scope in found if any(self._memory.texts(number, By(OPERATOR, scope)))]
        if not live:
            raise VaultError(
                f"no session has a memory named {name!r}", "epactl memory list shows those there are"
            )
        if len(live) > 1:
            raise VaultError(
                f"{len(live)} sessions have a memory named {name!r}: {', '.join(live)}",
                "add --session SESSION",
            )
        return str(live[0])

    def _new(self, name: str, kind: str, first: Text) -> int:
        author = By(first.author, first.session, first.tier, first.taint)
        return self._store.append(
            "entities", author, name=f"{SHARED}/{name}", entity_type=kind, version=1, scope=SHARED
        )

    def _add(self, author: By, entity: int, name: str, text: Text) -> None:
        kind = CONTENT if text.kind == CONTENT else OBSERVATION
        self._memory.add(author, entity, name, kind, text.content, SHARED)


def _row(text: Text, scope: str) -> dict[str, Any]:
    return {
        "name": text.name,
        "type": text.entity_type,
        "scope": scope,
        "author": text.author,
        "tier": text.tier,
        "taint": text.taint,
        "at": round(text.created_at, 3),
        "text": text.content[:EXCERPT_CHARACTERS],
    }
