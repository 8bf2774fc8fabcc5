"""Proofs that a record is in the ledger as signed, which a stranger checks with SHA-256 alone."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import apsw

from epad.ledger.anchor import HEAD_FILE, KEYS_FILE, read_heads
from epad.ledger.errors import HeadError, LedgerError
from epad.ledger.hashes import HASH_BYTES
from epad.ledger.rows import Row, read_rows, row_at
from epad.ledger.tree import LOST_LEAF, inclusion_path, root_from_path


def prove(connection: apsw.Connection, anchor: Path, sequence: int) -> dict[str, Any]:
    """Return the record, its way up to the newest head's root, and that head. Raises LedgerError."""
    try:
        head = read_heads(anchor, 0).newest
        note = (anchor / HEAD_FILE).read_text(errors="replace")
        keys = (anchor / KEYS_FILE).read_text(errors="replace").split()
    except OSError as error:
        raise HeadError(f"{anchor}: {error.strerror}; without a signed head nothing can be proved") from error
    if head is None:
        raise HeadError(f"{anchor / HEAD_FILE}: no signed head there that can be believed")
    if not 1 <= sequence <= head.size:
        raise LedgerError(f"record {sequence} is not among the {head.size} that the newest head speaks of")
    row = row_at(connection, sequence)
    if row is None or not isinstance(row.leaf, bytes):
        raise LedgerError(f"record {sequence} is lost")
    path = inclusion_path(sequence - 1, head.size, _leaves(connection, head.size))
    if root_from_path(sequence - 1, head.size, row.leaf, path) != head.root:
        raise LedgerError(
            f"record {sequence} is not in the tree that was signed: run `epactl ledger verify --full`"
        )
    return {
        "seq": sequence,
        "body": base64.b64encode(row.body).decode() if isinstance(row.body, bytes) else None,
        "leaf": row.leaf.hex(),
        "size": head.size,
        "path": [node.hex() for node in path],
        "head": note,
        "keys": keys,
    }


def _leaves(connection: apsw.Connection, size: int) -> Iterator[bytes]:
    """Leaves 1 to `size`, with a stand-in for those that are lost."""
    expected = 1
    for item in read_rows(connection, 1):
        if not isinstance(item, Row):
            continue
        while expected < min(item.seq, size + 1):
            yield LOST_LEAF
            expected += 1
        if item.seq > size:
            return
        yield item.leaf if isinstance(item.leaf, bytes) and len(item.leaf) == HASH_BYTES else LOST_LEAF
        expected += 1
