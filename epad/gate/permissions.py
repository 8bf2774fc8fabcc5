"""Decide if a caller may do an operation, by a table in code. There is no way around it and no flag that opens it."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType
from typing import Protocol

from epad.gate.risk import Risk

# What the kernel reports for a peer whose uid has no name here (/proc/sys/kernel/overflowuid), and the uid of `nobody`.
# It may be anyone: it may look, as anyone may who reaches the socket, and no group makes it an operator.
UNMAPPED_UID = 65_534


class Tier(StrEnum):
    """Names the kind of a caller. It comes from the peer's credentials or the subsystem's key, and never changes."""

    OWNER = "owner"
    OPERATOR = "operator"
    OBSERVER = "observer"
    SUBSYSTEM = "subsystem"
    STRANGER = "stranger"


@dataclass(frozen=True, slots=True)
class Decision:
    """Holds the gate's answer, and the sentence with its reason."""

    allowed: bool
    reason: str


class Gated(Protocol):
    """The part of an operation that the gate knows; its name is its value."""

    @property
    def risk(self) -> Risk: ...


_PERMITTED: Mapping[Tier, frozenset[Risk]] = MappingProxyType(
    {
        Tier.OWNER: frozenset({Risk.READ, Risk.CONFIDENTIAL, Risk.ORDER, Risk.OWNED}),
        Tier.OPERATOR: frozenset({Risk.READ, Risk.CONFIDENTIAL, Risk.ORDER}),
        Tier.OBSERVER: frozenset({Risk.READ}),
        Tier.SUBSYSTEM: frozenset({Risk.CHARGED}),
        Tier.STRANGER: frozenset(),
    }
)
_AN_OPERATOR = (
    "it takes an operator or owner of [persons]; without any, root, the daemon's own user, or a member of "
    "control.operator_group"
)
_AN_OWNER = _AN_OPERATOR.replace("an operator or owner", "an owner")
_NEEDED: Mapping[Risk, str] = MappingProxyType(
    {
        Risk.READ: "it takes a local user known to this machine",
        Risk.CONFIDENTIAL: _AN_OPERATOR,
        Risk.ORDER: _AN_OPERATOR,
        Risk.OWNED: _AN_OWNER,
        Risk.CHARGED: "a model call needs the key of the subsystem it is charged to",
    }
)


def allow(tier: Tier, operation: Gated) -> Decision:
    """Decide whether `tier` may do `operation`."""
    if operation.risk in _PERMITTED[tier]:
        return Decision(True, f"{tier} may {operation}")
    return Decision(False, f"{tier} may not {operation}: {_NEEDED[operation.risk]}")


def tier_of_peer(uid: int, gids: Collection[int], own_uid: int, operator_gid: int | None) -> Tier:
    """Say who is at the other end of a Unix socket where there are no persons, by what the kernel vouches for.

    `operator_gid` is None when no operator group is configured.
    """
    if uid in {0, own_uid}:
        return Tier.OWNER
    if uid < 0:
        return Tier.STRANGER
    if uid != UNMAPPED_UID and operator_gid is not None and operator_gid in gids:
        return Tier.OWNER
    return Tier.OBSERVER


def as_lines(operations: Iterable[Gated]) -> Iterator[str]:
    """Yield the table of these operations as Markdown, for `epad diagram --gate`."""
    yield f"| operation | risk | {' | '.join(Tier)} |"
    yield f"|---|---|{'---|' * len(Tier)}"
    for operation in operations:
        answers = " | ".join("yes" if allow(tier, operation).allowed else "no" for tier in Tier)
        yield f"| {operation} | {operation.risk} | {answers} |"
