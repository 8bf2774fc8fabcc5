"""Make what spawns agents for agents: it puts them in force as a reload would, and reads what they leave."""

from __future__ import annotations

import asyncio
import os
import shutil
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Final

import structlog
from msgspec import structs

from epad.agents.agent import Agent, AgentState, Written
from epad.agents.answer import ANSWER, read_answer
from epad.agents.book import AgentBook
from epad.agents.consent import ConsentDesk
from epad.agents.context import SpawnContext
from epad.agents.door import AgentDoor
from epad.agents.spawning import Spawning
from epad.configuration.directories import Directories
from epad.configuration.schema import Config, SubsystemConfig
from epad.confinement.difference import FileWidening, widenings
from epad.confinement.policies import Policies
from epad.confinement.policy import is_below
from epad.daemon.joints import Joints
from epad.daemon.parts import Given
from epad.gate.tool_table import Taint
from epad.gateway.limits import Usage
from epad.supervisor.engine import Launch
from epad.supervisor.errors import SpawnError
from epad.supervisor.intent import Environment
from epad.supervisor.start_check import StartCheck
from epad.tools.consent import Consents
from epad.tools.session_log import Lineage, SessionLog
from epad.tools.sessions import Session, Sessions

INPUT: Final = "input"


@dataclass(frozen=True, slots=True)
class AgentHouse:
    """Puts agents in force; implements `epad.agents.spawning.House`."""

    joints: Joints
    book: AgentBook
    directories: Directories

    def spec(self, name: str) -> SubsystemConfig | None:
        return self.joints.config.subsystems.get(name)

    def runs(self, name: str) -> str:
        now = self.joints.snapshot(name)
        if now is None:
            return "it is not there"
        return "" if now.pid is not None else now.status_text or f"it is {now.state}"

    def wider(self, parent: str, child: str, spec: SubsystemConfig) -> str:
        config = self.joints.config
        if config.subsystems[parent].kind != "process":
            return ""
        policies = Policies(self.directories, os.environ)
        before = policies.of(parent, config)
        after = policies.of(child, _with(config, child, spec))
        if not before.confined:
            return ""
        if not after.confined:
            return "it would have no walls"
        own = os.path.realpath(self.directories.work(child))
        gained = [
            str(one)
            for one in widenings(before, after)
            if not (isinstance(one, FileWidening) and is_below(one.root, own))
        ]
        gained += ["ask a person about hosts"] if after.ask and not before.ask else []
        return ", ".join(gained)

    def fitted(self, name: str, parent: str, spec: SubsystemConfig) -> SubsystemConfig:
        directory = self.directories.work(name)
        variables = {
            "EPAD_AGENT": name,
            "EPAD_AGENT_PARENT": parent,
            "EPAD_AGENT_INPUT": str(directory / INPUT),
            "EPAD_AGENT_ANSWER": str(directory / ANSWER),
        }
        return structs.replace(spec, environment={**spec.environment, **variables})

    async def begin(self, agent: Agent, data: str) -> None:
        await asyncio.to_thread(self._lay_out, agent.name, data)
        self.book.in_force.add(agent.name)
        await self.joints.adopt(lambda config: _with(config, agent.name, agent.spec))

    async def end(self, name: str) -> None:
        self.book.in_force.discard(name)
        await self.joints.adopt(lambda config: _without(config, name))

    async def written(self, name: str) -> Written:
        return await asyncio.to_thread(read_answer, self.directories, name)

    async def forget(self, name: str) -> None:
        await asyncio.to_thread(self._remove, name)

    def _lay_out(self, name: str, data: str) -> None:
        """Make an agent's own directory, new, with its input."""
        directory = self.directories.work(name)
        directory.mkdir(mode=0o700, parents=True)
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        with os.fdopen(os.open(directory / INPUT, flags, 0o644), "w", errors="surrogatepass") as file:
            file.write(data)

    def _remove(self, name: str) -> None:
        shutil.rmtree(self.directories.work(name), ignore_errors=True)
        for path in self.directories.logs.glob(f"{name}.log*"):
            with suppress(OSError):
                path.unlink()


@dataclass(frozen=True, slots=True)
class AgentRecord:
    """Puts agents on record; implements `epad.agents.spawning.Record`."""

    sessions: SessionLog

    async def spawned(self, agent: Agent, parent: Session, child: Session) -> None:
        by = f"session {parent.name}"
        lineage = Lineage(
            by=f"{by}, with the consent of {agent.consent}" if agent.consent else by,
            parent=parent.name,
            reason=agent.reason,
            command_sha256=bytes.fromhex(agent.command_sha256),
            template=agent.template,
        )
        await self.sessions.spawned(parent, child, lineage)

    def ended(self, agent: Agent, by: str) -> None:
        self.sessions.ended(agent.name, by, agent.why)


def make_agents(
    given: Given,
    joints: Joints,
    sessions: Sessions,
    log: SessionLog,
    consents: Consents,
    emit: Callable[..., None],
    label_counts: Callable[[Session, Taint], Awaitable[None]],
) -> tuple[Spawning, AgentDoor]:
    """Make the part that spawns agents."""
    book = given.stores.agents
    context = SpawnContext(
        book=book,
        money=given.stores.budgets,
        sessions=sessions,
        house=AgentHouse(joints, book, given.directories),
        record=AgentRecord(log),
        consent=ConsentDesk(consents).ask,
        templates=lambda: joints.config.agents,
        hold=joints.hold_of,
        phase=joints.phase,
        clock=given.clock,
        log=structlog.get_logger("epad.agents"),
        emit=emit,
        settled=lambda: joints.gateway().gave_back(),
    )
    spawning = Spawning(context)
    return spawning, AgentDoor(spawning, sessions, label_counts)


@dataclass(frozen=True, slots=True)
class TemplateStarts:
    """Has an agent measured as what its template is, without its parameters: so a change from one to the next is told.

    Implements `epad.supervisor.start_check.StartCheck`.
    """

    book: AgentBook
    joints: Joints
    others: StartCheck

    async def check(self, subsystem: str, spec: SubsystemConfig, launch: Launch) -> None:
        agent = self.book.living.get(subsystem)
        template = None if agent is None else self.joints.config.agents.get(agent.template)
        if agent is None or template is None:
            await self.others.check(subsystem, spec, launch)
        else:
            await self.others.check(agent.template, spec, replace(launch, command=template.command))


def once(book: AgentBook, environment: Environment) -> Environment:
    """Return an environment that a second start of an agent does not get: a restart of it is its end."""

    async def of(name: str) -> Mapping[str, str]:
        agent = book.living.get(name)
        if agent is not None and agent.state is not AgentState.PREPARING:
            raise SpawnError("an agent is never started again", permanent=True, key="restart")
        return await environment(name)

    return of


def usage_of(given: Given, name: str) -> dict[str, Usage]:
    """Return the limits of an agent's budget and their use; none of one that is being prepared."""
    budgets = given.stores.budgets
    return budgets.snapshot(name, given.clock.monotonic()) if name in budgets.scopes else {}


def _with(config: Config, name: str, spec: SubsystemConfig) -> Config:
    return structs.replace(config, subsystems={**config.subsystems, name: spec})


def _without(config: Config, name: str) -> Config:
    others = {each: spec for each, spec in config.subsystems.items() if each != name}
    return structs.replace(config, subsystems=others)
