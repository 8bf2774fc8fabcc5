"""Name the doors of tools' workers at the way out, and their policy: `[tools.web] hosts`, and nothing else.

A subsystem's own `confine.hosts`, secrets and approvals do not count for its tools: the list of the tools is one for
all subsystems, and the operator's. Nobody is asked for a host that is not on it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

from epad.configuration.schema import Config
from epad.confinement.policy import Policy
from runners.egress.rules import HostRule, parse
from statemachine.tool_targets import CATEGORY_PREFIX, category_target

LIST: Final = "tools.web"
"""The name by which changes of the list are told. No subsystem has it, since no such name has a dot."""
_SERVER: Final = "server"
_SEPARATOR: Final = "/"
"""No name of a subsystem has one, so that no subsystem's door can be taken for a tool's."""


def tool_door(subsystem: str, category: str) -> str:
    """Return the name of the door that the worker of one category has for one subsystem."""
    return f"{subsystem}{_SEPARATOR}tools-{category}"


def server_door(server: str) -> str:
    """Return the name of the door of a foreign server, which `[tools.servers.NAME] hosts` is the list of."""
    return f"{category_target(server)}{_SEPARATOR}{_SERVER}"


def is_tool_door(door: str) -> bool:
    """Tell if a door is that of a tool's worker."""
    return _SEPARATOR in door


def subsystem_of(door: str) -> str:
    """Return the subsystem whose connections pass a door."""
    return door.partition(_SEPARATOR)[0]


def tool_policy(door: str, config: Config) -> Policy:
    """Return the policy of a tool's door; none of a subsystem that is not configured any more has a host."""
    subsystem, _, kind = door.partition(_SEPARATOR)
    if kind == _SERVER:
        server = config.tools.servers.get(subsystem.removeprefix(CATEGORY_PREFIX))
        hosts = () if server is None or not config.tools.enabled else _rules(server.hosts)
        return Policy(door, "workspace", "", "", (), hosts=hosts)
    known = subsystem in config.subsystems and config.tools.enabled
    return Policy(door, "workspace", "", "", (), hosts=_hosts(config) if known else ())


def policies_with_tools(policies: Mapping[str, Policy], config: Config) -> Mapping[str, Policy]:
    """Return policies of subsystems, and beside them that of all tools: what widens it needs a reason too."""
    return {**policies, LIST: Policy(LIST, "workspace", "", "", (), hosts=_hosts(config))}


def _hosts(config: Config) -> tuple[HostRule, ...]:
    return _rules(config.tools.web.hosts)


def _rules(hosts: Iterable[str]) -> tuple[HostRule, ...]:
    return tuple(sorted({parse(text) for text in hosts}, key=str))
