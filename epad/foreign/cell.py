"""Start a foreign server in a cell: its own workspace, the variables and hosts that are named for it, nothing else.

The policy is that of `profile = "workspace"` of a subsystem that is not there otherwise, called as the server's
category of tools is, `tools-NAME`. So its log, its connections and its holds have that name too.
"""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from msgspec import structs

from epad.configuration.confine_schema import ConfineConfig
from epad.configuration.directories import Directories
from epad.configuration.schema import Config, SubsystemConfig
from epad.configuration.servers_schema import ServerConfig
from epad.configuration.sizes import size_bytes
from epad.confinement.cell_parts import CellOrder, Planner
from epad.confinement.doors import ADDRESSES, DoorKind, url_of
from epad.confinement.policies import Policies
from epad.confinement.policy import Policy
from epad.confinement.spawner import Spawner
from epad.confinement.tool_doors import server_door
from epad.confinement.user import find_user
from epad.tools.worker_doors import WorkerDoors
from runners.cell.plan import CellPlan, Door
from statemachine.tool_targets import category_target

MOST_PROCESSES: Final = 512
"""Processes and threads: Node has a dozen threads, and some servers start a browser."""


@dataclass(frozen=True, slots=True)
class Started:
    """A server's process: the ends of its pipes, the walls it has to do without, and what closes its door."""

    pid: int
    pipes: tuple[int, int]
    missing: Mapping[str, str]
    ended: Callable[[], None]


@dataclass(frozen=True, slots=True)
class ServerCells:
    """Starts servers. `config` returns the configuration in force, `output` where a log is written.

    `secret` returns a text of a server with its placeholders filled in.
    """

    config: Callable[[], Config]
    directories: Directories
    policies: Policies
    planner: Planner
    spawner: Spawner
    doors: WorkerDoors
    output: Callable[[str], Path]
    secret: Callable[[str, str], Awaitable[str]]

    async def start(self, name: str) -> Started:
        """Start a server's process. Raises EpadError, OSError."""
        config = with_servers(self.config())
        server, subsystem = config.tools.servers[name], category_target(name)
        self._make_places(subsystem, server)
        policy = self.policies.of(subsystem, config)
        has_network = bool(server.hosts) and await self.planner.has_network(subsystem)
        doors = (Door(*ADDRESSES[DoorKind.WAY_OUT]),) if has_network else ()
        environment = await self._environment(name, policy, is_out=has_network)
        order = CellOrder(policy, server.command, environment, Path(policy.directory), doors)
        plan = _limited(await self.planner.plan(order), server)
        # A name that is not there yet would get a placeholder, which a server's own tools then stumble over.
        protect = tuple(filter(os.path.exists, plan.tree.protect))
        plan = replace(plan, name=subsystem, tree=replace(plan.tree, protect=protect))
        return await self._spawned(name, plan)

    async def _spawned(self, name: str, plan: CellPlan) -> Started:
        theirs_in, ours_in = os.pipe2(os.O_CLOEXEC)
        ours_out, theirs_out = os.pipe2(os.O_CLOEXEC)
        errors = _open_log(self.output(plan.name))
        try:
            made = await self.spawner.spawn(plan, theirs_in, theirs_out, errors)
        except BaseException:
            _close((ours_in, ours_out))
            raise
        finally:
            _close((theirs_in, theirs_out, errors))
        ended: Callable[[], None] = _nothing
        if made.doors:
            ended = await self.doors.open(server_door(name), made.doors[0], ended)
        return Started(made.pid, (ours_in, ours_out), made.missing, ended)

    def _make_places(self, subsystem: str, server: ServerConfig) -> None:
        own = self.directories.work(subsystem)
        own.mkdir(mode=0o700, parents=True, exist_ok=True)
        if (user := find_user(server.user)) is not None:
            os.chown(own, user.uid, user.gid)

    async def _environment(self, name: str, policy: Policy, *, is_out: bool) -> dict[str, str]:
        environ, variables = self.policies.environ, self.config().tools.servers[name].environment
        url = url_of(DoorKind.WAY_OUT)
        proxies = {
            **dict.fromkeys(
                ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy"), url
            ),
            **dict.fromkeys(("NO_PROXY", "no_proxy"), "127.0.0.1,localhost"),
            "NODE_USE_ENV_PROXY": "1",  # without it Node's own clients read none of these
        }
        return {
            "PATH": environ.get("PATH", os.defpath),
            "HOME": str(self.directories.work(policy.subsystem)),
            "LANG": "C.UTF-8",
            **(proxies if is_out else {}),
            **{key: await self.secret(name, value) for key, value in variables.items()},
        }


def with_servers(config: Config) -> Config:
    """Return the configuration in which each server that is a child is a subsystem, to be confined as one."""
    servers = {
        category_target(name): _as_subsystem(server)
        for name, server in config.tools.servers.items()
        if server.command
    }
    return structs.replace(config, subsystems={**config.subsystems, **servers})


def server_policies(policies: Policies, config: Config) -> dict[str, Policy]:
    """Return the policy of each server that is a child: a reload that widens one needs a reason."""
    whole = with_servers(config)
    if not config.tools.enabled:
        return {}
    names = [category_target(name) for name, server in config.tools.servers.items() if server.command]
    return {name: policies.of(name, whole) for name in names}


def _as_subsystem(server: ServerConfig) -> SubsystemConfig:
    return SubsystemConfig(
        command=server.command,
        working_directory=server.workspace,
        gateway=False,
        user=server.user,
        environment={"HOME": server.environment["HOME"]} if "HOME" in server.environment else {},
        confine=ConfineConfig(
            profile="workspace",
            workspace=server.workspace,
            read=server.read,
            hosts=server.hosts,
            require=server.require,
        ),
    )


def _limited(plan: CellPlan, server: ServerConfig) -> CellPlan:
    """Return the plan with a server's own limits. Not of its address space: V8 reserves far more than it uses."""
    limits = dict(plan.limits)
    if "NPROC" in limits:
        limits["NPROC"] = MOST_PROCESSES
    if most := size_bytes(server.memory_max):
        limits["DATA"] = most
    return replace(plan, limits=tuple(limits.items()))


def _open_log(path: Path) -> int:
    """Open the pipe of a log, which the log pump reads; nothing where there is none. Raises OSError."""
    with suppress(OSError):
        file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOFOLLOW)
        os.set_blocking(file, True)
        return file
    return os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC)


def _close(descriptors: Iterable[int]) -> None:
    for descriptor in descriptors:
        os.close(descriptor)


def _nothing() -> None:
    """Be called at the end of a server that has no door."""
