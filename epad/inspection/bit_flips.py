"""Telling a flipped bit from an edit: two texts, or two pages, that differ in exactly one bit.

A program that edits leaves more behind than one bit: a length, a version, a second byte. A single bit that an edit
could explain (a digit counted up, a letter made large) counts as an edit.
"""

from __future__ import annotations

SHORT_BYTES = 4
"""A value this short is a code or a flag: another value of it may well be one bit away."""


def one_bit(before: bytes, after: bytes) -> int | None:
    """Return the offset of the one byte in which they differ by one bit; None if they differ otherwise."""
    if len(before) != len(after):
        return None
    difference = int.from_bytes(before, "big") ^ int.from_bytes(after, "big")
    if difference.bit_count() != 1:
        return None
    return len(before) - 1 - (difference.bit_length() - 1) // 8


def is_flip(before: bytes, after: bytes, *, is_text: bool, has_edits: bool, is_vouched: bool) -> bool:
    """Tell if a changed value was changed by no program.

    `has_edits` says that values of this kind were seen to be edited in place; `is_vouched`, that the row's own
    version says that nobody has changed it.
    """
    at = one_bit(before, after)
    if at is None or len(before) < SHORT_BYTES:
        return False
    if is_vouched:
        return True
    if not is_text:
        return not has_edits
    return not _is_text(after, at) or not (has_edits or _is_usual_edit(before[at], after[at]))


def _is_text(value: bytes, at: int) -> bool:
    """Tell if it is still text that a person could have written."""
    try:
        value.decode()
    except UnicodeDecodeError:
        return False
    return value[at] >= 0x20 and value[at] != 0x7F


def _is_usual_edit(before: int, after: int) -> bool:
    """Return a digit for a digit, or a letter for the same letter in the other case."""
    old, new = chr(before), chr(after)
    digits = old.isdigit() and new.isdigit()
    same_letter = before ^ after == 0x20 and old.isascii() and old.isalpha()
    return digits or same_letter
