"""Random changes of policies, and the judge of what they widen: each request is asked of both policies by itself.

The names are few, so that rules meet: paths of three letters, hosts below two domains, two ports.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

from epad.confinement.difference import Widening
from epad.confinement.policy import (
    Ability,
    AbilityRequest,
    Access,
    FileRequest,
    FileRule,
    HostRequest,
    Policy,
    Request,
    SecretRequest,
    UnreadRequest,
    allows,
)
from runners.egress.rules import HostRule

Difference = Callable[[Policy, Policy], Sequence[Widening]]

LETTERS = ("a", "b", "c")
NAMES = ("x.org", "a.x.org", "b.a.x.org", "y.org", "q.y.org", "evilx.org", "10.0.0.5", "fd00::5")
PINNED = ("", "", "10.0.0.6", "10.0.0.7")
PORTS = (443, 22)
REQUESTS = 60


def a_path(chance: random.Random, deepest: int = 3) -> str:
    """Return a path; often enough the root itself, or one with the beginning of another's name."""
    parts = [chance.choice((*LETTERS, "ab")) for _ in range(chance.randint(0, deepest))]
    return "/" + "/".join(parts)


def a_host_rule(chance: random.Random) -> HostRule:
    """Return a rule: of a name, of what lies below one, of an address, or of a name with its address."""
    port = chance.choice(PORTS)
    if chance.random() < 0.3:
        return HostRule(chance.choice(("x.org", "a.x.org", "y.org")), wildcard=True, port=port)
    name = chance.choice(NAMES)
    address = chance.choice(PINNED) if name.endswith(".org") else ""
    return HostRule(name, port=port, address=address)


def a_secret(chance: random.Random) -> SecretRequest:
    """Return a secret and a host of it."""
    return SecretRequest(chance.choice(LETTERS), chance.choice(NAMES[:3]))


def a_policy(chance: random.Random) -> Policy:
    """Return any policy."""
    return Policy(
        subsystem="agent",
        profile="workspace",
        workspace="/a",
        directory="/a",
        files=_files({a_path(chance): chance.choice(list(Access)) for _ in range(chance.randint(0, 6))}),
        hosts=_hosts(a_host_rule(chance) for _ in range(chance.randint(0, 4))),
        every_host=chance.random() < 0.1,
        abilities=frozenset(chance.sample(list(Ability), chance.randint(0, 3))),
        secrets=frozenset(a_secret(chance) for _ in range(chance.randint(0, 2))),
        intercept=frozenset(chance.sample(NAMES[:6], chance.randint(0, 2))),
    )


def a_change(chance: random.Random, policy: Policy) -> Policy:
    """Return a policy with up to three things of it changed."""
    files = {rule.path: rule.access for rule in policy.files}
    hosts, abilities, every = set(policy.hosts), set(policy.abilities), policy.every_host
    secrets, intercept = set(policy.secrets), set(policy.intercept)
    for _ in range(chance.randint(0, 3)):
        match chance.randrange(8):
            case 0 if files:
                del files[chance.choice(sorted(files))]
            case 1 if hosts:
                hosts.discard(chance.choice(sorted(hosts, key=str)))
            case 2:
                hosts.add(a_host_rule(chance))
            case 3:
                abilities ^= {chance.choice(list(Ability))}
            case 6:
                secrets ^= {a_secret(chance)}
            case 7:
                intercept ^= {chance.choice(NAMES[:6])}
            case 4 if chance.random() < 0.3:
                every = not every
            case _:
                files[a_path(chance)] = chance.choice(list(Access))
    return replace(
        policy,
        files=_files(files),
        hosts=_hosts(hosts),
        abilities=frozenset(abilities),
        secrets=frozenset(secrets),
        intercept=frozenset(intercept),
        every_host=every,
    )


