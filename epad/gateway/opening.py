"""Track if a turn was opened in the ledger, or is going to be."""

from __future__ import annotations

import asyncio


def is_under_way(opening: asyncio.Future[int]) -> bool:
    """Say whether the opening is written, or will be before anything else is: nobody waits for it any longer."""
    return opening.cancelled() or (opening.done() and opening.exception() is None)
