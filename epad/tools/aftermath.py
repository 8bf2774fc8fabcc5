"""Tell of the calls that the daemon before this one died in, and remove before-images that are too old."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable, Sequence
from typing import Final, Protocol

from structlog.typing import FilteringBoundLogger

from epad.gate.tool_risk import READS
from epad.ledger.record import ToolOpened
from epad.tools.undoing import UndoError, Undoing

SWEEP_SECONDS: Final = 3_600.0


async def tell_of_unknown(undoing: Undoing, unknown: Iterable[ToolOpened], log: FilteringBoundLogger) -> None:
    """Say of each call which of its changes were made, as far as before-images tell; nothing is repeated."""
    for opened in unknown:
        about = {"turn": opened.turn, "subsystem": opened.subsystem, "tool": opened.tool, "risk": opened.risk}
        if opened.risk in READS:
            log.info("tool.end_unknown", **about, found="it only reads: it has changed nothing")
            continue
        try:
            found = await undoing.after_crash(opened)
        except UndoError as error:
            log.warning("tool.end_unknown", **about, found=f"its changes cannot be told: {error}")
            continue
        if found is None:
            log.warning(
                "tool.end_unknown",
                **about,
                found="no before-image: it had changed no file yet, or keeps none",
            )
            continue
        log.warning(
            "tool.end_unknown", **about, found="changed files", made=found.restored, not_made=found.as_before,
            changed_since=found.changed_since, fix=f"epactl undo {opened.turn}",
        )  # fmt: skip


class Swept(Protocol):
    """A store whose contents have an age at which they go."""

    def sweep(self, now: float) -> int:
        """Remove what is too old at `now`, in seconds of UTC; return its number."""
        ...


async def sweep_for_ever(stores: Sequence[Swept], log: FilteringBoundLogger) -> None:
    """Remove before-images and results that are too old, or too many, every hour."""
    while True:
        for store in stores:
            gone = await asyncio.to_thread(store.sweep, time.time())
            if gone:
                log.info("tools.swept", store=type(store).__name__, gone=gone)
        await asyncio.sleep(SWEEP_SECONDS)
