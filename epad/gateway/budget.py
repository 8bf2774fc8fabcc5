"""Keep each subsystem's budgets: its own limits, its group's and everyone's, checked and reserved in one step.

Pure and synchronous: between the check and the reservation nothing awaits, so a limit is exact under any concurrency.
Scopes, and the moment a limit is crossed, are defined in epad/gateway/limits.py.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TypeVar

from msgspec import Struct, structs

from epad.configuration.schema import BudgetConfig, SharedBudgetConfig
from epad.gateway.allowance import Room
from epad.gateway.carves import Carved, Carves
from epad.gateway.errors import BudgetError
from epad.gateway.limits import (
    IN_FLIGHT,
    LONGEST_WINDOW_SECONDS,
    OVERRUN,
    WINDOWS,
    Meter,
    Refused,
    Scope,
    Usage,
    Window,
    WindowShape,
)
from epad.gateway.spend import NotedSpend, Spend

__all__ = [
    "IN_FLIGHT",
    "LONGEST_WINDOW_SECONDS",
    "OVERRUN",
    "WINDOWS",
    "Budgets",
    "Carved",
    "NotedSpend",
    "Refused",
    "Reservation",
    "SharedBudgets",
    "Spend",
    "Usage",
    "Window",
    "WindowShape",
]  # fmt: skip

T = TypeVar("T")

GLOBAL_SCOPE = "all"
GROUP_PREFIX = "group:"
"""Before a group's name wherever scopes are told apart, since a subsystem may bear the same name."""


class Reservation(Struct, frozen=True):
    """Holds the reservation of one turn until it is settled."""

    number: int
    subsystem: str
    tokens: int
    microusd: int = 0

    def is_exceeded(self, tokens: int, microusd: int) -> bool:
        """Tell if a spend is more than the reservation, in either amount."""
        return tokens > self.tokens or microusd > self.microusd


@dataclass(frozen=True, slots=True)
class SharedBudgets:
    """Holds the budgets above a subsystem's own: each group's, the group of each subsystem, and everyone's.

    `group_of` may name subsystems that are no longer configured: their spending still counts for their group.
    `parent_of` names the parent of each agent that was ever spawned: its spending counts for that one.
    """

    groups: Mapping[str, SharedBudgetConfig]
    group_of: Mapping[str, str]
    everyone: SharedBudgetConfig
    parent_of: Mapping[str, str] = field(default_factory=dict)


_NO_BUDGET = "{!r} has no budget: it is not in [subsystems]"
NOTHING_SHARED = SharedBudgets({}, {}, SharedBudgetConfig())


class _Asked(Struct, frozen=True):
    """Holds the questions to a subsystem's budgets in every turn that change only with the configuration."""

    scopes: tuple[str, ...]
    places: int
    counts_money: bool
    limits_tokens: bool
    largest: Meter | None

    @classmethod
    def of(cls, scopes: tuple[Scope, ...]) -> _Asked:
        limited = [scope.tokens for scope in scopes if scope.tokens.smallest_limit is not None]
        money = any(scope.money.limited for scope in scopes)
        return cls(
            tuple(scope.name for scope in scopes),
            scopes[0].max_in_flight,
            money,
            money or bool(limited),
            min(limited, key=lambda meter: meter.smallest_limit or 0, default=None),
        )


class _BySubsystem(dict[str, T]):
    """By the name of a subsystem. Raises BudgetError for one that has no budget."""

    def __missing__(self, name: str) -> T:
        raise BudgetError(_NO_BUDGET.format(name))


