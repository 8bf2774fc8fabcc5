"""Make the cells of the daemon: the parts that plan and make them on this machine, and that accept at their doors."""

from __future__ import annotations

import asyncio
import os
import socket
from dataclasses import dataclass
from pathlib import Path

import structlog

from epad.confinement.approvals import numbers_of_run
from epad.confinement.asking_program import asking_program
from epad.confinement.authorities import Authorities
from epad.confinement.cell_parts import CellsContext
from epad.confinement.cell_record import CellRecords
from epad.confinement.cells import Cells
from epad.confinement.decoys import Decoys
from epad.confinement.direct_record import DirectRecord
from epad.confinement.direct_watch import DirectWatch
from epad.confinement.doors import DoorKind
from epad.confinement.egress_record import EgressRecord
from epad.confinement.host_questions import HostQuestions
from epad.confinement.in_force import PoliciesInForce
from epad.confinement.model_servers import servers_of
from epad.confinement.planning import MachinePlanner
from epad.confinement.policies import Policies
from epad.confinement.policy import Policy
from epad.confinement.secret_files import read_secrets
from epad.confinement.tool_doors import is_tool_door, tool_policy
from epad.confinement.way_out import WayOut
from epad.confinement.way_out_context import WayOutContext
from epad.confinement.zygote import Zygote
from epad.daemon.guards import DoorLabels
from epad.daemon.identity import shown_directory
from epad.daemon.joints import Joints
from epad.daemon.parts import Given
from epad.metrics.registry import Metrics
from epad.secrets.purpose import Purpose
from epad.secrets.vault import Vault
from epad.storage.event_log import EventLog


@dataclass(frozen=True, slots=True)
class CellContents:
    """Holds the parts that make files for cells: decoys, and the authorities that their programs trust."""

    decoys: Decoys
    authorities: Authorities


class GatewayDoors:
    """The gateway as a doorkeeper of cells, which are made before it."""

    def __init__(self, joints: Joints) -> None:
        self._joints = joints

    async def open(self, subsystem: str, listening: socket.socket) -> None:
        await self._joints.gateway().cell_doors.open(subsystem, listening)

    async def close(self, subsystem: str) -> None:
        await self._joints.gateway().cell_doors.close(subsystem)


def make_policies(given: Given, joints: Joints) -> PoliciesInForce:
    """Make the part that knows each subsystem's policy as of now."""
    policies = Policies(given.directories, os.environ)

    def policy(name: str) -> Policy:
        if name not in joints.config.subsystems:  # a reload has removed it, and it is being stopped
            return Policy(name, "sealed", "", "", ())
        return policies.of(name, joints.config)

    return PoliciesInForce(policy, given.directories.cells)


def make_way_out(
    given: Given,
    joints: Joints,
    policies: PoliciesInForce,
    events: EventLog,
    metrics: Metrics,
    contents: CellContents,
    vault: Vault,
) -> WayOut:
    """Make the way out: it starts nothing before a door is opened."""
    stores, clock, labels = given.stores, given.clock, DoorLabels(joints)

    directory = os.environ.get("CREDENTIALS_DIRECTORY")
    credentials = Path(directory) if directory else None

    async def program(subsystem: str, port: int) -> str:
        pids = [one.pid for one in joints.snapshots() if one.name == subsystem and one.pid is not None]
        return await asyncio.to_thread(asking_program, pids[0], port) if pids else ""

    way_out = WayOut(
        WayOutContext(
            policies=lambda door: tool_policy(door, joints.config) if is_tool_door(door) else policies(door),
            approvals=HostQuestions(clock, stores.approved_hosts, numbers_of_run(stores.ledger.epoch)),
            record=EgressRecord(events, metrics, joints, stores.known_hosts, clock, labels.reached),
            events=events,
            metrics=metrics,
            program=program,
            secrets=lambda policy: read_secrets(policy, joints.config.secrets, credentials, vault),
            used=lambda name, subsystem, host: vault.used(name, Purpose(subsystem, host)),
            decoys=lambda: tuple(map(contents.decoys.key, joints.config.subsystems)),
            authority=contents.authorities.of,
            guards=labels.guard,
        )
    )
    vault.tell(way_out.secret_changed)
    return way_out


def make_cells(
    given: Given,
    joints: Joints,
    policies: PoliciesInForce,
    way_out: WayOut,
    events: EventLog,
    metrics: Metrics,
    contents: CellContents,
) -> Cells:
    """Make the keeper of cells: it starts nothing before a subsystem is confined."""
    zygote = Zygote()
    planner = MachinePlanner(
        zygote, lambda name: joints.config.subsystems[name].user, lambda: (joints.gateway_port(),)
    )
    record = DirectRecord(
        events,
        metrics,
        joints,
        given.clock,
        lambda: servers_of(joints.config.upstreams, joints.gateway_port()),
    )
    return Cells(
        CellsContext(
            policies=policies,
            planner=planner,
            spawner=zygote,
            records=CellRecords(given.directories.cells),
            keepers={DoorKind.GATEWAY: GatewayDoors(joints), DoorKind.WAY_OUT: way_out},
            watcher=DirectWatch(record),
            events=events,
            clock=given.clock,
            log=structlog.get_logger("epad.cells"),
            decoys=contents.decoys,
            authorities=contents.authorities,
            identity=shown_directory(given.config.identity, given.directories),
        )
    )
