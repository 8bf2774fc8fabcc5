"""Keep the spawned agents on the disk: who lives, what each was given, and whose child it was, for ever.

An agent is written before its process is started, and its end before its amount is given back. So the daemon that
comes after a crash knows of every agent that may run.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import Final

import apsw
import msgspec
from msgspec import structs

from epad.agents.agent import Agent, AgentState, Written
from epad.configuration.schema import Config
from epad.gate.tool_table import Taint
from epad.gateway.carves import Carved
from epad.storage.database import Database, fetch

AGENT_SCHEMA = """
CREATE TABLE IF NOT EXISTS agent(
    number INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE, parent TEXT NOT NULL, living INTEGER NOT NULL,
    record BLOB) STRICT;
CREATE INDEX IF NOT EXISTS agent_living ON agent(number) WHERE living;
"""
MOST_KEPT: Final = 200
"""Ended agents whose answers are kept; of the others it is known only whose children they were."""
NO_PROCESS: Final = "it was not running any more when epad came back"
NO_PARENT: Final = "its parent is not there any more"
Reader = Callable[[str], Written]
"""Reads an agent's answer."""


class AgentBook:
    """Holds the agents. Memory is changed first, so that whoever counts them counts those being written too."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._number = 0
        self._numbers: dict[str, int] = {}
        self.living: dict[str, Agent] = {}
        self.ended: dict[str, Agent] = {}
        self.parent_of: dict[str, str] = {}
        self.in_force: set[str] = set()
        """The living agents that are subsystems now."""
        self.lost: list[Agent] = []
        """Those of the previous run that could not go on."""
        self.forgotten: list[str] = []
        """Agents of which nothing more is kept, whose files may go."""

    async def load(self) -> None:
        """Read the agents of former runs. Raises DatabaseError."""

        def work(connection: apsw.Connection) -> tuple[list[tuple[int, str, str]], list[bytes]]:
            rows = fetch(connection, "SELECT number, name, parent FROM agent ORDER BY number")
            query = "SELECT record FROM agent WHERE record IS NOT NULL ORDER BY number"
            return [(row[0], row[1], row[2]) for row in rows], [row[0] for row in fetch(connection, query)]

        rows, records = await self._database.read(work)
        self._numbers = {name: number for number, name, _ in rows}
        self._number = max(self._numbers.values(), default=0)
        self.parent_of = {name: parent for _, name, parent in rows}
        agents = [msgspec.json.decode(record, type=Agent) for record in records]
        self.living = {one.name: one for one in agents if one.is_living}
        self.ended = {one.name: one for one in agents if not one.is_living}

    async def end_lost(self, parents: Collection[str], processes: Collection[str], written: Reader) -> None:
        """End the agents of the previous run that cannot go on, before anything is started again.

        Those are all that were not running, those without a record of a process, and those whose parent is gone.
        Raises DatabaseError.
        """
        for agent in sorted(self.living.values(), key=lambda one: one.depth):
            has_parent = agent.parent in self.living or agent.parent in parents
            if agent.state is AgentState.RUNNING and agent.name in processes and has_parent:
                self.in_force.add(agent.name)
                continue
            left = written(agent.name)
            ended = structs.replace(
                agent,
                state=AgentState.ENDED,
                why=agent.why or (NO_PROCESS if has_parent else NO_PARENT),
                ended_by=agent.ended_by or "epad",
                answer=left.text,
                is_cut=left.is_cut,
                answer_taint=agent.taint
                | Taint.UNTRUSTED
                | Taint.PRIVATE,  # nobody knows what it has read since
            )
            await self.end(ended)
            self.lost.append(ended)

    def next_name(self, template: str, taken: Callable[[str], bool]) -> str:
        """Return a name that no agent has had, and no subsystem has."""
        self._number += 1
        while taken(f"{template}-{self._number}"):
            self._number += 1
        return f"{template}-{self._number}"

    def agent(self, name: str) -> Agent | None:
        """Return an agent, living or among the newest that ended."""
        return self.living.get(name) or self.ended.get(name)

    def children(self, parent: str) -> list[Agent]:
        """Return the living agents of a parent."""
        return [one for one in self.living.values() if one.parent == parent]

    def root(self, name: str) -> str:
        """Return the subsystem of the configuration that an agent comes from in the end; any other is its own."""
        while name in self.parent_of:
            name = self.parent_of[name]
        return name

    def recent(self, name: str, since: float) -> int:
        """Return how many agents the same root as this one's has had since then, in seconds of the epoch."""
        root = self.root(name)
        return sum(
            one.begun_at > since and self.root(one.name) == root
            for one in (*self.living.values(), *self.ended.values())
        )

    def depth(self, name: str) -> int:
        """Return how deep an agent is; 0 for a subsystem of the configuration."""
        agent = self.living.get(name)
        return 0 if agent is None else agent.depth

    def carved(self) -> Mapping[str, Carved]:
        """Return the amount of each living agent."""
        return {name: agent.carved for name, agent in self.living.items()}

    def applied(self, config: Config) -> Config:
        """Return a configuration with the living agents whose parents are in it."""
        subsystems = dict(config.subsystems)
        for agent in sorted(self.living.values(), key=lambda one: one.depth):
            if agent.name in self.in_force and agent.parent in subsystems:
                subsystems[agent.name] = agent.spec
        return structs.replace(config, subsystems=subsystems)

    async def begin(self, agent: Agent) -> None:
        """Add an agent that is being prepared; it counts at once. Raises DatabaseError, and then there is none."""
        number = int(agent.name.rpartition("-")[2])
        self._numbers[agent.name] = number
        self.living[agent.name], self.parent_of[agent.name] = agent, agent.parent
        try:
            await self._write(agent)
        except BaseException:
            del self.living[agent.name]
            raise

    async def started(self, name: str) -> Agent:
        """Note that an agent's process runs. Raises DatabaseError."""
        agent = structs.replace(self.living[name], state=AgentState.RUNNING)
        await self._write(agent)
        self.living[name] = agent
        return agent

    async def ending(self, name: str, why: str, by: str) -> None:
        """Note that an agent is to end, before anything is done about it. Raises DatabaseError."""
        agent = structs.replace(self.living[name], state=AgentState.ENDING, why=why, ended_by=by)
        await self._write(agent)
        self.living[name] = agent

    async def end(self, agent: Agent) -> None:
        """Note how an agent ended; only then does it live no more. Raises DatabaseError."""
        await self._write(agent)
        self.living.pop(agent.name, None)
        self.ended[agent.name] = agent
        for name in list(self.ended)[:-MOST_KEPT]:
            await self._database.write(_forgets(name))
            del self.ended[name]
            self.forgotten.append(name)

    async def _write(self, agent: Agent) -> None:
        values = (
            self._numbers[agent.name],
            agent.name,
            agent.parent,
            int(agent.is_living),
            msgspec.json.encode(agent),
        )

        def work(connection: apsw.Connection) -> None:
            connection.execute("INSERT OR REPLACE INTO agent VALUES (?, ?, ?, ?, ?)", values)

        await self._database.write(work)


def _forgets(name: str) -> Callable[[apsw.Connection], object]:
    return lambda connection: connection.execute("UPDATE agent SET record = NULL WHERE name = ?", (name,))
