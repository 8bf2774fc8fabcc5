"""Hash records: each body to a leaf, each leaf with all before it to a link.

Bytes are hashed as they are stored: nothing is ever encoded again to be checked.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from hashlib import sha256

HASH_BYTES = 32
GENESIS = bytes(HASH_BYTES)
"""What the first record links to."""

# 0x00 before a leaf is RFC 6962's: no leaf can be passed off as an inner node of a tree over the same leaves.
LEAF_PREFIX = b"\0"
LINK_PREFIX = b"epad/turn/1\0"
# A copy of a hash that has taken its prefix in costs less than a new one.
_begin_leaf = sha256(LEAF_PREFIX).copy
_begin_link = sha256(LINK_PREFIX).copy
_pack_link = struct.Struct(">32sQ32s").pack


def leaf_hash(body: bytes) -> bytes:
    """Return the hash that covers a body."""
    return sha256(LEAF_PREFIX + body).digest()


def leaf_hashes(bodies: Iterable[bytes]) -> list[bytes]:
    """Return the leaf hashes of many bodies. Raises TypeError."""
    hashes: list[bytes] = []
    for body in bodies:
        leaf = _begin_leaf()
        leaf.update(body)
        hashes.append(leaf.digest())
    return hashes


def link_hash(previous_link: bytes, sequence: int, leaf: bytes) -> bytes:
    """Return the hash that all later records depend on. It covers leaves: a lost body breaks nothing behind it."""
    return sha256(LINK_PREFIX + previous_link + sequence.to_bytes(8, "big") + leaf).digest()


def link_hashes(
    previous_links: Iterable[bytes], sequences: Iterable[int], leaves: Iterable[bytes]
) -> list[bytes]:
    """Return many link hashes; short input is padded, so the caller must check lengths.

    Raises TypeError, struct.error.
    """
    hashes: list[bytes] = []
    for packed in map(_pack_link, previous_links, sequences, leaves):
        link = _begin_link()
        link.update(packed)
        hashes.append(link.digest())
    return hashes
