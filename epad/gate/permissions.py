"""Decide if a caller may do an operation, by a table in code. There is no way around it and no flag that opens it."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType

# What the kernel reports for a peer from a user namespace in which its uid has no name here
# (/proc/sys/kernel/overflowuid). It may be anyone, so it is no one.
UNMAPPED_UID = 65_534


class Tier(StrEnum):
    """Names the kind of a caller. It comes from the peer's credentials or the subsystem's key, and never changes."""

    OPERATOR = "operator"
    OBSERVER = "observer"
    SUBSYSTEM = "subsystem"
    STRANGER = "stranger"


class Operation(StrEnum):
    """Lists the daemon's operations."""

    STATUS_READ = "status_read"
    EVENTS_READ = "events_read"
    EXPLAIN_READ = "explain_read"
    METRICS_READ = "metrics_read"
    LEDGER_READ = "ledger_read"
    LOGS_READ = "logs_read"
    QUARANTINE = "quarantine"
    RELEASE = "release"
    PAUSE = "pause"
    RESUME = "resume"
    RESTART = "restart"
    STOP = "stop"
    RELOAD = "reload"
    UPGRADE = "upgrade"
    FORCE_PHASE = "force_phase"
    LIFEBOAT = "lifeboat"
    RELAUNCH = "relaunch"
    CHECKPOINT = "checkpoint"
    ROTATE_KEY = "rotate_key"
    REVOKE_KEY = "revoke_key"
    ACCEPT_DATASTORE = "accept_datastore"
    ACCEPT_LOSS = "accept_loss"
    SET_BUDGET = "set_budget"
    MODEL_CALL = "model_call"


@dataclass(frozen=True, slots=True)
class Decision:
    """Holds the gate's answer, and the sentence with its reason."""

    allowed: bool
    reason: str


READS = frozenset(
    {
        Operation.STATUS_READ,
        Operation.EVENTS_READ,
        Operation.EXPLAIN_READ,
        Operation.METRICS_READ,
        Operation.LEDGER_READ,
    }
)
# What a workload prints may hold its prompts and its secrets: not for every local user.
CONFIDENTIAL = frozenset({Operation.LOGS_READ})
ORDERS = frozenset(
    {
        Operation.QUARANTINE,
        Operation.RELEASE,
        Operation.PAUSE,
        Operation.RESUME,
        Operation.RESTART,
        Operation.STOP,
        Operation.RELOAD,
        Operation.UPGRADE,
        Operation.FORCE_PHASE,
        Operation.LIFEBOAT,
        Operation.RELAUNCH,
        Operation.CHECKPOINT,
        Operation.ROTATE_KEY,
        Operation.REVOKE_KEY,
        Operation.ACCEPT_DATASTORE,
        Operation.ACCEPT_LOSS,
        Operation.SET_BUDGET,
    }
)

# A model call is charged to a subsystem, so not even an operator makes one: there is no one to charge.
_PERMITTED: Mapping[Tier, frozenset[Operation]] = MappingProxyType(
    {
        Tier.OPERATOR: READS | CONFIDENTIAL | ORDERS,
        Tier.OBSERVER: READS,
        Tier.SUBSYSTEM: frozenset({Operation.MODEL_CALL}),
        Tier.STRANGER: frozenset(),
    }
)


def allow(tier: Tier, operation: Operation) -> Decision:
    """Decide whether `tier` may do `operation`."""
    if operation in _PERMITTED[tier]:
        return Decision(True, f"{tier} may {operation}")
    return Decision(False, f"{tier} may not {operation}: {_needed(operation)}")


def _needed(operation: Operation) -> str:
    if operation is Operation.MODEL_CALL:
        return "a model call needs the key of the subsystem it is charged to"
    if operation in ORDERS | CONFIDENTIAL:
        return "it takes root, the daemon's own user, or a member of control.operator_group"
    return "it takes a local user known to this machine"


def tier_of_peer(uid: int, gids: Collection[int], own_uid: int, operator_gid: int | None) -> Tier:
    """Say who is at the other end of a Unix socket, by the credentials the kernel vouches for.

    `operator_gid` is None when no operator group is configured.
    """
    if uid in {0, own_uid}:
        return Tier.OPERATOR
    if uid < 0 or uid == UNMAPPED_UID:
        return Tier.STRANGER
    if operator_gid is not None and operator_gid in gids:
        return Tier.OPERATOR
    return Tier.OBSERVER
