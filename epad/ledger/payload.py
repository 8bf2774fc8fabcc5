"""Keep payloads, compressed and found by their hash; records name only the hash, so any of them may be pruned."""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Sequence
from hashlib import sha256

import apsw
from msgspec.structs import replace

from epad.ledger.chain import MAX_FAULTS, Fault, FaultKind
from epad.ledger.entry import CloseTool, CloseTurn, Entry, OpenTool, OpenTurn
from epad.ledger.hashes import HASH_BYTES
from epad.storage.database import fetch

PLAIN, ZLIB = 0, 1
_LEVEL = 1  # 120 MB/s; level 6 saves a tenth more of chat text at a third of the speed


class Requests:
    """Keeps the requests of turns as `ledger.payloads` says, `open` ones until their turn is closed.

    `keep` and `drop` are called within the writer's transaction, `written` once it is on the disk. A turn that was open
    at a crash is not known here any more: its payload goes when its loss is settled, or when payloads are pruned.
    """

    def __init__(self, payloads: str) -> None:
        self._payloads = payloads
        self._open: dict[str, bytes] = {}  # turns of this epoch whose payload goes when they are closed

    def keep(self, connection: apsw.Connection, entries: Sequence[Entry], wall_ns: int) -> None:
        """Keep the requests of these turns, as far as any are kept."""
        for entry in self._kept_of(entries):
            keep_payload(connection, entry.payload or b"", wall_ns)

    def drop(self, connection: apsw.Connection, entries: Sequence[Entry]) -> None:
        """Drop the payloads of turns that these entries close, unless another open turn asks the same."""
        if not self._open:
            return
        closed = {self._open[e.turn] for e in entries if isinstance(e, CloseTurn) and e.turn in self._open}
        if closed:
            drop_payloads(connection, closed - set(self._still_open(entries).values()))

    def written(self, entries: Sequence[Entry]) -> None:
        """Take note that these entries are on the disk."""
        self._open = self._still_open(entries)

    def _still_open(self, entries: Sequence[Entry]) -> dict[str, bytes]:
        """Return the payloads that are kept for open turns, once these entries are written."""
        opened = self._kept_of(entries)
        if self._payloads != "open" or not (opened or self._open):
            return self._open
        still = self._open | {e.turn: e.request_sha256 for e in opened}
        for entry in entries:
            if isinstance(entry, CloseTurn):
                still.pop(entry.turn, None)
        return still

    def _kept_of(self, entries: Sequence[Entry]) -> list[OpenTurn]:
        """Return the openings whose request is kept.

        Where it is kept until the end of its turn, it must have a key: without, nobody could come for the answer to its
        replay.
        """
        if self._payloads == "open":
            return [
                e
                for e in entries
                if isinstance(e, OpenTurn) and e.idempotency_key is not None and e.payload is not None
            ]
        if self._payloads == "kept":
            return [e for e in entries if isinstance(e, OpenTurn) and e.payload is not None]
        return []


def without_digest(entry: Entry) -> Entry:
    """Return the entry without a trace of the request, or of a tool's arguments and result."""
    match entry:
        case OpenTurn():
            return replace(entry, request_sha256=bytes(HASH_BYTES))
        case OpenTool():
            return replace(entry, arguments_sha256=bytes(HASH_BYTES))
        case CloseTool():
            return replace(entry, result_sha256=b"")
        case _:
            return entry


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
