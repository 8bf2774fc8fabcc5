"""Keep the memory of sessions: entities, their texts in versions, relations, and tombstones.

A session sees its own rows alone; where a person lets it, those in `shared` too. It writes to its own scope only.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Final

from runners.vault import echo, words
from runners.vault.errors import VaultError
from runners.vault.hidden import revealed
from runners.vault.store import SHARED, By, Store

CONTENT, OBSERVATION = "content", "observation"
PROMPT: Final = "prompt"
"""The type of the entities that prompts are."""
ANSWER_BYTES: Final = 40 << 10
"""What an answer's texts have together; the oldest are left out."""
MOST_RELATIONS: Final = 200
_LIVE: Final = (
    "o.id > coalesce((SELECT max(up_to_observation) FROM retractions r WHERE r.entity_id = o.entity_id), 0)"
    " AND (o.kind = 'observation' OR o.version = (SELECT max(version) FROM observations n"
    " WHERE n.entity_id = o.entity_id AND n.kind = 'content'))"
)
_TEXTS: Final = (
    "SELECT o.id, o.entity_id, e.name, e.entity_type, o.version, o.kind, o.content, o.scope, o.author, o.session,"
    " o.tier, o.taint, o.created_at FROM observations o JOIN entities e ON e.id = o.entity_id"
)
_LINKS: Final = (
    "SELECT r.id, f.id, f.name, r.relation, t.id, t.name FROM relations r"
    " JOIN entities f ON f.id = r.from_entity JOIN entities t ON t.id = r.to_entity"
    " WHERE (r.from_entity = ? OR r.to_entity = ?)"
    " AND r.id > coalesce((SELECT max(up_to_relation) FROM retractions WHERE entity_id IN (f.id, t.id)), 0)"
    " AND r.session NOT IN (SELECT of_session FROM retractions WHERE of_session IS NOT NULL)"
)


@dataclass(frozen=True, slots=True)
class Text:
    """One row of `observations` with its entity."""

    id: int
    entity_id: int
    qualified: str
    entity_type: str
    version: int
    kind: str
    content: str
    scope: str
    author: str
    session: str
    tier: int
    taint: int
    created_at: float

    @property
    def name(self) -> str:
        """Return the entity's name as sessions know it."""
        return self.qualified.partition("/")[2]

    @property
    def shown(self) -> str:
        """Return the content as a session gets it: what others wrote with its hidden characters seen."""
        return revealed(self.content) if self.scope == SHARED else self.content

    @property
    def source(self) -> str:
        """Return where the text comes from, in words."""
        return f"shared by {self.author}" if self.scope == SHARED else "this session"


