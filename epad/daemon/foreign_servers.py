"""Make the keeper of foreign MCP servers: it starts none before the tools' definitions are loaded."""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path

import structlog

from epad.configuration.servers_checks import find_secrets, hosts_of
from epad.confinement.errors import ConfinementError
from epad.confinement.planning import MachinePlanner
from epad.confinement.policies import Policies
from epad.confinement.policy import Policy, SecretRequest
from epad.confinement.secret_files import read_secrets
from epad.confinement.zygote import Zygote
from epad.daemon.joints import Joints
from epad.daemon.parts import Given
from epad.foreign.cell import ServerCells, with_servers
from epad.foreign.leftovers import Leftovers
from epad.foreign.links import Connector
from epad.foreign.pins import PinStore
from epad.foreign.records import PinRecords
from epad.foreign.server import ForeignServer, ServerContext
from epad.foreign.servers import ForeignServers
from epad.ledger.entry import TurnNames
from epad.secrets.purpose import Purpose
from epad.secrets.vault import Vault
from epad.storage.event_log import EventLog
from epad.supervisor.identity import ProcessTable
from epad.tools.worker_doors import WorkerDoors
from statemachine.tool_targets import category_target


def make_servers(
    given: Given, joints: Joints, zygote: Zygote, doors: WorkerDoors, events: EventLog, vault: Vault
) -> ForeignServers:
    """Make it."""
    log = structlog.get_logger("epad.foreign")
    planner = MachinePlanner(zygote, lambda name: with_servers(joints.config).subsystems[name].user, tuple)
    secret = make_secret(joints, vault)
    table = ProcessTable(given.boot_id)
    leftovers = Leftovers(
        given.directories.foreign / "processes.state", lambda pid: str(table.identity(pid) or "")
    )
    cells = ServerCells(
        config=lambda: joints.config,
        directories=given.directories,
        policies=Policies(given.directories, os.environ),
        planner=planner,
        spawner=zygote,
        doors=doors,
        output=joints.output,
        secret=secret,
    )
    connector = Connector(lambda name: joints.config.tools.servers[name], cells, leftovers, secret)
    records = PinRecords(given.stores.ledger, given.clock.monotonic, TurnNames())

    def make(name: str) -> ForeignServer:
        return ForeignServer(
            name,
            ServerContext(
                config=lambda: joints.config.tools.servers[name],
                connect=connector,
                pins=PinStore(given.directories.foreign),
                records=records,
                emit=events.emit,
                changed=servers.pins_changed,
                others=partial(servers.names_of_others, name),
                log=log,
            ),
        )

    servers = ForeignServers(
        configured=lambda: joints.config.tools.servers, make=make, before=leftovers.end_all
    )
    return servers


def make_secret(joints: Joints, vault: Vault) -> Callable[[str, str], Awaitable[str]]:
    """Return what fills the placeholders of a server's text in: each secret only for the hosts of that server."""
    directory = os.environ.get("CREDENTIALS_DIRECTORY")
    credentials = Path(directory) if directory else None

    async def value(server: str, name: str) -> str:
        subsystem = category_target(server)
        hosts = sorted(hosts_of(joints.config.tools.servers[server]))
        requests = frozenset(SecretRequest(name, host) for host in hosts or [""])
        wanted = Policy(subsystem, "workspace", "", "", (), secrets=requests)
        found = await read_secrets(wanted, joints.config.secrets, credentials, vault)
        if not found:
            raise ConfinementError(f"the secret {name} cannot be read", f"look at [secrets.{name}]")
        if joints.config.secrets[name].sealed:
            for host in found[0].hosts:
                vault.used(name, Purpose(subsystem, host))
        return found[0].value

    async def filled(server: str, text: str) -> str:
        for name in find_secrets(text):
            text = text.replace(f"{{{{secret:{name}}}}}", await value(server, name))
        return text

    return filled
