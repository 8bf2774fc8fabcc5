"""Define the tables of the store. Rows are only appended: triggers refuse every UPDATE and DELETE.

| table | one row is | the newest counts by |
|---|---|---|
| entities | a name in a scope, for good | |
| observations | a text of an entity: its content in versions, or an observation beside it | `version` |
| relations | a link from one entity to another | |
| retractions | a tombstone with its reason: of an entity's rows up to now, or of all rows of a session | |
| tasks | a version of a task; the task's number is the id of its first version | `version` |
| messages | a message in a channel | |
| documents | a change of a document of the knowledge vault: `content` is the digest of its bytes from then on | `id` |
| losses | rows that a torn file has lost | |
| journal | the digest of one row above, and the head of the chain that ends with it | |

`entities.name` is `SCOPE/NAME`: the scope is a session, or `shared`. Each row has its author, session, tier, taint and
turn. `found` is an index for searching, made from `observations`, and no record of anything. It has each word's places
(`detail` is full): without them a table that keeps no content gives every row the score 0.
"""

from __future__ import annotations

from typing import Final

PROVENANCE: Final = "created_at REAL, author TEXT, session TEXT, tier INTEGER, taint INTEGER, turn TEXT"
PROVENANCE_NAMES: Final = ("created_at", "author", "session", "tier", "taint", "turn")

COLUMNS: Final[dict[str, tuple[str, ...]]] = {
    "entities": ("name", "entity_type", "version", "scope", *PROVENANCE_NAMES),
    "observations": (
        *("entity_id", "version", "kind", "content", "scope", "digest", "sketch_a", "sketch_b", "sketch_c"),
        *PROVENANCE_NAMES,
    ),
    "relations": ("from_entity", "relation", "to_entity", *PROVENANCE_NAMES),
    "retractions": (
        *("entity_id", "of_session", "up_to_observation", "up_to_relation", "reason"),
        *PROVENANCE_NAMES,
    ),
    "tasks": ("task", "version", "title", "detail", "state", "after", "evidence", *PROVENANCE_NAMES),
    "messages": ("channel", "text", "reply_to", *PROVENANCE_NAMES),
    "losses": ("sentence", *PROVENANCE_NAMES),
    "documents": ("path", "version", "kind", "content", "size", "reason", *PROVENANCE_NAMES),
}
"""The columns of each table whose rows the journal covers, beside `id`."""

_TABLES: Final = f"""
CREATE TABLE IF NOT EXISTS entities(id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE, entity_type TEXT NOT NULL,
  version INTEGER NOT NULL, scope TEXT NOT NULL, {PROVENANCE});
CREATE INDEX IF NOT EXISTS entities_of_scope ON entities(scope, id);
CREATE TABLE IF NOT EXISTS observations(id INTEGER PRIMARY KEY, entity_id INTEGER NOT NULL REFERENCES entities(id),
  version INTEGER NOT NULL, kind TEXT NOT NULL, content TEXT NOT NULL, scope TEXT NOT NULL, digest INTEGER NOT NULL,
  sketch_a INTEGER NOT NULL, sketch_b INTEGER NOT NULL, sketch_c INTEGER NOT NULL, {PROVENANCE});
CREATE UNIQUE INDEX IF NOT EXISTS observations_of_entity ON observations(entity_id, version);
CREATE INDEX IF NOT EXISTS observations_of_session ON observations(session);
CREATE INDEX IF NOT EXISTS observations_by_digest ON observations(digest);
CREATE INDEX IF NOT EXISTS observations_by_a ON observations(sketch_a);
CREATE INDEX IF NOT EXISTS observations_by_b ON observations(sketch_b);
CREATE INDEX IF NOT EXISTS observations_by_c ON observations(sketch_c);
CREATE TABLE IF NOT EXISTS relations(id INTEGER PRIMARY KEY, from_entity INTEGER NOT NULL REFERENCES entities(id),
  relation TEXT NOT NULL, to_entity INTEGER NOT NULL REFERENCES entities(id), {PROVENANCE});
CREATE INDEX IF NOT EXISTS relations_from ON relations(from_entity);
CREATE INDEX IF NOT EXISTS relations_to ON relations(to_entity);
CREATE INDEX IF NOT EXISTS relations_of_session ON relations(session);
CREATE TABLE IF NOT EXISTS retractions(id INTEGER PRIMARY KEY, entity_id INTEGER, of_session TEXT,
  up_to_observation INTEGER NOT NULL, up_to_relation INTEGER NOT NULL, reason TEXT NOT NULL, {PROVENANCE});
CREATE INDEX IF NOT EXISTS retractions_of_entity ON retractions(entity_id);
CREATE TABLE IF NOT EXISTS tasks(id INTEGER PRIMARY KEY, task INTEGER, version INTEGER NOT NULL, title TEXT NOT NULL,
  detail TEXT NOT NULL, state TEXT NOT NULL, after TEXT NOT NULL, evidence TEXT NOT NULL, {PROVENANCE});
CREATE INDEX IF NOT EXISTS tasks_of_session ON tasks(session, task, version);
CREATE TABLE IF NOT EXISTS messages(id INTEGER PRIMARY KEY, channel TEXT NOT NULL, text TEXT NOT NULL,
  reply_to INTEGER, {PROVENANCE});
CREATE INDEX IF NOT EXISTS messages_of_channel ON messages(channel, id);
CREATE INDEX IF NOT EXISTS messages_of_session ON messages(session);
CREATE TABLE IF NOT EXISTS losses(id INTEGER PRIMARY KEY, sentence TEXT NOT NULL, {PROVENANCE});
CREATE TABLE IF NOT EXISTS documents(id INTEGER PRIMARY KEY, path TEXT NOT NULL, version INTEGER NOT NULL,
  kind TEXT NOT NULL, content TEXT NOT NULL, size INTEGER NOT NULL, reason TEXT NOT NULL, {PROVENANCE});
CREATE UNIQUE INDEX IF NOT EXISTS documents_by_path ON documents(path, version);
CREATE TABLE IF NOT EXISTS journal(id INTEGER PRIMARY KEY, kind TEXT NOT NULL, row INTEGER NOT NULL,
  digest BLOB NOT NULL, head BLOB NOT NULL);
"""
INDEX: Final = """
CREATE VIRTUAL TABLE IF NOT EXISTS found USING fts5(text, scope, content='', contentless_delete=1,
  tokenize='porter unicode61 remove_diacritics 2');
"""
_TRIGGERS: Final = "".join(
    f"CREATE TRIGGER IF NOT EXISTS {table}_{act.lower()} BEFORE {act} ON {table} "
    f"BEGIN SELECT RAISE(ABORT, 'rows of {table} are only appended'); END;\n"
    for table in (*COLUMNS, "journal")
    for act in ("UPDATE", "DELETE")
)
SCHEMA: Final = _TABLES + INDEX + _TRIGGERS
