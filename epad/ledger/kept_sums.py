"""Keep the sums at a seal: bound to the segment by its hash, and signed.

Those of the newest two seals are kept. Sums that cannot be believed are not used: their records are read instead.
"""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256

import apsw

from epad.ledger.chain import Fault, FaultKind, links_before
from epad.ledger.errors import HeadError, RecordError
from epad.ledger.head import Signer, Verifier
from epad.ledger.rows import DAMAGE
from epad.ledger.seal import all_seals
from epad.ledger.segment import Seal
from epad.ledger.sums import Sums, decode_sums
from epad.storage.database import fetch

ORIGIN = "epad/ledger/sums"
KEPT = 2
_ROWS = "SELECT no, CAST(body AS BLOB), CAST(note AS BLOB) FROM sums ORDER BY no DESC"


@dataclass(frozen=True, slots=True)
class KeptSums:
    """Sums of all records up to the end of a segment, and the signed note that says so."""

    number: int
    body: bytes
    note: str


def sign_sums(seal: Seal, body: bytes, signer: Signer) -> KeptSums:
    """State that these are the sums of all records up to this seal."""
    return KeptSums(seal.trailer.number, body, signer.sign_text(_statement(seal, body)))


def keep_sums(connection: apsw.Connection, kept: KeptSums) -> None:
    """Keep them, and those of the seal before; on the writer's thread, in the transaction that notes the seal."""
    connection.execute("INSERT OR REPLACE INTO sums VALUES (?, ?, ?)", (kept.number, kept.body, kept.note))
    connection.execute("DELETE FROM sums WHERE no <= ?", (kept.number - KEPT,))


def kept_sums(connection: apsw.Connection, verifier: Verifier | None) -> list[Sums]:
    """Return the believable ones, newest first."""
    return [sums for _, sums, _ in _read(connection, verifier) if sums is not None]


def sums_faults(connection: apsw.Connection, verifier: Verifier | None) -> list[Fault]:
    """Return the unbelievable ones; without a key none can be judged."""
    if verifier is None:
        return []
    return [
        Fault(0, FaultKind.CATALOGUE, f"the sums of segment {number} {why}")
        for number, _, why in _read(connection, verifier)
        if why
    ][:1]


def _read(
    connection: apsw.Connection, verifier: Verifier | None
) -> Sequence[tuple[object, Sums | None, str]]:
    """Yield each kept one, newest first: its segment's number, and its sums or the reason not to believe it."""
    try:
        rows = fetch(connection, _ROWS)
    except (apsw.SQLError, *DAMAGE):  # a ledger from before there were any, or a damaged page
        return []
    seals = all_seals(connection) if rows else {}
    read: list[tuple[object, Sums | None, str]] = []
    for number, body, note in rows:
        try:
            read.append((number, _believed(connection, seals.get(number), body, note, verifier), ""))
        except (HeadError, RecordError) as error:
            read.append((number, None, str(error)))
    return read


def _believed(
    connection: apsw.Connection, seal: Seal | None, body: object, note: object, verifier: Verifier | None
) -> Sums:
    """Raises HeadError, RecordError."""
    if seal is None:
        raise RecordError("belong to a segment that is not sealed")
    if verifier is None:
        raise HeadError("cannot be believed: no key of this ledger is known")
    if not isinstance(body, bytes) or not isinstance(note, bytes):
        raise RecordError("are damaged")
    if verifier.text(note.decode(errors="replace")) != _statement(seal, body):
        raise HeadError("are not those that were signed")
    if seal.trailer.last > _newest(connection):
        raise HeadError("reach beyond the newest record")
    links = links_before(connection, seal.trailer.last + 1)
    if links and verifier.read(seal.trailer.note).link not in links:
        raise HeadError("are of another history than the records")
    sums = decode_sums(body)
    if sums.through != seal.trailer.last:
        raise RecordError(f"end with record {sums.through}, the segment with {seal.trailer.last}")
    return sums


def _newest(connection: apsw.Connection) -> int:
    """Return the newest record's number. A start writes one behind any tail, and behind missing records."""
    [(number,)] = fetch(connection, "SELECT coalesce(max(seq), 0) FROM record")
    return int(number)


def _statement(seal: Seal, body: bytes) -> str:
    digest = sha256(body).digest()
    return (
        f"{ORIGIN}\n{seal.trailer.number}\n{seal.trailer.last}\n"
        f"segment {base64.b64encode(seal.sha256).decode()}\nsums {base64.b64encode(digest).decode()}\n"
    )
