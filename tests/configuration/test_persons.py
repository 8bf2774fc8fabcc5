"""`[persons]`: faults that would let the wrong one in, or everybody out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from epad.configuration.persons_schema import PersonConfig, ProxyConfig, check_persons, persons_of
from epad.daemon.cli import main
from epad.gate.persons import Person, Role

PROXY = ProxyConfig("X-Auth-Request-User", "https://issuer.example", "X-Spiffe-Id")
ADA = PersonConfig("owner", 1000)


def faults(persons: dict[str, PersonConfig], proxy: ProxyConfig | None = PROXY) -> list[str]:
    found = check_persons(persons, proxy, ("chat",))
    return [f"{'.'.join(map(str, one.key))} {one.text}" for one in found]


def test_a_team_is_taken() -> None:
    """By uid, OIDC and SPIFFE; nobody at all is as it always was."""
    team = {
        "ada": ADA,
        "bob": PersonConfig("operator", oidc="17@https://issuer.example"),
        "eve": PersonConfig("observer", spiffe="spiffe://home/eve"),
    }
    assert faults(team) == []
    assert faults({}) == []
    assert persons_of(team)[1] == Person("bob", Role.OPERATOR, None, "17@https://issuer.example", "")


@pytest.mark.parametrize(
    ("person", "words"),
    [
        (PersonConfig("operator"), "needs uid, oidc or spiffe"),
        (PersonConfig("operator", 65_534), "anybody whom this machine does not know"),
        (PersonConfig("operator", 1000), "is 1000, whom persons.ada names"),
        (PersonConfig("operator", oidc="17"), "give the subject and the issuer"),
        (PersonConfig("operator", oidc="17@https://other.example"), "nobody could vouch for it"),
        (PersonConfig("operator", spiffe="eve"), 'give an id, as "spiffe://'),
    ],
)
def test_a_fault_of_a_person_is_named(person: PersonConfig, words: str) -> None:
    """With its place and the fix."""
    (found,) = faults({"ada": ADA, "bob": person})
    assert found.startswith("persons.bob")
    assert words in found


@pytest.mark.parametrize("role", ["observer", "operator"])
def test_the_last_owner_cannot_be_locked_out(role: Any) -> None:
    """One who is known by the proxy alone is locked out with the proxy."""
    for team in (
        {"ada": PersonConfig(role, 1000)},
        {"ada": PersonConfig("owner", oidc="1@https://issuer.example")},
    ):
        (found,) = faults(team)
        assert found.startswith("persons has no owner")


@pytest.mark.parametrize("name", ["chat", "epad"])
def test_a_person_is_not_called_as_something_else(name: str) -> None:
    """The record of an order would say that the agent had given it."""
    (found,) = faults({name: ADA})
    assert "call the person otherwise" in found


@pytest.mark.parametrize(
    ("proxy", "person", "words"),
    [
        (None, PersonConfig("operator", oidc="17@https://issuer.example"), "[web.proxy] issuer is not set"),
        (None, PersonConfig("operator", spiffe="spiffe://home/eve"), "needs [web.proxy] spiffe_header"),
    ],
)
def test_a_claim_needs_who_vouches_for_it(proxy: Any, person: PersonConfig, words: str) -> None:
    (found,) = faults({"ada": ADA, "bob": person}, proxy)
    assert words in found


def test_check_says_so(tmp_path: Path) -> None:
    """`epad check` fails with the place of it."""
    path = tmp_path / "epad.toml"
    path.write_text('[persons.ada]\nrole = "operator"\nuid = 1000\n')
    assert main(["check", "--config", str(path)]) == 1
    path.write_text('[persons.ada]\nrole = "owner"\nuid = 1000\n')
    assert main(["check", "--config", str(path)]) == 0
