"""Define the work of the ledger's writer: records with their waiters, or another task."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from epad.ledger.entry import Entry
from epad.ledger.errors import LedgerError, LedgerUnavailableError


@dataclass(slots=True)
class Batch:
    """Records on their way to the disk, and who waits for each."""

    entries: list[Entry] = field(default_factory=list)
    futures: list[asyncio.Future[int]] = field(default_factory=list)

    def parts(self, most: int) -> Iterator[Batch]:
        """The same in batches of at most so many."""
        for start in range(0, len(self.entries), most):
            end = start + most
            yield Batch(self.entries[start:end], self.futures[start:end])


@dataclass(frozen=True, slots=True)
class Call:
    """Something else for the writer's thread to do; `last` ends the thread."""

    work: Callable[[], Any]
    future: asyncio.Future[Any] | None
    last: bool = False


def outcome_of(work: Callable[[], Any]) -> Any:
    """A result, or the error as a value: nothing may end the writer's thread but the ledger's closing."""
    try:
        return work()
    except LedgerError as error:
        return error
    except Exception as error:
        return LedgerUnavailableError(f"the ledger's writer failed: {error!r}")
