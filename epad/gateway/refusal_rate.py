"""Saying no at the least cost: bodies made once, and a rest for whoever does not listen."""

from __future__ import annotations

from collections import OrderedDict

from epad.gateway.dialects.dialect import Dialect
from epad.gateway.refusal import Refusal

HAMMERING_SECONDS = 10.0
# A few reasons are in force at a time, in three dialects; one names a path of the client's own choosing.
_MOST_BODIES = 128


class Rendered:
    """The bodies of refusals that carry no figures, each rendered once."""

    def __init__(self) -> None:
        self._bodies: OrderedDict[tuple[str, str, str], bytes] = OrderedDict()

    def body(self, dialect: Dialect, refusal: Refusal) -> bytes:
        """Return a refusal as the dialect says it."""
        if refusal.details:
            return dialect.error_body(refusal)
        key = (dialect.name, refusal.code, refusal.message)
        body = self._bodies.get(key)
        if body is None:
            body = self._bodies[key] = dialect.error_body(refusal)
            if len(self._bodies) > _MOST_BODIES:
                self._bodies.popitem(last=False)
        return body


class Hammering:
    """Counts the refusals of each subsystem; the nameless are counted together."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._counts: dict[str, tuple[float, int]] = {}

    def is_hammering(self, name: str, now: float) -> bool:
        """Count one, and say whether there were more than enough of them in these seconds."""
        since, count = self._counts.get(name, (now, 0))
        if now - since >= HAMMERING_SECONDS:
            since, count = now, 0
        self._counts[name] = (since, count + 1)
        return count >= self._most
