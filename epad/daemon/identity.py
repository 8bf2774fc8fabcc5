"""Make the parts of workload identity: who a process is, the child that signs, and the record of what it signed."""

from __future__ import annotations

import os
from pathlib import Path

import structlog

from epad.configuration.directories import Directories
from epad.configuration.identity_schema import IdentityConfig
from epad.confinement.errors import ConfinementError
from epad.confinement.user import find_user
from epad.daemon.joints import Joints
from epad.daemon.parts import Given, Identity
from epad.gateway.access import Access
from epad.identity.attestation import Attestor
from epad.identity.child import IdentityChild, IdentityContext
from epad.identity.record import IdentityRecord
from epad.identity.settings import agent_path
from epad.metrics.registry import Metrics
from epad.operations.identity_looks import IdentityLooks
from epad.storage.database import DatabaseError
from epad.storage.event_log import EventLog
from epad.supervisor.identity import ProcessTable
from statemachine.containment import Rung

_NO_UID = -1


def endpoint(config: IdentityConfig, directories: Directories) -> str:
    """Return the address of the Workload API, as subsystems are given it; empty where there is none."""
    return (config.socket or f"unix://{directories.identity_socket}") if config.enabled else ""


def shown_directory(config: IdentityConfig, directories: Directories) -> Path | None:
    """Return the directory of the socket of the Workload API, which cells show; None where there is none."""
    path = agent_path(config) or str(directories.identity_socket)
    return Path(path).parent if config.enabled else None


def make_identity(
    given: Given, joints: Joints, access: Access, events: EventLog, metrics: Metrics
) -> Identity | None:
    """Make the parts; None where `[identity] enabled` is false. Nothing is started."""
    config = given.config.identity
    if not config.enabled:
        return None

    def uid_of(name: str) -> int | None:
        spec = joints.config.subsystems.get(name)
        if spec is None:
            return _NO_UID
        try:
            user = find_user(spec.user)
        except ConfinementError:  # removed from this machine meanwhile
            return _NO_UID
        if spec.kind == "unit":
            return None  # whoever is in the unit's control group; systemd has put it there
        return os.geteuid() if user is None else user.uid

    def refusal(name: str) -> str:
        hold = access.held(name)
        return f"{name} is held: {hold.reason}" if hold.rung >= Rung.BLOCK else ""

    record = IdentityRecord(events, metrics, given.clock, given.stores.identities.accept)
    child = IdentityChild(
        IdentityContext(
            config=config,
            keys=given.directories.identity_keys,
            path=given.directories.identity_socket,
            attestor=Attestor(ProcessTable(given.boot_id), joints.workloads, uid_of, refusal),
            record=record,
            metrics=metrics,
            clock=given.clock,
            log=structlog.get_logger("epad.identity"),
        )
    )
    access.held_now = child.cut
    return Identity(child, record)


def make_identity_looks(given: Given, identity: Identity | None) -> IdentityLooks:
    """Make what shows the identities to a person."""
    config, where = given.config.identity, endpoint(given.config.identity, given.directories)
    if identity is None:
        return IdentityLooks(config, where, None, None)
    return IdentityLooks(config, where, identity.child, identity.record)


def open_identity(identity: Identity) -> None:
    """Listen for clients; without a socket there is no identity, and the log says why."""
    try:
        identity.child.open()
    except OSError as error:
        log = structlog.get_logger("epad.identity")
        log.error("identity.not_started", error=str(error), effect="no subsystem has an identity")


async def run_identity(identity: Identity) -> None:
    """Serve until cancelled."""
    try:
        await identity.record.restore()
    except DatabaseError as error:
        log = structlog.get_logger("epad.identity")
        log.error("identity.not_restored", error=str(error), effect="clients fetch their JWT-SVIDs anew")
    await identity.child.run()
