"""Bugs of sessions to plant: each is one line of the daemon's taken out or turned round, and must be seen."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any
from unittest import mock

from epad.agents import rules, spawning
from epad.agents.book import AgentBook
from epad.agents.consent import ConsentDesk
from epad.agents.spawning import Spawning
from epad.gate.tiers import Tier
from epad.gateway.budget import Budgets
from epad.gateway.carves import Carves
from epad.tools.sessions import Sessions
from statemachine import containment

Planting = contextlib.AbstractContextManager[Any]
_judge, _end, _begin_agent = rules.judge, Carves.end, Sessions.begin_agent


def _twice(self: Carves, agent: str) -> None:
    carved = self.carved(agent)
    _end(self, agent)
    if carved is not None:
        for scope in self._scopes_of(carved.parent):
            scope.tokens.reserved -= 1


def _without(**facts: Any) -> Callable[[rules.Situation], bool]:
    """A judge who does not see some of the facts."""
    return lambda situation: _judge(replace(situation, **facts))


def _in_full(self: Carves, agent: str, carved: Any, now: float) -> None:
    del now
    self.reserve(agent, carved)


async def _consent(self: ConsentDesk, *_: object) -> str:
    del self
    return "nobody"


def _higher(self: Sessions, agent: str, tier: Tier) -> Any:
    del tier
    return _begin_agent(self, agent, Tier.OPERATOR)


async def _adopt_all(self: AgentBook, parents: Any, processes: Any, written: Any) -> None:
    del parents, processes, written
    self.in_force.update(self.living)


BUGS: dict[str, Callable[[], Planting]] = {
    "a token is given back twice": lambda: mock.patch.object(Carves, "end", _twice),
    "nothing is given back": lambda: mock.patch.object(Carves, "end", return_value=None),
    "nothing is reserved in the parent": lambda: mock.patch.object(Carves, "reserve", return_value=None),
    "spending is not counted in the parent": lambda: mock.patch.object(Carves, "settled", return_value=None),
    "a restart forgets the amounts": lambda: mock.patch.object(Budgets, "carve_again", return_value=None),
    "a restart reserves the whole amount again": lambda: mock.patch.object(Carves, "reserve_rest", _in_full),
    "a restart forgets whose child it was": lambda: mock.patch.object(
        Budgets, "_counted_for", lambda self, name: self._scopes.get(name, ())
    ),
    "the tier is not held against the parent's": lambda: mock.patch.object(
        spawning, "judge", _without(parent_tier=Tier.OPERATOR)
    ),
    "above author nobody is asked": lambda: mock.patch.object(rules, "HIGHEST_UNASKED", Tier.OPERATOR),
    "the tier is the request's": lambda: mock.patch.object(
        spawning, "judge", _without(template_tier=Tier.OPERATOR)
    ),
    "the session has another tier": lambda: mock.patch.object(Sessions, "begin_agent", _higher),
    "nobody is asked": lambda: mock.patch.object(ConsentDesk, "ask", _consent),
    "depth is not counted": lambda: mock.patch.object(AgentBook, "depth", return_value=0),
    "children are not counted": lambda: mock.patch.object(spawning, "judge", _without(children=0)),
    "a hold of the parent does not count": lambda: mock.patch.object(
        spawning, "judge", _without(hold=containment.Hold(containment.Rung.OPEN))
    ),
    "a hold of the parent's parent does not count": lambda: mock.patch.object(
        containment, "_of_parents", return_value=[]
    ),
    "a child outlives its parent": lambda: mock.patch.object(
        Spawning, "_orphaned", lambda self, agent: self._context.house.runs(agent.name)
    ),
    "a child goes on when its parent ends": lambda: mock.patch.object(AgentBook, "children", return_value=[]),
    "an end that was begun is forgotten": lambda: mock.patch.object(AgentBook, "end_lost", _adopt_all),
}


@contextlib.contextmanager
def planted(bug: str) -> Iterator[None]:
    with BUGS[bug]():
        yield