def a_request(chance: random.Random) -> Request:
    """Return any request: of files, of hosts that rules name or that they do not, of abilities."""
    kind = chance.random()
    if kind < 0.5:
        return FileRequest(a_path(chance, 4), write=chance.random() < 0.5)
    if kind < 0.9:
        host = chance.choice((*NAMES, "c.x.org", "d.c.x.org", "z.q.y.org", "w.example"))
        address = host if not host[-1].isalpha() else chance.choice(PINNED)
        return HostRequest(host, chance.choice((*PORTS, 80)), address)
    if kind < 0.94:
        return UnreadRequest(chance.choice((*NAMES, "c.x.org", "w.example")))
    return a_secret(chance) if chance.random() < 0.5 else AbilityRequest(chance.choice(list(Ability)))


def _files(rules: dict[str, Access]) -> tuple[FileRule, ...]:
    return tuple(FileRule(path, access) for path, access in sorted(rules.items()))


def _hosts(rules: object) -> tuple[HostRule, ...]:
    assert hasattr(rules, "__iter__")
    return tuple(sorted(set(rules), key=str))


@dataclass
class Judgement:
    """What was found wrong with a difference: requests that it missed, and lines that say what is not so."""

    changes: int = 0
    widening: int = 0
    requests: int = 0
    missed: list[str] = field(default_factory=list)
    false: list[str] = field(default_factory=list)

    @property
    def exact(self) -> bool:
        """Tell if nothing was found."""
        return not self.missed and not self.false


def judge(difference: Difference, changes: int, seed: int) -> Judgement:
    """Hold a difference against the judge of single requests, over random changes."""
    chance, found = random.Random(seed), Judgement()
    for _ in range(changes):
        old = a_policy(chance)
        new = a_change(chance, old) if chance.random() < 0.8 else a_policy(chance)
        judge_one(difference, old, new, chance, found)
    return found


def judge_one(
    difference: Difference, old: Policy, new: Policy, chance: random.Random, found: Judgement
) -> None:
    """Judge one change: each witness, and requests by chance."""
    lines = difference(old, new)
    found.changes += 1
    found.widening += bool(lines)
    for line in lines:
        if not allows(new, line.witness) or allows(old, line.witness) or not line.covers(line.witness):
            found.false.append(f"{line}: {line.witness} in {old} and {new}")
    for _ in range(REQUESTS):
        request = a_request(chance)
        found.requests += 1
        passes = allows(new, request) and not allows(old, request)
        covered = any(line.covers(request) for line in lines)
        if passes and not covered:
            found.missed.append(f"{request} in {old} and {new}")
        if covered and not passes:
            found.false.append(f"{request} is said to widen, in {old} and {new}")


def planted() -> dict[str, Difference]:
    """Return differences that are wrong, each in a way in which one could be."""
    from epad.confinement.difference import widenings  # noqa: PLC0415 - what is planted is a change of it

    def without(*paths: Access) -> Difference:
        """Forget the rules of the old policy that take something out again."""
        return lambda old, new: widenings(
            replace(old, files=tuple(rule for rule in old.files if rule.access not in paths)), new
        )

    def blunt(old: Policy, new: Policy) -> Sequence[Widening]:
        """Compare the rules, rather than what they allow."""
        return widenings(old, replace(new, files=tuple(set(new.files) - set(old.files))))

    def hosts(change: Callable[[HostRule], HostRule]) -> Difference:
        """Read the rules of both policies otherwise than the judge."""

        def changed(policy: Policy) -> Policy:
            return replace(policy, hosts=tuple(change(rule) for rule in policy.hosts))

        return lambda old, new: widenings(changed(old), changed(new))

    return {
        "what was taken out of a directory is forgotten": without(Access.NONE, Access.OWN),
        "what was readable alone is forgotten": without(Access.READ),
        "rules are compared, and not what they allow": blunt,
        "every port is one": hosts(lambda rule: replace(rule, port=443)),
        "the address of a name is forgotten": hosts(lambda rule: replace(rule, address="")),
        "a wildcard is a name": hosts(lambda rule: replace(rule, wildcard=False)),
        "files alone are compared": lambda old, new: widenings(replace(old, hosts=new.hosts), new),
        "a secret goes to every host": lambda old, new: widenings(
            replace(old, secrets=frozenset(new.secrets if old.secrets else ())), new
        ),
        "the last line is lost": lambda old, new: widenings(old, new)[:-1],
    }
