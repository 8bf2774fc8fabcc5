"""Declare the tool of the category `vault`: the search over documents. The daemon answers it."""

from __future__ import annotations

from typing import Annotated, Final

from msgspec import Meta, Struct

from runners.tools.signature import Args, Result, meta


class VaultSearchArgs(Args, frozen=True):
    """Holds words to search for, and how the paths begin that are searched."""

    query: Annotated[str, Meta(max_length=400)]
    path: str | None = None
    limit: Annotated[int, Meta(ge=1, le=25)] = 10


class Cited(Struct, frozen=True):
    """One passage: its document, the section (headings, a JSON pointer, or the id of a STIX object), and the version.

    `version` is the SHA-256 of the document's bytes; a higher score fits better.
    """

    uri: str
    section: str
    title: str
    text: str
    version: str
    score: float


class VaultSearchResult(Result, frozen=True):
    """Holds the passages found, the best first."""

    results: list[Cited]


VAULT_SEARCH: Final = meta(
    "vault_search",
    VaultSearchArgs,
    VaultSearchResult,
    risk="R1",
    timeout=10,
    description="Search the vault: documents, threat intelligence; words, ATT&CK ids, hashes, hosts.",
    examples=({"query": "T1059", "limit": 5},),
)
TOOLS: Final = (VAULT_SEARCH,)

vault_search = VAULT_SEARCH.answered_by_daemon()
