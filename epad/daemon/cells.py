"""Make the cells of the daemon: what plans and makes them on this machine, and who accepts at their doors."""

from __future__ import annotations

import os
import socket

import structlog

from epad.confinement.cell_record import CellRecords
from epad.confinement.cells import Cells, CellsContext, DoorKind
from epad.confinement.planning import MachinePlanner
from epad.confinement.policies import Policies
from epad.confinement.policy import Policy
from epad.confinement.zygote import Zygote
from epad.daemon.joints import Joints
from epad.daemon.parts import Given


class GatewayDoors:
    """The gateway as a doorkeeper of cells, which are made before it."""

    def __init__(self, joints: Joints) -> None:
        self._joints = joints

    async def open(self, subsystem: str, listening: socket.socket) -> None:
        await self._joints.gateway().cell_doors.open(subsystem, listening)

    async def close(self, subsystem: str) -> None:
        await self._joints.gateway().cell_doors.close(subsystem)


def make_cells(given: Given, joints: Joints) -> Cells:
    """Make the cells' maker: it starts nothing before a subsystem is confined."""
    zygote = Zygote()
    policies = Policies(given.directories, os.environ)

    def policy(name: str) -> Policy:
        return policies.of(name, joints.config)

    def user(name: str) -> str:
        return joints.config.subsystems[name].user

    def ports() -> tuple[int, ...]:
        return (joints.gateway_port(),)

    return Cells(
        CellsContext(
            policies=policy,
            planner=MachinePlanner(zygote, user, ports),
            spawner=zygote,
            records=CellRecords(given.directories.cells),
            keepers={DoorKind.GATEWAY: GatewayDoors(joints)},
            log=structlog.get_logger("epad.cells"),
        )
    )
