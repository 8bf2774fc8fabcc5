"""Who is asking: a person by what is vouched for, and nobody else where persons are named."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from epad.gate.permissions import Tier, allow
from epad.gate.persons import Caller, Person, Role, caller_by_claim, caller_by_uid
from epad.operations.registry import Operation

OWN, GROUP = 990, 44
ADA = Person("ada", Role.OWNER, 1000, "17@https://issuer.example", "spiffe://home/ada")
BOB = Person("bob", Role.OPERATOR, 1001)
EVE = Person("eve", Role.OBSERVER, 1002)
TEAM = (ADA, BOB, EVE)


def ask(uid: int, persons: tuple[Person, ...] = TEAM, name: str = "user") -> Caller:
    return caller_by_uid(persons, uid, (GROUP,), OWN, GROUP, name)


@pytest.mark.parametrize(
    ("uid", "name", "tier"),
    [(1000, "ada", Tier.OWNER), (1001, "bob", Tier.OPERATOR), (1002, "eve", Tier.OBSERVER)],
)
def test_a_person_acts_as_the_role_says(uid: int, name: str, tier: Tier) -> None:
    """By the name of the table, whatever the user is called."""
    assert (ask(uid).name, ask(uid).tier) == (name, tier)


@pytest.mark.parametrize("uid", [0, OWN, 1003, 65_534])
def test_nobody_else_gives_orders_where_persons_are_named(uid: int) -> None:
    """Neither root, the daemon's own user, nor a member of the group: each order is by name."""
    caller = ask(uid)
    assert caller.tier is Tier.OBSERVER
    assert f"uid = {uid}" in caller.way_in
    assert ask(uid, ()).tier in {Tier.OWNER, Tier.OBSERVER}


def test_without_persons_it_is_as_it_was() -> None:
    """Named by the user's name, else the uid."""
    assert (ask(0, (), "root").name, ask(0, ()).tier) == ("root", Tier.OWNER)
    assert (ask(1003, (), "").name, ask(1003, ()).tier) == ("uid 1003", Tier.OWNER)
    assert caller_by_uid((), 1003, (), OWN, None, "zoe").tier is Tier.OBSERVER


def test_a_claim_is_one_persons() -> None:
    """An empty claim is nobody's, though most persons have none."""
    assert caller_by_claim(TEAM, oidc="17@https://issuer.example") == ask(1000)
    assert caller_by_claim(TEAM, spiffe="spiffe://home/ada") == ask(1000)
    assert caller_by_claim(TEAM, oidc="17@https://other.example") is None
    assert caller_by_claim(TEAM) is None


@given(uid=st.integers(-2, 70_000), gids=st.frozensets(st.integers(0, 100)), group=st.none() | st.just(GROUP))
def test_only_who_is_named_gives_orders(uid: int, gids: frozenset[int], group: int | None) -> None:
    """Whatever the kernel says of groups, of root and of the daemon's own user."""
    caller = caller_by_uid(TEAM, uid, gids, OWN, group, "")
    may = {one.uid for one in TEAM if one.role is not Role.OBSERVER}
    assert allow(caller.tier, Operation.QUARANTINE).allowed is (uid in may)
    assert allow(caller.tier, Operation.ROTATE_KEY).allowed is (uid == ADA.uid)


def test_a_refusal_names_the_person_the_role_and_what_is_needed() -> None:
    eve, bob = ask(1002), ask(1001)
    assert eve.described == "eve (observer)"
    assert "an operator or owner" in allow(eve.tier, Operation.QUARANTINE).reason
    assert bob.described == "bob (operator)"
    assert "takes an owner" in allow(bob.tier, Operation.ROTATE_KEY).reason
    assert "[persons.bob]" in bob.way_in
