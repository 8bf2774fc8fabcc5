"""Keep the amounts that spawned agents have been given out of their parents' budgets.

A carved amount is reserved in every budget of the parent for as long as the agent lives, as the worst case of one long
turn would be. What the agent spends leaves that reservation and counts as spent, at its own time, in the agent's budget
and in all of the parent's. So the parent's limits hold for both together, and nothing is ever counted twice:

    reserved in the parent for an agent = carved - spent by the agent and by those that it has spawned

| the agent | reserved in the parent |
|---|---|
| is given an amount | all of it |
| reserves a turn | as before: it is within the amount |
| settles a turn | less by what was spent |
| ends | the turns that are in flight still; each gives back its own reservation when it is settled |

The amount given back at an end follows from the sums and is never a deed by itself: a daemon that comes back works it
out anew from what the ledger says was spent. Pure and synchronous, as `budget.py` is, whose part this is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from msgspec import structs

from epad.configuration.schema import BudgetConfig
from epad.gateway.errors import BudgetError
from epad.gateway.limits import ENDED, Refused, Scope
from epad.gateway.money import MICROUSD

Amounts = tuple[int, int]
"""Tokens and micro-USD."""


@dataclass(frozen=True, slots=True)
class Carved:
    """Names an agent's amount: whose budget it is out of, and how much. 0 micro-USD: none was given."""

    parent: str
    tokens: int
    microusd: int = 0


@dataclass(slots=True)
class _Carve:
    carved: Carved
    left_tokens: int
    left_microusd: int
    is_over: bool = False

    def take(self, tokens: int, microusd: int) -> Amounts:
        """Take from what is left, as much as there is."""
        taken = min(tokens, self.left_tokens), min(microusd, self.left_microusd)
        self.left_tokens -= taken[0]
        self.left_microusd -= taken[1]
        return taken


