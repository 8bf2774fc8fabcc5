"""Count the bytes of requests' bodies by subsystem, from the first byte on, and limit them.

A body belongs to no turn until it is whole: no budget and no cap of turns in flight has seen it yet. So its received
part counts here, until the request is answered or its connection gone.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable

from epad.gateway.http.message import Response
from epad.gateway.http.request import Request
from epad.gateway.limits import Refused
from epad.gateway.prompts import MOST_BYTES_A_TOKEN
from epad.gateway.refusal import Refusal, RefusalError, bodies_too_large, over_budget, too_many_bodies
from epad.runtime.memory import trim

# A client whose turns are all in flight may begin to send the next ones, which wait for their places.
_SPARE_BODIES = 8
# After so many bytes were given back, the heaps are worth a look.
_BURST_BYTES = 16 << 20
_TRIM_SECONDS = 1.0

Say = Callable[[Request, str, RefusalError], Response]


class Bodies:
    """Counts the bytes of bodies, by owner."""

    def __init__(self, most: int, most_each: int, say: Say, settle: Callable[[], None]) -> None:
        """`most` bytes of all, `most_each` of one subsystem; `settle` is called when a burst is over."""
        self._most = max(most, most_each)
        self._most_each = most_each
        self._settle = settle
        self._freed = 0
        self.say = say
        self.held: dict[str, int] = {}
        self.coming: Counter[str] = Counter()
        self.in_all = 0

    def allow(self, owner: str, declared: int, places: int, largest: Refused | None) -> BodyAllowance:
        """Let a body come. `places` is how many turns its owner may have in flight; 0: any number.

        `largest` refuses a body too long for any allowance, even as counted by the server's own tokenizer. Raises
        RefusalError.
        """
        if largest is not None and declared > largest.allowed * MOST_BYTES_A_TOKEN:
            raise RefusalError(*_never(largest, declared))
        if places and self.coming[owner] >= places + _SPARE_BODIES:
            raise RefusalError(too_many_bodies(owner, self.coming[owner]))
        if (over := self.refuses(owner, declared)) is not None:
            raise RefusalError(over)
        self.coming[owner] += 1
        return BodyAllowance(self, owner, largest)

    def refuses(self, owner: str, more: int) -> Refusal | None:
        """Say which bound so many bytes more would cross."""
        held = self.held.get(owner, 0)
        if held + more > self._most_each:
            return bodies_too_large(owner, held, self._most_each, "subsystem_bodies_bytes")
        if self.in_all + more > self._most:
            return bodies_too_large("all subsystems", self.in_all, self._most, "bodies_bytes")
        return None

    def count(self, owner: str, size: int) -> None:
        """Count so many bytes more, or fewer."""
        held = self.held[owner] = self.held.get(owner, 0) + size
        self.in_all += size
        if size < 0:
            if not held:
                del self.held[owner]
            self._freed -= size
            if self._freed >= _BURST_BYTES:
                self._freed = 0
                self._settle()


class BodyAllowance:
    """Holds one request's part of it."""

    def __init__(self, bodies: Bodies, owner: str, largest: Refused | None) -> None:
        self._bodies = bodies
        self._owner = owner
        self._largest = largest
        self._size = 0
        self._coming = True

    def take(self, request: Request, size: int) -> Response | None:
        """Count so many bytes more; refuse if those are too many."""
        over = self._bodies.refuses(self._owner, size)
        if over is not None:
            return self._bodies.say(request, self._owner, RefusalError(over))
        self._bodies.count(self._owner, size)
        self._size += size
        if self._largest is not None and self._size > self._largest.allowed * MOST_BYTES_A_TOKEN:
            return self._bodies.say(request, self._owner, RefusalError(*_never(self._largest, self._size)))
        return None

    def whole(self) -> None:
        """Take the end of the body."""
        if self._coming:
            self._coming = False
            self._bodies.coming[self._owner] -= 1

    def give_back(self) -> None:
        """The request is answered, or its connection gone."""
        self.whole()
        size, self._size = self._size, 0
        if size:
            self._bodies.count(self._owner, -size)


class Trimming:
    """Gives the memory of a burst of bodies back, a little later and once for many."""

    def __init__(self) -> None:
        self._is_due = False

    def soon(self) -> None:
        """Have it done, if it is not due already."""
        if not self._is_due:
            self._is_due = True
            asyncio.get_running_loop().call_later(_TRIM_SECONDS, self._trim)

    def _trim(self) -> None:
        self._is_due = False
        trim()


def _never(largest: Refused, size: int) -> tuple[Refusal, Refused]:
    refused = Refused(largest.scope, largest.limit, largest.allowed, largest.used, size, 0.0, True)
    return over_budget(refused), refused
