"""`[agents.NAME]`: the templates of agents that a running agent may ask for, and their faults."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, Final

from msgspec import Meta, Struct

from epad.configuration.complaint import Complaint
from epad.configuration.confine_schema import ConfineConfig
from epad.configuration.sizes import Size
from epad.configuration.toml_lines import KeyPath
from epad.configuration.value_types import Dollars, Limit
from epad.gate.tiers import TierName
from statemachine.value_types import Count, Name, Seconds

PLACEHOLDER: Final = re.compile(r"\{([a-z][a-z0-9_-]{0,31})\}")
SPAWNED: Final = re.compile(r"([a-z][a-z0-9_-]*)-[0-9]+")
"""The names of spawned agents: the template's, and a number."""
MOST_NAME_CHARACTERS: Final = 24
"""Of a template, so that a number has room behind it."""
_SHELLS: Final = frozenset({"sh", "bash", "dash", "zsh", "ksh", "fish"})
_SCRIPT_FLAG: Final = re.compile(r"-[A-Za-z]*[ceE]|--(?:command|eval|execute)")
_OWN_VARIABLES: Final = ("EPAD_", "OPENAI_", "ANTHROPIC_", "OLLAMA_")


class AgentBudgetConfig(Struct, frozen=True, forbid_unknown_fields=True):
    """Sets the most that one agent is given out of its parent's budget, and what it gets where it asks for nothing."""

    tokens: Annotated[int, Meta(ge=1, le=2**53)] = 100_000
    usd: Dollars = 0.0
    tokens_per_minute: Limit = 0
    requests_per_minute: Limit = 0
    max_in_flight: Count = 4


class ParameterConfig(Struct, frozen=True, forbid_unknown_fields=True):
    """Sets what may stand in the place of `{NAME}` in the command: a text of a pattern, one of some, or a number."""

    pattern: str = ""
    choices: tuple[str, ...] = ()
    least: int | None = None
    most: int | None = None
    max_characters: Annotated[int, Meta(ge=1, le=4_096)] = 200


class AgentConfig(Struct, frozen=True, forbid_unknown_fields=True):
    """A template of agents. docs/agents.md explains it.

    Without `confine` an agent has its parent's cell, without `tools` its parent's tools.
    """

    command: Annotated[tuple[str, ...], Meta(min_length=1)]
    parents: Annotated[tuple[Name, ...], Meta(min_length=1)]
    tier: TierName = "reader"
    parameters: dict[Name, ParameterConfig] = {}
    environment: dict[str, str] = {}
    budget: AgentBudgetConfig = AgentBudgetConfig()
    confine: ConfineConfig | None = None
    tools: tuple[str, ...] | None = None
    timeout_seconds: Seconds = 3_600.0
    memory_max: Size = 0
    stop_seconds: Seconds = 10.0


def check_agents(
    agents: Mapping[str, AgentConfig], subsystems: Mapping[str, object], *, tools_enabled: bool
) -> Iterator[Complaint]:
    """Yield every fault of the templates, and of subsystems whose names are those of spawned agents."""
    for name, agent in agents.items():
        path: KeyPath = ("agents", name)
        if not tools_enabled:
            text = "is set, but tools.enabled is false, and sessions with it; enable it, or take this out"
            yield Complaint(path, text, (("tools", "enabled"),))
        if len(name) > MOST_NAME_CHARACTERS or SPAWNED.fullmatch(name):
            text = f"may not be called {name}: give at most {MOST_NAME_CHARACTERS} characters, and no number behind a -"
            yield Complaint(path, text)
        if name in subsystems:
            yield Complaint(path, f"has the name of a subsystem, {name}; rename one of them")
        yield from _check_parents(path, agent, agents, subsystems)
        yield from _check_command(path, agent)
        for variable in agent.environment:
            if variable.startswith(_OWN_VARIABLES):
                text = "is a variable that epad gives each agent itself; take it out"
                yield Complaint((*path, "environment", variable), text)
    for name in subsystems:
        match = SPAWNED.fullmatch(name)
        if match is not None and match[1] in agents:
            text = f"may not be called {name}: agents of [agents.{match[1]}] are; rename it"
            yield Complaint(("subsystems", name), text)


def _check_parents(
    path: KeyPath, agent: AgentConfig, agents: Mapping[str, AgentConfig], subsystems: Mapping[str, object]
) -> Iterator[Complaint]:
    for parent in agent.parents:
        if parent not in subsystems and parent not in agents:
            known = ", ".join([*subsystems, *agents]) or "none"
            text = f"names {parent}, which is no subsystem and no template; there are: {known}"
            yield Complaint((*path, "parents"), text)


def _check_command(path: KeyPath, agent: AgentConfig) -> Iterator[Complaint]:
    """A parameter is data: it names no program, stands in no script, and cannot be anything at all."""
    key, used = (*path, "command"), set[str]()
    for place, word in enumerate(agent.command):
        named = PLACEHOLDER.findall(word)
        used |= set(named)
        if named and place == 0:
            yield Complaint(key, f"begins with {word}: a parameter names no program; write the program out")
        elif named and _is_script(agent.command, place):
            text = f"has {word} in a script, where a parameter would be run; pass it as an argument behind the script"
            yield Complaint(key, text)
        for name in named:
            if name not in agent.parameters:
                text = f"has {{{name}}}, which is no parameter; add [{'.'.join(map(str, path))}.parameters.{name}]"
                yield Complaint(key, text)
    for name, parameter in agent.parameters.items():
        where = (*path, "parameters", name)
        if name not in used:
            yield Complaint(where, f"is not used; write {{{name}}} in the command, or take it out")
        yield from _check_parameter(where, parameter)


def _is_script(command: Sequence[str], place: int) -> bool:
    """Tell if a word is what an interpreter runs: right behind a flag such as `-c`, or a shell's first word."""
    by_shell = command[0].rpartition("/")[2] in _SHELLS
    return _SCRIPT_FLAG.fullmatch(command[place - 1]) is not None or (by_shell and place == 1)


def _check_parameter(path: KeyPath, parameter: ParameterConfig) -> Iterator[Complaint]:
    is_number = parameter.least is not None or parameter.most is not None
    if sum((bool(parameter.pattern), bool(parameter.choices), is_number)) != 1:
        yield Complaint(path, "needs one of pattern, choices, or least and most: what it may be")
        return
    if is_number and (parameter.least is None or parameter.most is None or parameter.least > parameter.most):
        yield Complaint(path, "needs least and most, the first not above the second")
    if parameter.pattern:
        try:
            re.compile(parameter.pattern)
        except re.error as error:
            text = f"is {parameter.pattern!r}, which is no regular expression: {error}; correct it"
            yield Complaint((*path, "pattern"), text)
