"""Mutants that no test can find, and why: by file, line and change."""

from __future__ import annotations

_UNREAD = "chunks are read only where the output was not counted, and here it was"
_CHARGE = "epad/gateway/charge.py"
_STATUS = "return charge_stream(seen.usage, 0, terms.bound)"
_FINAL = "charge = charge_stream(_of_a_prompt(usage, seen), 0, bound)"

EQUIVALENT: dict[tuple[str, str, str], str] = {
    (
        _CHARGE,
        _STATUS,
        "charge_stream(seen.usage, 0, terms.bound) -> charge_stream(seen.usage, None, terms.bound)",
    ): _UNREAD,
    (_CHARGE, _STATUS, "0 -> 1"): _UNREAD,
    (
        _CHARGE,
        _FINAL,
        "charge_stream(_of_a_prompt(usage, seen), 0, bound) -> charge_stream(_of_a_prompt(usage, seen), None, bound)",
    ): _UNREAD,
    (_CHARGE, _FINAL, "0 -> 1"): _UNREAD,
}
