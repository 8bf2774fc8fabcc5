"""Name exactly the widenings of a changed policy, each with a request that was refused and now passes.

Policies only allow, so each is a set of requests, and a widening is a difference of sets. It is worked out without
trying requests:

- *Files.* The paths of both policies' rules cut the tree into regions: all that is below one of these paths, and not
  below a deeper one. No rule begins inside a region, so each policy gives one access to all of it, and the path itself
  stands for the region.
- *Hosts.* A name that a rule has is judged by itself. All other names below a wildcard are in one region, and a label
  that no rule has stands for it; finitely many names never cover a wildcard.
- *Abilities*, and secrets with the hosts that they may be sent to, are single things.
- *What goes unread.* To a host of `intercept` a subsystem cannot send what epad cannot read. Putting a host there lets
  it reach nothing that it did not reach, so it narrows the policy, and is told as such; taking it out again widens it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from epad.confinement.policy import (
    Ability,
    AbilityRequest,
    FileRequest,
    HostRequest,
    Policy,
    Request,
    SecretRequest,
    UnreadRequest,
    allows,
    is_below,
)
from runners.egress.rules import HTTPS_PORT, HostRule, matches

_ANY_LABEL = "any"


@dataclass(frozen=True, slots=True)
class Widening:
    """Names a set of requests that were refused and now pass; `witness` is one of them."""

    witness: Request

    def covers(self, request: Request) -> bool:
        """Tell if a request is in the set."""
        return request == self.witness


@dataclass(frozen=True, slots=True)
class FileWidening(Widening):
    """Is about the files below a path, but for those below `but`."""

    witness: FileRequest
    root: str
    but: frozenset[str] = frozenset()

    def covers(self, request: Request) -> bool:
        return (
            isinstance(request, FileRequest)
            and request.write == self.witness.write
            and is_below(request.path, self.root)
            and not any(is_below(request.path, path) for path in self.but)
        )

    def __str__(self) -> str:
        return f"{'write' if self.witness.write else 'read'} {self.root}"


@dataclass(frozen=True, slots=True)
class HostWidening(Widening):
    """Is about the hosts of a rule, or about all with none, as far as they were refused and now pass."""

    witness: HostRequest
    rule: HostRule | None
    old: Policy
    new: Policy

    def covers(self, request: Request) -> bool:
        if not isinstance(request, HostRequest | UnreadRequest) or not _gains(self.old, self.new, request):
            return False
        if self.rule is None:
            return True
        if isinstance(request, UnreadRequest):
            return matches(self.rule, request.host, HTTPS_PORT)
        return matches(self.rule, request.host, request.port) and request.address == self.rule.pinned

    def __str__(self) -> str:
        return f"connect {self.rule or 'to every host'}"


@dataclass(frozen=True, slots=True)
class AbilityWidening(Widening):
    """Is about one ability."""

    witness: AbilityRequest

    def __str__(self) -> str:
        return self.witness.ability.value


@dataclass(frozen=True, slots=True)
class SecretWidening(Widening):
    """Is about one secret and one host that it may be sent to."""

    witness: SecretRequest

    def __str__(self) -> str:
        return f"send the secret {self.witness.name} to {self.witness.host}"


@dataclass(frozen=True, slots=True)
class UnreadWidening(Widening):
    """Is about one host whose TLS was read."""

    witness: UnreadRequest

    def __str__(self) -> str:
        return f"send {self.witness.host} what epad cannot read"


def widenings(old: Policy, new: Policy) -> tuple[Widening, ...]:
    """Return all that the new policy allows and the old one refuses; nothing means that nothing widens."""
    return (
        *_files(old, new),
        *_hosts(old, new),
        *_abilities(old, new),
        *_secrets(old, new),
        *_unread(old, new),
    )


def _gains(old: Policy, new: Policy, request: Request) -> bool:
    return allows(new, request) and not allows(old, request)


def _files(old: Policy, new: Policy) -> Iterator[FileWidening]:
    """Yield the outermost regions that widen; the regions inside one that do not are its `but`."""
    roots = sorted({"/", *(rule.path for rule in (*old.files, *new.files))})
    for write in (True, False):
        gaining = {root for root in roots if _gains(old, new, FileRequest(root, write))}
        for root in roots:
            if root in gaining and _parent(root, roots) not in gaining:
                yield FileWidening(FileRequest(root, write), root, _edge(root, roots, gaining))


def _parent(path: str, roots: Iterable[str]) -> str | None:
    """Return the region around a region; None for that of `/`."""
    around = [root for root in roots if root != path and is_below(path, root)]
    return max(around, key=len, default=None)


def _edge(root: str, roots: Iterable[str], gaining: set[str]) -> frozenset[str]:
    """Return the regions inside one that do not widen with it."""
    inside = [path for path in roots if path != root and is_below(path, root)]
    return frozenset(path for path in inside if path not in gaining)


def _hosts(old: Policy, new: Policy) -> Iterator[HostWidening]:
    if new.every_host:
        if not old.every_host:
            yield HostWidening(_any_host(old), None, old, new)
        return
    wildcards = [rule for rule in new.hosts if rule.wildcard]
    gaining = [rule for rule in wildcards if _gains(old, new, _any_below(rule, old, new))]
    for rule in gaining:
        if not any(_contains(other, rule) for other in gaining):
            yield HostWidening(_any_below(rule, old, new), rule, old, new)
    for request in _named(old, new):
        told = not request.address and any(matches(rule, request.host, request.port) for rule in gaining)
        if not told and _gains(old, new, request):
            pinned = "" if request.address == request.host else request.address
            yield HostWidening(request, HostRule(request.host, port=request.port, address=pinned), old, new)


def _named(old: Policy, new: Policy) -> Iterator[HostRequest]:
    """Yield the requests to each name that a rule has: by a look-up, and to the address that a rule gives it."""
    named = {(rule.name, rule.port) for rule in (*old.hosts, *new.hosts) if not rule.wildcard}
    for name, port in sorted(named):
        for address in sorted({"", *(rule.pinned for rule in new.hosts if rule.name == name)}):
            yield HostRequest(name, port, address)


def _contains(outer: HostRule, inner: HostRule) -> bool:
    """Tell if every host of a wildcard is one of another's."""
    return outer.port == inner.port and inner.name.endswith(f".{outer.name}")