class Memory:
    """The requests about memory; each is called within a batch's transaction."""

    def __init__(self, store: Store, recalled: echo.Recalled) -> None:
        self.store = store
        self.recalled = recalled

    def remember(self, by: By, *, name: str, content: str, kind: str = "note") -> dict[str, Any]:
        """Store a text under a name: a new version where the name has one. Raises VaultError."""
        name = _checked_name(name)
        entity, normal = self.entity(by.session, name), words.normalised(content)
        if entity is not None and entity[1] != kind and self._is_live(entity[0]):
            raise VaultError(
                f"{name!r} is a {entity[1]} already, not a {kind}", "store it as that, or under another name"
            )
        same = self._refuse_known(by, normal, content, entity and entity[0])
        if same is not None:
            return {"id": same.id, "version": same.version}
        number = entity[0] if entity is not None else self._new_entity(by, name, kind)
        row, version = self.add(by, number, name, CONTENT, content)
        return {"id": row, "version": version}

    def observe(self, by: By, *, entity: str, content: str) -> dict[str, Any]:
        """Add a text beside the entity's content. Raises VaultError."""
        number, normal = self._own(by, entity), words.normalised(content)
        same = self._refuse_known(by, normal, content, number)
        if same is not None:
            return {"id": same.id}
        return {"id": self.add(by, number, _checked_name(entity), OBSERVATION, content)[0]}

    def relate(self, by: By, *, source: str, relation: str, target: str) -> dict[str, Any]:
        """Link two entities; the same link again is the same row. Raises VaultError."""
        one, other = self._own(by, source), self._own(by, target)
        known = self.store.one(
            "SELECT id FROM relations WHERE from_entity = ? AND relation = ? AND to_entity = ? AND id > ?",
            *(one, relation, other, max(self._forgotten(one)[1], self._forgotten(other)[1])),
        )
        if known is not None:
            return {"id": known}
        row = {"from_entity": one, "relation": relation, "to_entity": other}
        return {"id": self.store.append("relations", by, **row)}

    def forget(self, by: By, *, name: str, reason: str) -> dict[str, Any]:
        """Put a tombstone on an entity's rows; return their number. Raises VaultError."""
        number = self._own(by, name)
        gone = list(self.texts(number, by))
        links = self._relations(number, by, most=-1)
        self.retract(by, number, reason)
        return {"retracted": len(gone) + len(links)}

    def get(self, by: By, *, name: str, depth: int = 1) -> dict[str, Any]:
        """Return an entity, its texts from the newest on, and its relations up to a depth. Raises VaultError."""
        number = self._visible(by, name)
        kept = list(fitting(self.texts(number, by, newest_first=True)))
        first = kept[0]
        self.recalled.note(by, kept)
        shown = {
            "name": first.name,
            "type": first.entity_type,
            "version": first.version,
            "source": first.source,
        }
        answer = {
            "entity": shown,
            "observations": [{"text": text.shown, "at": round(text.created_at, 3)} for text in kept],
            "relations": self._around(number, by, depth),
        }
        return {**answer, **labels(by, kept)}

    def page(self, by: By, *, kind: str | None = None, cursor: str = "", limit: int = 50) -> dict[str, Any]:
        """Return a page of the visible entities, in the order in which they were made. Raises VaultError."""
        after = int(cursor) if cursor.isdecimal() and len(cursor) < 16 else 0
        marks, entities = ", ".join("?" * len(by.scopes)), list[dict[str, Any]]()
        read, last = list[Text](), ""
        found = self.store.rows(
            f"SELECT id, entity_type FROM entities WHERE scope IN ({marks}) AND id > ? ORDER BY id",  # noqa: S608
            *(*by.scopes, after),
        )
        for number, entity_type in found:
            if kind not in {None, entity_type}:
                continue
            newest = next(self.texts(number, by, newest_first=True), None)
            if newest is None:
                continue
            if len(entities) == limit:
                return {"entities": entities, "next": last, **labels(by, read)}
            last = str(number)
            read.append(newest)
            entities.append(
                {"name": newest.name, "type": entity_type, "version": newest.version, "source": newest.source}
            )
        return {"entities": entities, "next": "", **labels(by, read)}

    def prompts(self, by: By, *, name: str | None = None, save: str | None = None) -> dict[str, Any]:
        """Save a prompt under a name, or return those there are. Raises VaultError."""
        if save is not None:
            self._save_prompt(by, name, save)
        marks = ", ".join("?" * len(by.scopes))
        entities = self.store.rows(
            f"SELECT id FROM entities WHERE entity_type = ? AND scope IN ({marks}) ORDER BY id DESC",  # noqa: S608
            *(PROMPT, *by.scopes),
        )
        texts = [text for (number,) in entities for text in self.texts(number, by) if text.kind == CONTENT]
        kept = list(fitting([text for text in texts if name in {None, text.name}]))
        if name is not None and not kept:
            raise VaultError(f"there is no prompt {name!r}", "prompt_library without a name lists them")
        shown = [{"name": text.name, "text": text.shown, "source": text.source} for text in kept]
        return {"prompts": shown, **labels(by, kept)}

    def entity(self, scope: str, name: str) -> tuple[int, str] | None:
        """Return an entity's number and type."""
        found = self.store.rows("SELECT id, entity_type FROM entities WHERE name = ?", f"{scope}/{name}")
        return found[0] if found else None

    def texts(self, entity: int, by: By, *, newest_first: bool = False) -> Iterator[Text]:
        """Yield an entity's texts that count, as they are read: whoever needs one reads one."""
        order = "DESC" if newest_first else "ASC"
        query = f"{_TEXTS} WHERE o.entity_id = ? AND {_LIVE} ORDER BY o.id {order}"
        for row in self.store.connection.execute(query, (entity,)):
            if self._is_seen(text := Text(*row), by):
                yield text

    def text(self, number: int, by: By) -> Text | None:
        """Return one text if it counts and is visible."""
        rows = self.store.rows(f"{_TEXTS} WHERE o.id = ? AND {_LIVE}", number)
        return next((text for row in rows if self._is_seen(text := Text(*row), by)), None)

    def add(
        self, by: By, entity: int, name: str, kind: str, content: str, scope: str = ""
    ) -> tuple[int, int]:
        """Append a text; return its number and version. The version that it replaces is found no more."""
        scope, normal, store = scope or by.session, words.normalised(content), self.store
        before = store.one("SELECT max(version) FROM observations WHERE entity_id = ?", entity) or 0
        if kind == CONTENT:
            former = "SELECT id FROM observations WHERE entity_id = ? AND kind = 'content'"
            newest = store.one(f"{former} ORDER BY version DESC LIMIT 1", entity)
            if newest is not None:
                store.connection.execute("DELETE FROM found WHERE rowid = ?", (newest,))
        a, b, c = words.sketches_of(scope, normal)
        row = {"entity_id": entity, "version": before + 1, "kind": kind, "content": content, "scope": scope}
        marks = {"digest": words.digest_of(scope, normal), "sketch_a": a, "sketch_b": b, "sketch_c": c}
        number = store.append("observations", by, **row, **marks)
        store.connection.execute(
            "INSERT INTO found(rowid, text, scope) VALUES(?, ?, ?)",
            (number, f"{name} {content}", f"x{scope}"),
        )
        return number, before + 1

    def retract(self, by: By, entity: int, reason: str) -> None:
        """Put a tombstone on all rows of an entity up to now."""
        texts = self.store.one("SELECT max(id) FROM observations WHERE entity_id = ?", entity) or 0
        links = self.store.one("SELECT max(id) FROM relations") or 0
        row = {"entity_id": entity, "up_to_observation": texts, "up_to_relation": links, "reason": reason}
        self.store.append("retractions", by, **row)
        self.store.connection.execute(
            "DELETE FROM found WHERE rowid IN (SELECT id FROM observations WHERE entity_id = ?)", (entity,)
        )

    def _save_prompt(self, by: By, name: str | None, text: str) -> None:
        if name is None:
            raise VaultError("a prompt is saved under a name", "give a name")
        name = _checked_name(name)
        entity = self.entity(by.session, name)
        if entity is not None and entity[1] != PROMPT:
            raise VaultError(f"{name!r} is a {entity[1]} already", "save the prompt under another name")
        number = entity[0] if entity is not None else self._new_entity(by, name, PROMPT)
        if not any(known.content == text for known in self.texts(number, by)):
            self.add(by, number, name, CONTENT, text)

    def _new_entity(self, by: By, name: str, kind: str) -> int:
        row = {"name": f"{by.session}/{name}", "entity_type": kind, "version": 1, "scope": by.session}
        return self.store.append("entities", by, **row)

    def _refuse_known(self, by: By, normal: str, content: str, entity: int | None) -> Text | None:
        """Return the text that this one is the same as, of the same entity. Raises VaultError for other known ones."""
        if not normal and not content.strip():
            raise VaultError("the text is empty", "give it words")
        quoted = self.recalled.echo(by, normal, entity)
        if quoted is not None:
            raise VaultError(
                f"this text was recalled from memory, where it is {quoted!r}: it is not stored again",
                "memory_relate links to it; memory_store takes what is new in your own words",
            )
        known = self._alike(by, normal)
        if known is None:
            return None
        exact = words.normalised(known.content) == normal
        if known.entity_id == entity and (exact or known.kind == CONTENT):
            return known if exact else None
        how = "the same text" if exact else "nearly the same text"
        raise VaultError(
            f"{how} is stored as {known.name!r} already",
            f"memory_store under {known.name!r} makes a new version of it; memory_relate links to it",
        )

    def _alike(self, by: By, normal: str) -> Text | None:
        """Return a visible text of the session that is the same, or nearly the same."""
        digest, sketches = words.digest_of(by.session, normal), words.sketches_of(by.session, normal)
        ids = [row[0] for row in self.store.rows("SELECT id FROM observations WHERE digest = ?", digest)]
        for column, sketch in zip("abc", sketches, strict=True):
            query = f"SELECT id FROM observations WHERE sketch_{column} = ? ORDER BY id DESC LIMIT 8"  # noqa: S608
            ids += [row[0] for row in self.store.rows(query, sketch)]
        for number in dict.fromkeys(ids):
            text = self.text(number, by)
            if text is not None and words.nearly_same(words.normalised(text.content), normal):
                return text
        return None

    def _around(self, entity: int, by: By, depth: int) -> list[dict[str, Any]]:
        """Return the relations up to a depth, each once."""
        seen: dict[int, dict[str, Any]] = {}
        reached, edge = {entity}, {entity}
        for _ in range(depth):
            ends: set[int] = set()
            for number in sorted(edge):
                for row, one, source, relation, other, target in self._relations(number, by):
                    if len(seen) >= MOST_RELATIONS:
                        return list(seen.values())
                    ends_of = source.partition("/")[2], target.partition("/")[2]
                    seen[row] = {"from": ends_of[0], "relation": relation, "to": ends_of[1]}
                    ends |= {one, other}
            edge = ends - reached
            reached |= ends
        return list(seen.values())

    def _relations(self, entity: int, by: By, most: int = MOST_RELATIONS) -> list[tuple[Any, ...]]:
        """Return the newest visible relations of an entity; `most` of -1 is all."""
        marks = ", ".join("?" * len(by.scopes))
        query = f"{_LINKS} AND f.scope IN ({marks}) AND t.scope IN ({marks}) ORDER BY r.id DESC LIMIT ?"
        return self.store.rows(query, entity, entity, *by.scopes, *by.scopes, most)

    def _forgotten(self, entity: int) -> tuple[int, int]:
        """Return the last observation and relation that an entity's tombstones cover."""
        [row] = self.store.rows(
            "SELECT coalesce(max(up_to_observation), 0), coalesce(max(up_to_relation), 0) FROM retractions"
            " WHERE entity_id = ?",
            entity,
        )
        return row

    def _is_live(self, entity: int) -> bool:
        query = f"SELECT 1 FROM observations o WHERE entity_id = ? AND {_LIVE} LIMIT 1"  # noqa: S608
        return self.store.one(query, entity) is not None

    def _is_seen(self, text: Text, by: By) -> bool:
        is_held = text.author in by.held and text.session != by.session
        return text.scope in by.scopes and text.session not in self.store.hidden and not is_held

    def _own(self, by: By, name: str) -> int:
        """Return an entity of the session's own. Raises VaultError."""
        name = _checked_name(name)
        entity = self.entity(by.session, name)
        if entity is not None and any(True for _ in self.texts(entity[0], by)):
            return entity[0]
        if by.shared and self._live_in_shared(name, by) is not None:
            raise VaultError(
                f"{name!r} is shared, and a session changes no shared row",
                "memory_store keeps your own under this name; a person retracts it: epactl memory retract",
            )
        raise self._unknown(name)

    def _visible(self, by: By, name: str) -> int:
        name = _checked_name(name)
        entity = self.entity(by.session, name)
        if entity is not None and any(True for _ in self.texts(entity[0], by)):
            return entity[0]
        shared = self._live_in_shared(name, by) if by.shared else None
        if shared is None:
            raise self._unknown(name)
        return shared

    def _live_in_shared(self, name: str, by: By) -> int | None:
        entity = self.entity(SHARED, name)
        return entity[0] if entity is not None and any(True for _ in self.texts(entity[0], by)) else None

    def _unknown(self, name: str) -> VaultError:
        return VaultError(
            f"this session has no memory named {name!r}",
            "memory_list names those there are; memory_search finds",
        )


def fitting(texts: Iterable[Text]) -> Iterator[Text]:
    """Yield texts as far as their bytes fit into an answer; the first in any case."""
    left = ANSWER_BYTES
    for number, text in enumerate(texts):
        left -= (
            6 * len(text.content) if text.content.isprintable() is False else len(text.content.encode()) + 64
        )
        if left < 0 and number:
            return
        yield text


def labels(by: By, texts: list[Text]) -> dict[str, Any]:
    """Return what reading these texts makes of the reader, beside an answer: the daemon takes it out."""
    taint, lowest = 0, by.tier
    for text in texts:
        if text.session != by.session:
            taint |= text.taint
            lowest = min(lowest, text.tier)
    is_shared = any(text.scope == SHARED for text in texts)
    return {"read": {"taint": taint, "lower": lowest < by.tier, "shared": is_shared}}


def _checked_name(name: str) -> str:
    """Return a name in its one form. Raises VaultError."""
    name = unicodedata.normalize("NFC", name.strip())
    if not name or any(unicodedata.category(letter) in {"Cc", "Cf", "Cs", "Co"} for letter in name):
        raise VaultError(
            f"{name!r} is no name: it is empty, or has hidden characters",
            "use letters, digits, spaces and signs",
        )
    return name
