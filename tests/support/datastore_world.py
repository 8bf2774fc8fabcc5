"""A knowledge graph on the disk, and what programs and rot do to it."""

from __future__ import annotations

import os
import random
import time
from pathlib import Path

import apsw

SCHEMA = """
CREATE TABLE entities(id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE, entity_type TEXT, created_at TEXT);
CREATE TABLE observations(id INTEGER PRIMARY KEY, entity_id INTEGER REFERENCES entities(id), content TEXT);
CREATE TABLE relations(
    id INTEGER PRIMARY KEY, from_entity INTEGER, to_entity INTEGER, relation_type TEXT, uses INTEGER DEFAULT 0);
CREATE INDEX observation_entity ON observations(entity_id);
"""
WORDS = ("agent", "model", "graph", "token", "ledger", "memory", "round", "prompt", "defender", "night")


class Store:
    """A knowledge graph on the disk, and a program that writes to it."""

    def __init__(self, path: Path, seed: int = 1) -> None:
        self.path = path
        self.random = random.Random(seed)
        self.connection = apsw.Connection(str(path))
        self.connection.execute(SCHEMA)
        self.entities = 0
        self.grow(120)

    def grow(self, entities: int) -> None:
        """Add entities, each with relations and observations, as a memory server does."""
        choose = self.random
        with self.connection:
            for _ in range(entities):
                self.entities += 1
                number = self.entities
                text = f"{choose.choice(WORDS)} {number}"
                self.connection.execute(
                    "INSERT INTO entities VALUES (?, ?, ?, ?)",
                    (number, text, choose.choice(WORDS), "2026-11-22T10:00:00"),
                )
                for _ in range(3):
                    words = " ".join(choose.choice(WORDS) for _ in range(choose.randint(5, 30)))
                    self.connection.execute(
                        "INSERT INTO observations(entity_id, content) VALUES (?, ?)", (number, words)
                    )
                self.connection.execute(
                    "INSERT INTO relations(from_entity, to_entity, relation_type) VALUES (?, ?, ?)",
                    (number, choose.randint(1, number), choose.choice(WORDS)),
                )

    def use(self) -> None:
        """What programs do besides adding: count up, take away, say anew."""
        with self.connection:
            number = self.random.randint(1, self.entities)
            self.connection.execute("UPDATE relations SET uses = uses + 1 WHERE id = ?", (number,))
            self.connection.execute("DELETE FROM observations WHERE id = ?", (self.random.randint(1, 200),))

    def close(self) -> None:
        self.connection.close()

    def rest(self) -> None:
        """Close it, and let its last write lie a minute back."""
        self.connection.close()
        minute_ago = time.time() - 60
        os.utime(self.path, (minute_ago, minute_ago))

    def flip(self, bit: int) -> None:
        """Rot: a bit of the file is another, and the file system has not been told."""
        status = self.path.stat()
        with self.path.open("r+b") as file:
            file.seek(bit // 8)
            byte = file.read(1)[0]
            file.seek(bit // 8)
            file.write(bytes([byte ^ 1 << bit % 8]))
        os.utime(self.path, ns=(status.st_atime_ns, status.st_mtime_ns))
