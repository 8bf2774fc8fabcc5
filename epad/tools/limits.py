"""Show the limits on tools beside the budgets: their use and their rest."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from epad.answers.orders import Limit

LimitOf = Callable[[str], int]
LeftOf = Callable[[str], int | None]


def limit_rows(subsystems: Iterable[str], limits: Iterable[tuple[str, LimitOf, LeftOf]]) -> Iterator[Limit]:
    """Yield a row for each limit of each subsystem; each limit comes with its name, its value, and the rest of it."""
    kinds = list(limits)
    for subsystem in subsystems:
        for name, limit_of, left_of in kinds:
            limit, left = limit_of(subsystem), left_of(subsystem)
            if limit and left is not None:
                yield {
                    "scope": subsystem,
                    "name": name,
                    "limit": limit,
                    "used": limit - left,
                    "left": left,
                    "configured": limit,
                    "origin": "configured",
                }
