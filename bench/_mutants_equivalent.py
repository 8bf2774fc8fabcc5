"""Mutants that no test can find, and why: by file and change.

Where the same change is made in several places of a file, all of them must be equivalent to stand here.
"""

from __future__ import annotations

_UNREAD = "chunks are read only where the output was not counted, and here it was"

EQUIVALENT: dict[tuple[str, str], str] = {
    (
        "epad/gateway/charge.py",
        "charge_stream(seen.usage, 0, terms.bound) -> charge_stream(seen.usage, None, terms.bound)",
    ): _UNREAD,
    (
        "epad/gateway/charge.py",
        "charge_stream(_of_a_prompt(usage, seen), 0, bound) -> charge_stream(_of_a_prompt(usage, seen), None, bound)",
    ): _UNREAD,
}
