"""What a change of a policy widens: exactly that, each with a request that was refused and now passes."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from policy_changes import Judgement, a_change, a_policy, judge, judge_one, planted

from epad.confinement.difference import widenings
from epad.confinement.policy import Ability, Access, FileRule, Policy
from runners.egress.rules import parse

PLAIN = Policy(
    "agent", "workspace", "/w", "/w", (FileRule("/usr", Access.READ), FileRule("/w", Access.WRITE))
)
OPEN = Policy(
    "agent", "open", "/w", "/w", (FileRule("/", Access.WRITE),), every_host=True, abilities=frozenset(Ability)
)


def with_files(**rules: Access) -> Policy:
    """Return the plain policy with rules for single paths, written with `_` for `/`."""
    files = {rule.path: rule.access for rule in PLAIN.files}
    files |= {path.replace("_", "/"): access for path, access in rules.items()}
    return replace(PLAIN, files=tuple(FileRule(path, access) for path, access in sorted(files.items())))


def with_hosts(*texts: str) -> Policy:
    return replace(PLAIN, hosts=tuple(sorted(map(parse, texts), key=str)))


def reads(host: str) -> Policy:
    """Return the plain policy with a host that is read."""
    return replace(with_hosts(host), intercept=frozenset({host}))


def lines(old: Policy, new: Policy) -> list[str]:
    return [str(line) for line in widenings(old, new)]


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        (PLAIN, PLAIN, []),
        (with_files(_w_x=Access.READ), PLAIN, ["write /w/x"]),
        (with_files(_w_x=Access.NONE), PLAIN, ["write /w/x", "read /w/x"]),
        (PLAIN, with_files(_w_x=Access.READ), []),
        (PLAIN, with_files(_opt=Access.READ), ["read /opt"]),
        (PLAIN, with_files(_usr_lib=Access.READ), []),
        (PLAIN, with_files(_usr_lib=Access.WRITE), ["write /usr/lib"]),
        (PLAIN, with_files(_tmp=Access.OWN), []),
        (with_files(_tmp=Access.OWN), with_files(_tmp=Access.READ), ["read /tmp"]),
        (PLAIN, with_files(_=Access.READ), ["read /"]),
        (
            PLAIN,
            with_files(_=Access.READ, _home=Access.NONE, _home_me=Access.READ),
            ["read /", "read /home/me"],
        ),
        (with_hosts("a.org"), with_hosts("a.org"), []),
        (with_hosts("a.org"), reads("a.org"), []),
        (reads("a.org"), with_hosts("a.org"), ["send a.org what epad cannot read"]),
        (
            reads("a.b.org"),
            with_hosts("*.b.org"),
            ["connect *.b.org:443", "send a.b.org what epad cannot read"],
        ),
        (reads("a.org"), PLAIN, []),
        (PLAIN, reads("a.org"), ["connect a.org:443"]),
        (with_hosts("a.org", "b.org"), with_hosts("b.org"), []),
        (PLAIN, with_hosts("a.org"), ["connect a.org:443"]),
        (with_hosts("*.a.org"), with_hosts("x.a.org"), []),
        (with_hosts("*.a.org"), with_hosts("*.x.a.org"), []),
        (with_hosts("*.x.a.org"), with_hosts("*.a.org"), ["connect *.a.org:443"]),
        (with_hosts("x.a.org"), with_hosts("*.a.org"), ["connect *.a.org:443"]),
        (PLAIN, with_hosts("*.a.org", "*.x.a.org", "y.a.org"), ["connect *.a.org:443"]),
        (with_hosts("a.org"), with_hosts("a.org:22"), ["connect a.org:22"]),
        (with_hosts("a.org"), with_hosts("a.org=10.0.0.5"), ["connect a.org=10.0.0.5:443"]),
        (with_hosts("n.a.org=10.0.0.5", "*.a.org"), with_hosts("*.a.org"), ["connect n.a.org:443"]),
        (PLAIN, with_hosts("10.0.0.5:8000"), ["connect 10.0.0.5:8000"]),
        (OPEN, PLAIN, []),
        (PLAIN, replace(PLAIN, abilities=frozenset({Ability.GPU})), ["use the GPUs"]),
        (PLAIN, replace(PLAIN, ask=True), []),
    ],
)
def test_a_line_for_each_thing_that_widens(old: Policy, new: Policy, told: list[str]) -> None:
    """The outermost, and no other."""
    assert lines(old, new) == told


def test_to_have_no_walls_is_told_as_it_is() -> None:
    """All files, all hosts, each ability."""
    told = lines(PLAIN, OPEN)
    assert told[:3] == ["write /", "read /", "connect to every host"]
    assert told[3:] == [ability.value for ability in Ability]


@given(st.integers())
def test_the_lines_are_exact(seed: int) -> None:
    """For any two policies: none is missed, none is false."""
    chance, found = random.Random(seed), Judgement()
    old = a_policy(chance)
    judge_one(widenings, old, a_change(chance, old), chance, found)
    judge_one(widenings, old, a_policy(chance), chance, found)
    assert found.exact, found


def test_a_thousand_changes_have_no_line_missed_and_none_false() -> None:
    """With the judge asked 60 requests for each."""
    found = judge(widenings, 1_000, seed=17)
    assert (found.missed, found.false) == ([], [])
    assert found.requests == 60_000
    assert 300 < found.widening < 1_000


@pytest.mark.parametrize("bug", planted())
def test_a_planted_bug_is_found(bug: str) -> None:
    """The judge is one that can find something."""
    assert not judge(planted()[bug], 300, seed=17).exact
