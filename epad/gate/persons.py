"""Know the caller of an operation: a person of the configuration, or whom the kernel names. Pure.

| `[persons]` is | the caller | acts as |
|---|---|---|
| empty | root, the daemon's own user, a member of the operator group | an owner, by the name of the user |
| empty | any other local user | an observer |
| not empty | a person, by the uid of the socket, or by what a reverse proxy vouches for | what the role says |
| not empty | anybody else, root too | an observer |
| either | a process of a supervised subsystem, whatever its uid | nobody: it is refused |
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from enum import StrEnum

from epad.gate.permissions import Tier, tier_of_peer


class Role(StrEnum):
    """Names the role of a person."""

    OBSERVER = "observer"
    OPERATOR = "operator"
    OWNER = "owner"


TIER_OF = {Role.OBSERVER: Tier.OBSERVER, Role.OPERATOR: Tier.OPERATOR, Role.OWNER: Tier.OWNER}


@dataclass(frozen=True, slots=True)
class Person:
    """Holds a person: a name, a role, and at least one way to be known."""

    name: str
    role: Role
    uid: int | None = None
    oidc: str = ""
    """The subject and the issuer, as `sub@issuer`."""
    spiffe: str = ""


@dataclass(frozen=True, slots=True)
class Caller:
    """Holds who asks: the name that orders are recorded by, the tier, and how the caller is told of in a refusal."""

    name: str
    tier: Tier
    described: str
    way_in: str = ""
    """What would let a caller in who is refused."""


def caller_by_uid(
    persons: Collection[Person],
    uid: int,
    gids: Collection[int],
    own_uid: int,
    operator_gid: int | None,
    user_name: str,
) -> Caller:
    """Return the caller whom the kernel vouches for; `user_name` is the user's name, empty for none."""
    name = user_name or f"uid {uid}"
    numbered = f"{name} (uid {uid})" if user_name else name
    if not persons:
        fix = "run it as root, or be a member of control.operator_group"
        return Caller(name, tier_of_peer(uid, gids, own_uid, operator_gid), numbered, fix)
    known = _found(person for person in persons if person.uid == uid)
    if known is not None:
        return known
    if uid < 0:
        return Caller(name, Tier.STRANGER, numbered, "ask from this machine")
    fix = f'an owner adds [persons.NAME] uid = {uid}, role = "operator", and reloads'
    return Caller(name, Tier.OBSERVER, f"{numbered}, who is no person of [persons],", fix)


def caller_by_claim(persons: Collection[Person], *, oidc: str = "", spiffe: str = "") -> Caller | None:
    """Return the person whom an issuer vouches for; None for one whom `[persons]` does not know."""
    return _found(
        person for person in persons if (oidc and person.oidc == oidc) or (spiffe and person.spiffe == spiffe)
    )


def _found(persons: Iterable[Person]) -> Caller | None:
    person = next(iter(persons), None)
    if person is None:
        return None
    fix = f"an owner gives {person.name} another role in [persons.{person.name}], and reloads"
    return Caller(person.name, TIER_OF[person.role], f"{person.name} ({person.role})", fix)
