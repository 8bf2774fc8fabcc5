"""Ask every endpoint of a run through one interface."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from runners.wargame.endpoint.breaker import Breaker
from runners.wargame.endpoint.client import ModelClient
from runners.wargame.endpoint.question import Question
from runners.wargame.endpoint.reply import Reply


class Pool:
    """The clients by the endpoints' names; the first one is asked where a question names none."""

    def __init__(self, clients: Sequence[ModelClient]) -> None:
        self.clients: Mapping[str, ModelClient] = {client.endpoint.name: client for client in clients}
        self._default = clients[0]

    def client(self, name: str) -> ModelClient:
        return self.clients[name] if name else self._default

    async def ask(self, question: Question, deadline: float) -> Reply:
        """Ask the question's own endpoint."""
        return await self.client(question.endpoint).ask(question, deadline)

    @property
    def down(self) -> list[Breaker]:
        """Return the models that are not asked now, the one that may be tried first in front."""
        return sorted((b for c in self.clients.values() for b in c.down), key=lambda b: b.retry_at)

    async def probe(self, breaker: Breaker) -> bool:
        """Ask one small question of a model that is down."""
        owner = next(client for client in self.clients.values() if breaker in client.down)
        return await owner.probe(breaker)

    async def owners(self) -> dict[str, str]:
        """Return the maker of each model, as far as the endpoints tell."""
        owners: dict[str, str] = {}
        for client in self.clients.values():
            owners |= await client.owners()
        return owners

    @property
    def in_flight(self) -> int:
        return sum(client.gate.in_flight for client in self.clients.values())

    @property
    def wanted_rounds(self) -> int:
        """Return how many rounds keep the endpoints busy: one has two calls in flight on average, one waits ready."""
        return sum(client.admission.limit for client in self.clients.values()) // 2 + 1
