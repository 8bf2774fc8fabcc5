"""Find doubtful policies on this machine. Used by `epad check`."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from pathlib import Path
from urllib.parse import urlsplit

from epad.configuration.complaint import Complaint
from epad.configuration.directories import resolve
from epad.configuration.schema import Config
from epad.configuration.toml_lines import KeyPath
from epad.confinement.policies import Policies
from epad.confinement.policy import Access, Policy, access_at, allows, is_below
from epad.confinement.policy import HostRequest as To
from runners.egress.rules import RuleError, address_of, host_name


def confinement_check(config: Config, environment: Mapping[str, str]) -> Iterator[Complaint]:
    """Yield everything about policies that is not there on this machine, or that undoes a part of them."""
    policies = {n: one for n, one in _policies(config, environment).items() if one.confined}
    places = Policies(resolve(config.daemon, environment), environment)
    for name, policy in policies.items():
        spec = config.subsystems[name]
        path: KeyPath = ("subsystems", name, "confine")
        if spec.confine is not None:
            for text in spec.confine.read:
                yield from _check_read((*path, "read"), places.path(text, spec), policy)
        yield from _check_command(("subsystems", name, "command"), spec.command, policy)
        yield from _check_upstreams((*path, "hosts"), config, policy)
    yield from _check_shared(policies)


def _check_read(path: KeyPath, place: str, policy: Policy) -> Iterator[Complaint]:
    access = access_at(policy, place)
    if not Path(place).exists():
        yield Complaint(path, f"holds {place}, which is not there; correct it, or take it out")
    elif access is Access.NONE:
        text = f"holds {place}, which no cell can read: keys, sessions and epad's own files; take it out"
        yield Complaint(path, text)


def _check_command(path: KeyPath, command: tuple[str, ...], policy: Policy) -> Iterator[Complaint]:
    """Yield the arguments that are files of this machine, and none of the cell's."""
    for argument in command[1:]:
        if not argument.startswith("/") or access_at(policy, argument) >= Access.READ:
            continue
        if Path(argument).exists():
            yield Complaint(path, f"names {argument}, which its cell does not have; add it to confine.read")


def _check_upstreams(path: KeyPath, config: Config, policy: Policy) -> Iterator[Complaint]:
    """Yield the model servers that a cell may reach by itself, past every budget."""
    for name, upstream in config.upstreams.items():
        parts = urlsplit(upstream.url)
        try:
            host = host_name(parts.hostname or "")
            port = parts.port or (443 if parts.scheme == "https" else 80)
        except (RuleError, ValueError):
            continue
        address = host if address_of(host) else ""
        if policy.hosts and allows(policy, To(host, port, address)):
            text = f"lets it reach {host}:{port}, where upstreams.{name} is: those turns would pass no budget"
            yield Complaint(path, f"{text}; take it out")


def _check_shared(policies: Mapping[str, Policy]) -> Iterator[Complaint]:
    """Yield the pairs of which one can write files that the other runs, or both write the same."""
    for (first, one), (second, other) in itertools.combinations(policies.items(), 2):
        writes = [policy.profile == "workspace" for policy in (one, other)]
        if not any(writes):
            continue
        inner, outer = sorted((one.workspace, other.workspace), key=len, reverse=True)
        if is_below(inner, outer):
            text = f"is {other.workspace}, which {first} has too: each can change what the other does"
            yield Complaint(("subsystems", second, "confine", "workspace"), f"{text}; give each its own")


def _policies(config: Config, environment: Mapping[str, str]) -> dict[str, Policy]:
    return Policies(resolve(config.daemon, environment), environment).all(config)