class Carves:
    """Holds the amount of each living agent.

    `scopes_of` returns a subsystem's own scope first; then its group's and everyone's, unless it is an agent itself.
    """

    def __init__(self, scopes_of: Callable[[str], tuple[Scope, ...]]) -> None:
        self._scopes_of = scopes_of
        self._by_agent: dict[str, _Carve] = {}

    def __contains__(self, name: str) -> bool:
        return name in self._by_agent

    def carved(self, name: str) -> Carved | None:
        """Return an agent's amount; None for a subsystem of the configuration."""
        known = self._by_agent.get(name)
        return None if known is None else known.carved

    def is_over(self, name: str) -> bool:
        """Tell if an agent, or one above it, has ended: it spends nothing more."""
        while (carve := self._by_agent.get(name)) is not None:
            if carve.is_over:
                return True
            name = carve.carved.parent
        return False

    def refuses(self, agent: str, microusd: int, now: float) -> Refused | None:
        """Say what keeps an agent from a turn beside its own budget; above it nothing more is to be reserved.

        An agent that was given no money spends none where its parent has a limit in money, as of a reload since.
        """
        carve = self._by_agent.get(agent)
        if carve is None or self.is_over(agent):
            return Refused(agent, ENDED, 0, 0, 0, 0.0, True)
        for scope in self.above(agent):
            if microusd and not carve.carved.microusd and scope.money.limited:
                return scope.money.smallest
            if not scope.fits(0, 0, now):
                refused = scope.refuses(0, 0, now)
                if refused is not None:
                    return refused
        return None

    def above(self, name: str) -> Iterator[Scope]:
        """Yield the scopes that an agent's turns count in, beside its own."""
        carve = self._by_agent.get(name)
        while carve is not None:
            yield from self._scopes_of(carve.carved.parent)
            carve = self._by_agent.get(carve.carved.parent)

    def limits(self, carved: Carved) -> BudgetConfig:
        """Return the limits of an amount."""
        return BudgetConfig(
            tokens_in_all=carved.tokens, usd_in_all=carved.microusd / MICROUSD, max_in_flight=0
        )

    def limited(self, agent: str, limits: BudgetConfig) -> BudgetConfig:
        """Return an agent's limits, with its amount in them: nobody gives it more than was taken from its parent."""
        carve = self._by_agent.get(agent)
        if carve is None:
            return limits
        amount = self.limits(carve.carved)
        return structs.replace(limits, tokens_in_all=amount.tokens_in_all, usd_in_all=amount.usd_in_all)

    def refuses_amount(
        self, agent: str, carved: Carved, parents: Iterable[Scope], now: float
    ) -> Refused | None:
        """Say which limit of its parent the amount of a new agent would cross."""
        if self.is_over(carved.parent):
            return Refused(carved.parent, ENDED, 0, 0, 0, 0.0, True)
        if agent in self._by_agent or carved.tokens <= 0 or carved.microusd < 0:
            raise BudgetError(
                f"{agent} cannot be given {carved.tokens} tokens and {carved.microusd} micro-USD"
            )
        for scope in parents:
            refused = scope.too_much(carved.tokens, carved.microusd, now)
            if refused is not None:
                return refused
        return None

    def reserve_rest(self, agent: str, carved: Carved, now: float) -> None:
        """Reserve what is left of an agent's amount, in a daemon that comes back; nothing is asked."""
        usage = self._scopes_of(agent)[0].usage(now)
        spent = [usage[limit].used if limit in usage else 0 for limit in ("tokens_in_all", "microusd_in_all")]
        self.reserve(agent, carved, (max(0, carved.tokens - spent[0]), max(0, carved.microusd - spent[1])))

    def reserve(self, agent: str, carved: Carved, left: Amounts | None = None) -> None:
        """Reserve an amount, or what is left of it, in every scope of the parent."""
        tokens, microusd = left or (carved.tokens, carved.microusd)
        self._by_agent[agent] = _Carve(carved, tokens, microusd)
        for scope in self._scopes_of(carved.parent):
            scope.tokens.reserved += tokens
            scope.money.reserved += microusd

    def began(self, agent: str, now: float) -> None:
        """Count a turn of an agent in flight above it; its amounts are reserved there already."""
        for scope in self.above(agent):
            scope.hold(0, 0, now)

    def settled(self, agent: str, held: Amounts, spent: Amounts, now: float) -> None:
        """Count what an agent's turn has spent above it; its own scope has settled the turn."""
        name, freed = agent, held
        while (carve := self._by_agent.get(name)) is not None:
            freed = carve.take(*(freed if carve.is_over else spent))
            for scope in self._scopes_of(carve.carved.parent):
                scope.settle(freed, spent, now)
            self._forget_if_over(name, carve)
            name = carve.carved.parent

    def end(self, agent: str) -> None:
        """Give back what an agent has not spent; its turns in flight keep their reservations until they are settled.

        Done once: an agent that has ended has nothing to give.
        """
        carve = self._by_agent.get(agent)
        if carve is None or carve.is_over:
            return
        carve.is_over = True
        own = self._scopes_of(agent)[0]
        kept = own.tokens.reserved, own.money.reserved
        back = carve.take(max(0, carve.left_tokens - kept[0]), max(0, carve.left_microusd - kept[1]))
        self._free(carve.carved.parent, back)
        self._forget_if_over(agent, carve)

    def _free(self, parent: str, amounts: Amounts) -> None:
        """Take an amount out of a parent's reservations: it is the parent's again, or its parent's if it has ended."""
        for scope in self._scopes_of(parent):
            scope.tokens.reserved -= amounts[0]
            scope.money.reserved -= amounts[1]
        carve = self._by_agent.get(parent)
        if carve is not None and carve.is_over:
            self._free(carve.carved.parent, carve.take(*amounts))
            self._forget_if_over(parent, carve)

    def _forget_if_over(self, agent: str, carve: _Carve) -> None:
        """Forget an agent that has ended, once its last turn is settled."""
        own = self._scopes_of(agent)[0]
        if not carve.is_over or own.in_flight or own.tokens.reserved or own.money.reserved:
            return
        if (
            carve.left_tokens or carve.left_microusd
        ):  # a turn cost more than its reservation, and none is left open
            self._free(carve.carved.parent, carve.take(carve.left_tokens, carve.left_microusd))
        self._by_agent.pop(agent, None)
