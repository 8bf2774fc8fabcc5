"""Define the answers about the knowledge vault."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypedDict


class DocumentChange(TypedDict):
    """Tells of one change: `sha256` is of the document's bytes from then on, empty where it is not there any more.

    `author` is operator for a person, else the subsystem whose session appended. `at`: seconds since 1970.
    """

    version: int
    kind: str
    sha256: str
    size: int
    reason: str
    at: float
    author: str
    session: str


class VaultDocument(DocumentChange):
    """Tells of a document: its path, and its newest change."""

    path: str


class VaultList(TypedDict):
    """Holds the documents by path, and the faults that the newest look has found."""

    documents: Sequence[VaultDocument]
    faults: Sequence[str]


class DocumentHistory(TypedDict):
    """Holds a document's changes, oldest first."""

    path: str
    changes: Sequence[DocumentChange]


class DocumentPiece(VaultDocument):
    """Holds bytes of a version, in base64; the rest begins at the offset `next`, 0 behind the last piece."""

    data: str
    next: int


class VaultProof(TypedDict):
    """Holds the result of reading all of the vault: a sentence for each fault, and the numbers of rows and versions."""

    faults: Sequence[str]
    rows: int
    versions: int