class Budgets:
    """Holds every budget there is; one owner, one counter."""

    def __init__(
        self, budgets: Mapping[str, BudgetConfig], max_in_flight: int, shared: SharedBudgets = NOTHING_SHARED
    ) -> None:
        self._scopes: _BySubsystem[tuple[Scope, ...]] = _BySubsystem()
        self._all: dict[str, Scope] = {}
        self._former: dict[str, tuple[Scope, ...]] = {}
        self._group_of: Mapping[str, str] = {}
        self._parent_of: Mapping[str, str] = {}
        self._carves = Carves(self._known_scopes)
        self._everyone: tuple[Scope, ...] = ()
        self._asked: _BySubsystem[_Asked] = _BySubsystem()
        self._open: dict[int, Reservation] = {}
        self._noting: list[list[NotedSpend]] = []
        self._number = 0
        self.configure(budgets, max_in_flight, shared)
        self._told()

    def configure(
        self, budgets: Mapping[str, BudgetConfig], max_in_flight: int, shared: SharedBudgets = NOTHING_SHARED
    ) -> None:
        """Replace the budgets: the spent and reserved amounts of a scope stay.

        The spending in a window that had no limit before is not known here: `restore_fresh` gives it, and until then
        such a window is fresh.
        """
        most = min(max_in_flight, shared.everyone.max_in_flight or max_in_flight)
        everyone = self._scope(GLOBAL_SCOPE, structs.replace(shared.everyone, max_in_flight=most))
        groups = {name: self._scope(GROUP_PREFIX + name, limits) for name, limits in shared.groups.items()}
        # A turn of a subsystem that is configured no more has still to be settled.
        self._former |= self._scopes
        self._everyone = (everyone,)
        self._group_of, self._parent_of = shared.group_of, shared.parent_of
        scopes: dict[str, tuple[Scope, ...]] = {}
        for name, limits in budgets.items():
            if name in shared.parent_of:
                scopes[name] = (self._scope(name, self._carves.limited(name, limits)),)
            else:
                group = groups.get(shared.group_of.get(name, ""))
                own = self._scope(name, limits)
                scopes[name] = (own, everyone) if group is None else (own, group, everyone)
        self._scopes = _BySubsystem(scopes)
        self._former = {n: each for n, each in self._former.items() if n in scopes or not self._is_past(n)}
        self._asked = _BySubsystem({name: _Asked.of(scopes) for name, scopes in self._scopes.items()})
        self._all = {
            GLOBAL_SCOPE: everyone,
            **{scope.name: scope for scope in groups.values()},
            **{name: scopes[0] for name, scopes in self._scopes.items()},
        }

    def _scope(self, name: str, limits: BudgetConfig | SharedBudgetConfig) -> Scope:
        """Return the scope of that name with these limits, be it there already or not."""
        known = self._all.get(name)
        if known is None and name in self._former:
            known = self._former[name][0]
        if known is None:
            return Scope(name, limits)
        known.change(limits)
        return known

    def _known_scopes(self, name: str) -> tuple[Scope, ...]:
        return self._scopes.get(name) or self._former[name]

    def _is_past(self, name: str) -> bool:
        """Tell if an agent has ended, with all of its turns, so that nothing of it is to be kept."""
        return name in self._parent_of and name not in self._carves

    def covers(self, subsystem: str) -> bool:
        """Say whether the subsystem is configured; a key may outlive its subsystem."""
        return subsystem in self._scopes

    def carve(self, agent: str, carved: Carved, now: float) -> Refused | None:
        """Reserve the amount of a new agent in every budget of its parent, or say which limit that would cross.

        Raises BudgetError for an unknown parent.
        """
        parent = carved.parent
        refused = self._carves.refuses(parent, 0, now) if self._is_past(parent) else None
        refused = refused or self._carves.refuses_amount(agent, carved, self._scopes[parent], now)
        if refused is None:
            self._former[agent] = (Scope(agent, self._carves.limits(carved)),)
            self._carves.reserve(agent, carved)
        return refused

    def carve_again(self, carved: Mapping[str, Carved], now: float) -> None:
        """Reserve what is left of the amounts of the agents that live, once `restore` has counted their spending."""
        for agent, amount in carved.items():
            self._carves.reserve_rest(agent, amount, now)

    def give_back(self, agent: str) -> None:
        """Give what an agent has not spent back to its parent, once; its turns in flight do so as they are settled."""
        self._carves.end(agent)

    def counts_money(self, subsystem: str) -> bool:
        """Say whether any budget in money applies to the subsystem."""
        return self._asked[subsystem].counts_money

    @property
    def subsystems(self) -> tuple[str, ...]:
        """Return every subsystem with a budget."""
        return tuple(self._scopes)

    @property
    def scopes(self) -> tuple[str, ...]:
        """Return every scope: everyone's, the groups', the subsystems' own."""
        return tuple(self._all)

    def foresee(self, subsystem: str, now: float) -> Refused | None:
        """See, from nothing but who asks, that no turn of any size fits: no body need be read for that."""
        for scope in self._scopes[subsystem]:
            if not scope.fits(1, 0, now):
                refused = scope.overrun or scope.crowded(now) or scope.tokens.refuses(1, now)
                if refused is not None:
                    return refused
        return self._carves.refuses(subsystem, 0, now) if subsystem in self._parent_of else None

    def refuses(self, subsystem: str, tokens: int, now: float, microusd: int = 0) -> Refused | None:
        """Say which limit a reservation of this size would cross; None if it would be made."""
        for scope in self._scopes[subsystem]:
            if scope.fits(tokens, microusd, now):
                continue
            refused = scope.refuses(tokens, microusd, now)
            if refused is not None:
                return refused
        return self._carves.refuses(subsystem, microusd, now) if subsystem in self._parent_of else None

    def rooms(self, subsystem: str, now: float, *, queued: bool = False) -> list[Room]:
        """Return the rest of each limited scope of a subsystem; `queued` if the turn in question waits already."""
        rooms = []
        for scope in self._scopes[subsystem]:
            if not scope.limited:
                continue
            tokens, microusd = scope.tokens.left(now), scope.money.left(now)
            if tokens is not None or microusd is not None:
                others = scope.in_flight + scope.waiting - queued
                rooms.append(Room(scope.name, tokens, microusd, scope.parallel.expected(others)))
        return rooms

    def limits_tokens(self, subsystem: str) -> bool:
        """Say whether any limit in tokens or money applies to the subsystem: then its budget is a hard one."""
        return self._asked[subsystem].limits_tokens

    def scopes_of(self, subsystem: str) -> tuple[str, ...]:
        """Return the scopes that a turn of the subsystem counts in."""
        return self._asked[subsystem].scopes

    def wait(self, subsystem: str, *, by: int) -> None:
        """Count turns that wait for room, or no longer do."""
        for scope in self._scopes.get(subsystem, ()):
            scope.waiting += by

    def under_way(self, scope: str) -> bool:
        """Say whether turns are in flight in a scope, whose end may give something back."""
        known = self._all.get(scope)
        return known is not None and known.in_flight > 0

    def largest(self, subsystem: str) -> Refused | None:
        """Return the smallest applicable limit of tokens, as the refusal of a larger request; None if there is none."""
        meter = self._asked[subsystem].largest
        return None if meter is None else meter.smallest

    def largest_limit(self, subsystem: str) -> int | None:
        """Return the smallest limit of tokens that applies; None if there is none."""
        meter = self._asked[subsystem].largest
        return None if meter is None else meter.smallest_limit

    def places(self, subsystem: str) -> int:
        """Return how many turns the subsystem may have in flight by its own budget; 0: no cap of its own."""
        return self._asked[subsystem].places

    def reserve(self, subsystem: str, tokens: int, now: float, microusd: int = 0) -> Reservation | Refused:
        """Hold both amounts in every scope, or say which limit they would cross.

        Raises BudgetError for an unknown subsystem.
        """
        if tokens < 0 or microusd < 0:
            raise BudgetError(f"{subsystem}: cannot reserve {tokens} tokens and {microusd} micro-USD")
        refused = self.refuses(subsystem, tokens, now, microusd)
        if refused is not None:
            return refused
        for scope in self._scopes[subsystem]:
            scope.hold(tokens, microusd, now)
        if subsystem in self._carves:
            self._carves.began(subsystem, now)
        for noted in self._noting:
            noted.append(NotedSpend(subsystem, 0, 0, 1, now))
        self._number += 1
        reservation = Reservation(self._number, subsystem, tokens, microusd)
        self._open[reservation.number] = reservation
        return reservation

    def settle(
        self, reservation: Reservation, tokens: int, now: float, microusd: int = 0, *, learnt: bool = False
    ) -> int:
        """Replace the reservation by the spent amount, all of it; return by how many tokens that exceeds it.

        A spend above its reservation, in either amount, means that the bound is wrong for this upstream: the subsystem
        is refused from here on, until `forget`; not so if the missing part of the bound is `learnt`, and reserved from
        here on. Raises BudgetError if the reservation is not open.
        """
        if tokens < 0 or microusd < 0 or self._open.pop(reservation.number, None) is None:
            raise BudgetError(f"{reservation} cannot be settled with {tokens} tokens: settled before?")
        scopes = self._known_scopes(reservation.subsystem)
        held, spent = (reservation.tokens, reservation.microusd), (tokens, microusd)
        for scope in scopes:
            scope.settle(held, spent, now)
        if reservation.subsystem in self._carves:
            self._carves.settled(reservation.subsystem, held, spent, now)
        for noted in self._noting:
            noted.append(NotedSpend(reservation.subsystem, tokens, microusd, 0, now))
        if not learnt and reservation.is_exceeded(tokens, microusd):
            scopes[0].overrun = Refused(
                reservation.subsystem, OVERRUN, reservation.tokens, tokens, 0, 0.0, True
            )
        return max(0, tokens - reservation.tokens)

    def in_flight(self, scope: str) -> int:
        """Return how many turns of a scope are not settled. Raises BudgetError."""
        return self._known(scope).in_flight

    def overrun(self, subsystem: str) -> Refused | None:
        """Return the spend that went above its reservation, if one did."""
        return self._scopes[subsystem][0].overrun

    def forget(self, subsystem: str) -> None:
        """Let a subsystem go on that was refused for an overrun: someone has looked. Its spending stays."""
        if self.covers(subsystem):
            self._scopes[subsystem][0].overrun = None

    def restore(self, spends: Iterable[Spend], now: float) -> None:
        """Count the amounts spent before a restart, each at its age."""
        for spend in spends:
            at = now - spend.age_seconds
            for scope in self._counted_for(spend.subsystem):
                scope.tokens.spend(spend.tokens, at, now)
                scope.money.spend(spend.microusd, at, now)
                scope.requests.spend(spend.requests, at, now)

    @contextmanager
    def noting(self) -> Iterator[list[NotedSpend]]:
        """Note the spending meanwhile: a reader of the ledger from before a change does not see it."""
        noted: list[NotedSpend] = []
        self._noting.append(noted)
        try:
            yield noted
        finally:
            self._noting = [each for each in self._noting if each is not noted]

    def restore_fresh(self, spends: Iterable[Spend], now: float) -> None:
        """Count the amounts spent before a change, in the windows that the change has given a limit."""
        for spend in spends:
            at = now - spend.age_seconds
            for scope in self._counted_for(spend.subsystem):
                scope.tokens.spent_before(spend.tokens, at, now)
                scope.money.spent_before(spend.microusd, at, now)
                scope.requests.spent_before(spend.requests, at, now)
        self._told()

    def _counted_for(self, subsystem: str) -> tuple[Scope, ...]:
        """The scopes that a spend counts in; of a subsystem that is configured no more, the shared ones."""
        scopes, parent = self._scopes.get(subsystem), self._parent_of.get(subsystem)
        if parent is not None:
            return (*(scopes or ()), *self._counted_for(parent))
        if scopes is not None:
            return scopes
        group = self._all.get(GROUP_PREFIX + self._group_of.get(subsystem, ""))
        return self._everyone if group is None else (group, *self._everyone)

    def _told(self) -> None:
        for scope in self._all.values():
            scope.told()

    def snapshot(self, scope: str, now: float) -> dict[str, Usage]:
        """Report a scope's limits by name, and the amount spent or reserved against each."""
        return self._known(scope).usage(now)

    def _known(self, scope: str) -> Scope:
        known = self._all.get(scope)
        if known is None:
            raise BudgetError(_NO_BUDGET.format(scope))
        return known
