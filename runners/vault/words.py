"""Compare texts: the same, nearly the same, or quoted. Pure.

Two texts are nearly the same if nine tenths of their words are, and no number or negation is in one alone: `port 8080`
and `port 8081` are two facts.
"""

from __future__ import annotations

import heapq
import re
import unicodedata
import zlib
from collections.abc import Iterable
from functools import lru_cache
from hashlib import blake2b
from typing import Final

NEARLY: Final = 0.9
"""The share of words of two texts together that both have, from which on they are nearly the same."""
ECHO_WORDS: Final = 8
"""A shorter text that is found in another one is no quotation: it may be a name."""
_ECHO_LENGTH: Final = 1.5
_SMALLEST: Final = 3
_REMEMBERED: Final = 64
"""Texts of one request are compared, and then stored: each is worked out once."""
_ORDERS: Final = (0x9E3779B1, 0x85EBCA6B, 0xC2B2AE35)
_NEGATIONS: Final = frozenset({"no", "not", "never", "none", "without", "cannot", "n't", "don't", "nor"})

words_in = re.compile(r"\w+(?:['\u2019]\w+)?").findall


@lru_cache(maxsize=_REMEMBERED)
def normalised(text: str) -> str:
    """Return a text's words in lower case, parted by one space: what is the same in this form is the same text."""
    return " ".join(words_in(unicodedata.normalize("NFKC", text).casefold()))


def digest_of(scope: str, normal: str) -> int:
    """Return 63 bits that stand for a normalised text in its scope."""
    return int.from_bytes(blake2b(f"{scope}\0{normal}".encode(), digest_size=8).digest(), "big") >> 1


@lru_cache(maxsize=_REMEMBERED)
def sketches_of(scope: str, normal: str) -> tuple[int, int, int]:
    """Return three numbers, each of a text's few smallest hashes: texts that are nearly the same share one of them.

    Of texts with one word in twenty changed, about 98 of 100 share one; of others hardly any.
    """
    hashes = [zlib.crc32(word.encode()) for word in set(normal.split(" "))]
    seed = zlib.crc32(scope.encode())
    first, second, third = (_sketch(hashes, order, seed) for order in _ORDERS)
    return first, second, third


def _sketch(hashes: Iterable[int], order: int, seed: int) -> int:
    sketch = seed
    for value in heapq.nsmallest(_SMALLEST, [(one * order) & 0xFFFFFFFF for one in hashes]):
        sketch = (sketch * 0x100000001B3 ^ value) & 0x7FFFFFFFFFFFFFFF
    return sketch


def nearly_same(one: str, other: str) -> bool:
    """Tell if two normalised texts are nearly the same."""
    left, right = set(one.split(" ")), set(other.split(" "))
    if any(_decides(word) for word in left ^ right):
        return False
    return len(left & right) >= NEARLY * len(left | right)


def quotes(text: str, recalled: str) -> bool:
    """Tell if a normalised text is nearly nothing but a recalled one, with a few words around it."""
    new, old = set(text.split(" ")), set(recalled.split(" "))
    if len(old) < ECHO_WORDS or len(new) > _ECHO_LENGTH * len(old):
        return False
    return len(new & old) >= NEARLY * len(old) and not any(_decides(word) for word in new ^ old)


def _decides(word: str) -> bool:
    """Tell if a word alone makes two texts say different things."""
    return word in _NEGATIONS or word.endswith("n't") or any(letter.isdigit() for letter in word)
