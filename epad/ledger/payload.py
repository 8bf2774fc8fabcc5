"""Kept payloads: compressed, found by their hash, and free to be pruned, since records name only the hash."""

from __future__ import annotations

import zlib
from collections.abc import Iterable
from hashlib import sha256

import apsw

from epad.ledger.chain import MAX_FAULTS, Fault, FaultKind
from epad.storage.database import fetch

PLAIN, ZLIB = 0, 1
_LEVEL = 1  # 120 MB/s; level 6 saves a tenth more of chat text at a third of the speed


def keep_payload(connection: apsw.Connection, payload: bytes, wall_ns: int) -> bytes:
    """Keep it, once however often it comes; its hash. Within the writer's transaction."""
    digest = sha256(payload).digest()
    packed = zlib.compress(payload, _LEVEL)
    codec, body = (ZLIB, packed) if len(packed) < len(payload) else (PLAIN, payload)
    connection.execute(
        "INSERT OR IGNORE INTO payload_kept VALUES (?, ?, ?, ?)", (digest, codec, wall_ns, body)
    )
    return digest


def kept_payload(connection: apsw.Connection, digest: bytes) -> bytes | None:
    """Return the payload of this hash; None if it is not kept, or has changed."""
    rows = fetch(connection, "SELECT codec, body FROM payload_kept WHERE hash = ?", (digest,))
    payload = _unpacked(*rows[0]) if rows else None
    return payload if payload is not None and sha256(payload).digest() == digest else None


def prune_payloads(connection: apsw.Connection, before_wall_ns: int, max_bytes: int) -> int:
    """Drop payloads of before then, and the oldest of the rest beyond `max_bytes`; return their number."""
    connection.execute("DELETE FROM payload_kept WHERE wall_ns < ?", (before_wall_ns,))
    gone = connection.changes()
    connection.execute(
        "DELETE FROM payload_kept WHERE hash IN (SELECT hash FROM (SELECT hash, sum(length(body)) OVER "
        "(ORDER BY wall_ns DESC, hash) AS held FROM payload_kept) WHERE held > ?)",
        (max_bytes,),
    )
    return gone + connection.changes()


def drop_payloads(connection: apsw.Connection, digests: Iterable[bytes]) -> None:
    """Drop payloads by their hash. Within the writer's transaction."""
    for digest in digests:
        connection.execute("DELETE FROM payload_kept WHERE hash = ?", (digest,))


def payload_faults(connection: apsw.Connection) -> list[Fault]:
    """Kept payloads that do not hash to their name."""
    faults: list[Fault] = []
    try:
        statement = "SELECT CAST(hash AS BLOB), codec, CAST(body AS BLOB) FROM payload_kept"
        for digest, codec, body in connection.execute(statement):
            payload = _unpacked(codec, body)
            if payload is None or sha256(payload).digest() != digest:
                faults.append(Fault(0, FaultKind.PAYLOAD, f"payload {_named(digest)} has changed"))
            if len(faults) >= MAX_FAULTS:
                break
    except apsw.SQLError:  # a ledger from before payloads were kept here
        return []
    return faults


def drop_damaged_payloads(connection: apsw.Connection) -> int:
    """Drop untrustworthy payloads; return their number. To replay, a pruned payload and a lost one are the same."""
    gone = 0
    rows = fetch(connection, "SELECT rowid, CAST(hash AS BLOB), codec, CAST(body AS BLOB) FROM payload_kept")
    for rowid, digest, codec, body in rows:
        payload = _unpacked(codec, body)
        if payload is None or sha256(payload).digest() != digest:
            connection.execute("DELETE FROM payload_kept WHERE rowid = ?", (rowid,))
            gone += 1
    return gone


def _unpacked(codec: object, body: object) -> bytes | None:
    if not isinstance(body, bytes):
        return None
    if codec == PLAIN:
        return body
    try:
        return zlib.decompress(body)
    except zlib.error:
        return None


def _named(digest: object) -> str:
    return digest.hex() if isinstance(digest, bytes) else repr(digest)
