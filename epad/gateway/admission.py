"""Admit a turn: how much it may have, the reservation for it, and the wait for that."""

from __future__ import annotations

from functools import partial

from msgspec import Struct

from epad.gateway.access import Access
from epad.gateway.allowance import Wish, allow
from epad.gateway.budget import Budgets, Refused, Reservation
from epad.gateway.money import FREE
from epad.gateway.refusal import RefusalError
from epad.gateway.waiting import Waiting
from statemachine.clock import Clock


class Admitted(Struct, frozen=True):
    """Holds a turn's reservation, and the cap of each of its choices; `cut_by` is the scope that left no more."""

    reservation: Reservation
    cap: int
    cut_by: str = ""


class Admission:
    """Reserves for turns, at once or after a wait."""

    def __init__(self, budgets: Budgets, access: Access, clock: Clock, wait_seconds: float) -> None:
        self._budgets = budgets
        self._access = access
        self._clock = clock
        self._waiting: Waiting[Admitted] = Waiting(budgets, wait_seconds, self._give_back)

    def at_once(self, subsystem: str, wish: Wish, digest: bytes) -> Admitted | None:
        """Reserve for a turn before which nobody waits; None where it has to go the way of `admit`.

        Raises RefusalError for a subsystem that is shut out.
        """
        if self._waiting.anybody:
            return None
        admitted = self._attempt(subsystem, wish, digest, False, False)
        return None if isinstance(admitted, Refused) else admitted

    async def admit(self, subsystem: str, wish: Wish, digest: bytes) -> Admitted | Refused:
        """Reserve the worst case of a turn. Raises RefusalError for a subsystem that is shut out meanwhile."""
        admitted = await self._waiting.take(subsystem, partial(self._attempt, subsystem, wish, digest))
        if isinstance(admitted, Refused):
            return admitted
        shut = self._access.shut(subsystem)  # it may have been, between the reservation and this moment
        if shut is not None:
            self._give_back(admitted)
            raise RefusalError(shut, prompt_digest=digest)
        return admitted

    def foresee(self, subsystem: str) -> Refused | None:
        """See, from nothing but who asks, that no turn of any size fits, nor will within the time that one waits."""
        refused = self._budgets.foresee(subsystem, self._clock.monotonic())
        return None if refused is None or self._waiting.worth(refused) else refused

    def settled(self) -> None:
        """Wake the waiting turns after one has given back its unused part."""
        self._waiting.changed()

    def close(self, error: RefusalError) -> None:
        """Turn away whoever waits."""
        self._waiting.close(error)

    def _attempt(
        self, subsystem: str, wish: Wish, digest: bytes, last: bool, queued: bool
    ) -> Admitted | Refused:
        # Asked again each time: the subsystem may have been quarantined while it waited.
        shut = self._access.shut(subsystem)
        if shut is not None:
            raise RefusalError(shut, prompt_digest=digest)
        now = self._clock.monotonic()
        allowance = allow(wish, self._budgets.rooms(subsystem, now, queued=queued))
        enough = min(wish.most, 1) if last else self._useful(subsystem, wish)
        # Where what is allowed is not enough, as much as that fits no more either: it is refused, and the refusal
        # says why, and how long that takes.
        cap = max(allowance.tokens, enough)
        reservation = self._reserve(subsystem, wish, cap, now)
        if isinstance(reservation, Refused):
            return reservation
        return Admitted(reservation, cap, allowance.scope)

    def _useful(self, subsystem: str, wish: Wish) -> int:
        """Return the output worth waiting for: never more than half of the most that the budgets could give."""
        largest = self._budgets.largest_limit(subsystem)
        if largest is None:
            return wish.useful
        useful, ever = wish.useful, (largest - wish.prompt_tokens) // wish.choices
        return useful if useful <= ever // 2 else max(min(useful, 1), ever // 2)

    def _reserve(self, subsystem: str, wish: Wish, cap: int, now: float) -> Reservation | Refused:
        tokens = wish.prompt_tokens + cap * wish.choices
        free = wish.price is FREE
        microusd = 0 if free else wish.price.at_most(wish.prompt_tokens, cap * wish.choices)
        return self._budgets.reserve(subsystem, tokens, now, microusd)

    def _give_back(self, admitted: Admitted) -> None:
        self._budgets.settle(admitted.reservation, 0, self._clock.monotonic())
        self._waiting.changed()