def _any_below(rule: HostRule, *policies: Policy) -> HostRequest:
    """Return a request to a host that a wildcard has, and that no rule of the policies names."""
    return HostRequest(f"{_new_label(*policies)}.{rule.name}", rule.port)


def _any_host(policy: Policy) -> HostRequest:
    """Return a request to a host that no rule is about."""
    return HostRequest(f"{_new_label(policy)}.{_new_label(policy)}", 443)


def _new_label(*policies: Policy) -> str:
    """Return a label that no rule has."""
    taken = {label for policy in policies for rule in policy.hosts for label in rule.name.split(".")}
    label, number = _ANY_LABEL, 1
    while label in taken:
        number += 1
        label = f"{_ANY_LABEL}{number}"
    return label


def _abilities(old: Policy, new: Policy) -> Iterator[AbilityWidening]:
    for ability in Ability:
        request = AbilityRequest(ability)
        if _gains(old, new, request):
            yield AbilityWidening(request)


def _secrets(old: Policy, new: Policy) -> Iterator[SecretWidening]:
    return (SecretWidening(request) for request in sorted(new.secrets) if _gains(old, new, request))


def _unread(old: Policy, new: Policy) -> Iterator[UnreadWidening]:
    """Yield the hosts that were read before. Of others it is said that they are reached."""
    return (
        UnreadWidening(request)
        for request in map(UnreadRequest, sorted(old.intercept))
        if _gains(old, new, request)
    )
