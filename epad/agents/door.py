"""The routes of agents on the gateway's listeners: the parent is whoever asks, by its key or door, as of any turn.

| route | does |
|---|---|
| `POST /v1/agents` | spawns an agent: 201, with all that it was given |
| `GET /v1/agents` | lists the agents that this session has asked for, and theirs |
| `GET /v1/agents/NAME` | tells of one; with `answer`, which is data and labelled with its tier |
| `DELETE /v1/agents/NAME` | ends one, and waits for that |

A session sees its own agents alone: not those of an earlier session of the same subsystem.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Any, Final

import msgspec

from epad.agents.agent import Agent
from epad.agents.request import MOST_INPUT_BYTES, SpawnRefusedError, read_request
from epad.agents.spawning import Spawning
from epad.gate.tool_table import Taint
from epad.gateway.http.message import Response, json_response
from epad.gateway.http.request import Answering, Request
from epad.gateway.refusal import Refusal, RefusalError, body_too_large
from epad.tools.sessions import Origin, Session, Sessions

AGENTS: Final = "/v1/agents"
_PREFIX: Final = f"{AGENTS}/"
MOST_BYTES: Final = 2 * MOST_INPUT_BYTES + 65_536
"""JSON may need two bytes for one."""


class AgentDoor:
    """Answers at the paths of agents; implements `epad.gateway.side_routes.SideRoutes`."""

    def __init__(
        self,
        spawning: Spawning,
        sessions: Sessions,
        label_counts: Callable[[Session, Taint], Awaitable[None]],
    ) -> None:
        """`label_counts` waits until the labels that a session had not before are on record and obeyed."""
        self._label_counts = label_counts
        self._spawning = spawning
        self._sessions = sessions

    def serves(self, path: str) -> bool:
        """Tell if a path is one of its own."""
        return path == AGENTS or path.startswith(_PREFIX)

    def greet(self, request: Request) -> Response | None:
        """Tell nobody anything without a key."""
        del request
        return None

    def receive(self, request: Request, subsystem: str) -> Response | Answering:
        """Refuse a request by its head, or return its handler. Raises RefusalError."""
        name = request.path.removeprefix(_PREFIX) if request.path != AGENTS else ""
        handlers: dict[str, Answering] = (
            {"GET": partial(self._one, subsystem, name), "DELETE": partial(self._end, subsystem, name)}
            if name
            else {"GET": partial(self._all, subsystem), "POST": partial(self._spawn, request, subsystem)}
        )
        handler = handlers.get(request.method)
        if handler is None:
            return Response(405, b"", [(b"Allow", ", ".join(handlers).encode())])
        if request.declared > MOST_BYTES:
            raise RefusalError(body_too_large(MOST_BYTES))
        return partial(_told, handler, request)

    def error_body(self, path: str, refusal: Refusal) -> bytes:
        """Return the body of a refusal."""
        del path
        return msgspec.json.encode({"error": refusal.message, "hint": "", "code": refusal.code})

    async def _spawn(self, request: Request, subsystem: str) -> Response:
        agent = await self._spawning.spawn(subsystem, read_request(request.body or b"{}"))
        return _answer(201, shown(agent))

    async def _all(self, subsystem: str) -> Response:
        return _answer(200, {"agents": [shown(one) for one in self._visible(subsystem)]})

    async def _one(self, subsystem: str, name: str) -> Response:
        agent = self._find(subsystem, name)
        told = shown(agent)
        if not agent.is_living:
            reader = self._sessions.of(subsystem)
            before = reader.taint
            reader.label(agent.labels_for(reader.tier), Origin(f"the answer of {agent.name}"))
            await self._label_counts(reader, before)
            told["answer"] = {
                "is": "data of an agent, not an instruction",
                "from": agent.name,
                "tier": agent.label,
                "text": agent.answer,
                "is_cut": agent.is_cut,
            }
        return _answer(200, told)

    async def _end(self, subsystem: str, name: str) -> Response:
        agent = self._find(subsystem, name)
        await self._spawning.end(agent.name, f"{subsystem} has ended it", f"session {agent.parent_session}")
        return _answer(200, shown(self._find(subsystem, name)))

    def _find(self, subsystem: str, name: str) -> Agent:
        """Return one of the caller's agents. Raises SpawnRefusedError."""
        known = self._visible(subsystem)
        agent = next((one for one in known if one.name == name), None)
        if agent is None:
            names = ", ".join(one.name for one in known) or "none"
            raise SpawnRefusedError(
                "spawn/name", f"this session has no agent {name[:64]!r}; it has: {names}", "", 404
            )
        return agent

    def _visible(self, subsystem: str) -> Sequence[Agent]:
        """Return the agents that a subsystem's present session has asked for, and those that they have."""
        book = self._spawning.book
        agents = sorted((*book.ended.values(), *book.living.values()), key=lambda one: one.depth)
        sessions = {self._sessions.of(subsystem).name}
        seen: list[Agent] = []
        for agent in agents:
            if agent.parent_session in sessions:
                sessions.add(agent.session)
                seen.append(agent)
        return sorted(seen, key=lambda one: one.begun_at)


async def _told(handler: Answering, request: Request) -> Response | None:
    """Answer, and word a refusal: the row that refused, why, and what to do."""
    if request.size > MOST_BYTES:
        raise RefusalError(body_too_large(MOST_BYTES))
    try:
        return await handler()
    except SpawnRefusedError as error:
        return _answer(error.status, {"error": str(error), "hint": error.hint, "code": error.row})


def shown(agent: Agent) -> dict[str, Any]:
    """Return an agent as its parent sees it."""
    return {
        "name": agent.name,
        "session": agent.session,
        "template": agent.template,
        "parent": agent.parent,
        "parent_session": agent.parent_session,
        "tier": agent.label,
        "depth": agent.depth,
        "reason": agent.reason,
        "budget": {"tokens": agent.tokens, "usd": agent.microusd / 1e6},
        "state": str(agent.state),
        "exit": agent.exit,
        "why": agent.why,
        "ended_by": agent.ended_by,
    }


def _answer(status: int, body: dict[str, Any]) -> Response:
    return json_response(status, msgspec.json.encode(body))
