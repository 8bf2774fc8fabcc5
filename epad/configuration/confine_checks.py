"""Check the tables `confine`: that a cell is possible, that each text can be read, and that no port inside is asked.

A confined subsystem has a loopback of its own, so nobody outside reaches a port that it listens on: neither the
gateway, whose model server it may be, nor a health check. A Unix socket in its workspace is reached from both sides.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path

from epad.configuration.complaint import Complaint
from epad.configuration.confine_schema import ConfineConfig
from epad.configuration.confining import confine_of
from epad.configuration.schema import Config, SubsystemConfig
from epad.configuration.toml_lines import KeyPath
from runners.egress.rules import HTTPS_PORT, HostRule, RuleError, address_of, first_match, host_name, parse

_UNIX = "unix:"
_WAYS_BY_PORT = ("http", "tcp")
INTERCEPT_PACKAGE = "cryptography"
"""The daemon looks for it, and never loads it: that would take 5 MiB of its memory."""


def check_confine(config: Config) -> Iterator[Complaint]:
    """Yield every fault in the tables `confine`, and of the keys that do not go with them."""
    for name, spec in config.subsystems.items():
        path: KeyPath = ("subsystems", name)
        if spec.confine is not None:
            yield from _check_table((*path, "confine"), spec.confine, spec)
            yield from _check_secrets((*path, "confine", "secrets"), spec.confine, config)
            yield from _check_intercept((*path, "confine", "intercept"), spec.confine)
        if confine_of(name, config).profile != "open" and spec.kind == "process":
            yield from _check_inside(path, name, spec, config)
    for name, agent in config.agents.items():
        if agent.confine is not None:
            path = ("agents", name, "confine")
            yield from _check_table(path, agent.confine, SubsystemConfig())
            yield from _check_secrets((*path, "secrets"), agent.confine, config)
            yield from _check_intercept((*path, "intercept"), agent.confine)


def _check_table(path: KeyPath, confine: ConfineConfig, spec: SubsystemConfig) -> Iterator[Complaint]:
    if spec.kind != "process" and confine.profile != "open":
        text = (
            f'is set, but epad does not start a {spec.kind}; take it out, or kind = "process" with a command'
        )
        yield Complaint(path, text, ((*path[:-1], "kind"),))
    if confine.workspace == "/":
        text = 'is "/", the whole machine; name a directory, or set profile = "gateway-only"'
        yield Complaint((*path, "workspace"), text)
    places = {"workspace": (confine.workspace,) if confine.workspace else (), "read": confine.read}
    for key, given in places.items():
        for place in given:
            if not place.startswith(("/", "~/")) and place != "~":
                text = f'has "{place}", a relative path; give it from the root, or from ~/'
                yield Complaint((*path, key), text)
    for place in confine.never:
        if not place or place.startswith(("/", "~")) or ".." in Path(place).parts:
            text = f'has "{place}"; give paths below the workspace, as CLAUDE.md'
            yield Complaint((*path, "never"), text)
    yield from check_hosts((*path, "hosts"), confine.hosts)
    if confine.hosts and confine.profile == "sealed":
        text = 'is set, but a sealed subsystem reaches none; take it out, or profile = "workspace"'
        yield Complaint((*path, "hosts"), text, ((*path, "profile"),))


def check_hosts(path: KeyPath, hosts: Iterable[str]) -> Iterator[Complaint]:
    """Yield the rules that cannot be read, and those of one host that say two different things."""
    rules: dict[tuple[str, bool, int], HostRule] = {}
    for host in hosts:
        try:
            rule = parse(host)
        except RuleError as error:
            yield Complaint(path, f'has "{host}": {error}')
            continue
        other = rules.setdefault((rule.name, rule.wildcard, rule.port), rule)
        if other != rule:
            yield Complaint(path, f"says of one host both {other} and {rule}; take one of them out")


def vain_confine(path: KeyPath, confine: ConfineConfig) -> Iterator[Complaint]:
    """Yield the keys of a table that its profile has no use for."""
    plain = ConfineConfig()
    unused = {
        "open": ("workspace", "read", "never", "hosts", "ask", "gpu", "decoys", "require"),
        "gateway-only": ("read",),
        "workspace": (),
        "sealed": ("ask",),
    }
    for key in unused[confine.profile]:
        if getattr(confine, key) != getattr(plain, key):
            text = f"is set, but profile is {confine.profile}, which has no use for it; take one of them out"
            yield Complaint((*path, key), text, ((*path, "profile"),))


def _check_secrets(path: KeyPath, confine: ConfineConfig, config: Config) -> Iterator[Complaint]:
    for name in confine.secrets:
        if name not in config.secrets:
            known = ", ".join(sorted(config.secrets)) or "none"
            yield Complaint(path, f'has "{name}", which is not in [secrets]; there are: {known}')
    if confine.secrets and confine.profile in {"open", "sealed"}:
        text = f"is set, but what is {confine.profile} has no way out that could fill them in; take it out"
        yield Complaint(path, text, ((*path[:-1], "profile"),))


def _check_intercept(path: KeyPath, confine: ConfineConfig) -> Iterator[Complaint]:
    """Yield the hosts that cannot be read: `hosts` alone says which are reached, so each must be one of them."""
    if not confine.intercept:
        return
    if confine.profile in {"open", "sealed"}:
        text = f"is set, but what is {confine.profile} has no way out that could read anything; take it out"
        yield Complaint(path, text, ((*path[:-1], "profile"),))
        return
    if find_spec(INTERCEPT_PACKAGE) is None:
        yield Complaint(path, "needs the package cryptography: pip install 'epad[intercept]', or take it out")
    rules = readable_rules(confine.hosts)
    for host in confine.intercept:
        if not _is_name(host):
            yield Complaint(
                path, f'has "{host}"; give names alone, as "api.github.com": port 443 of it is read'
            )
        elif first_match(rules, host, HTTPS_PORT) is None:
            text = f'has "{host}", which hosts does not let pass at port 443; add it there'
            yield Complaint(path, text, ((*path[:-1], "hosts"),))


def readable_rules(hosts: Iterable[str]) -> list[HostRule]:
    """Return the rules of texts, without those that are none, of which `check_hosts` tells."""
    rules = []
    for text in hosts:
        with suppress(RuleError):
            rules.append(parse(text))
    return rules


def _is_name(host: str) -> bool:
    try:
        return host_name(host) == host and address_of(host) is None
    except RuleError:
        return False


def _check_inside(path: KeyPath, name: str, spec: SubsystemConfig, config: Config) -> Iterator[Complaint]:
    """Yield each way by which it would be asked at a port that only its own cell has."""
    confined = ((*path, "confine"),) if spec.confine is not None else (("confine", "default"),)
    fix = 'listen on a unix: socket in its workspace, or set confine.profile = "open"'
    for server, upstream in config.upstreams.items():
        if (name == upstream.served_by or server == spec.serves) and not upstream.url.startswith(_UNIX):
            text = f"is {upstream.url}, a port inside the cell of {name}, which nobody outside reaches; {fix}"
            yield Complaint(("upstreams", server, "url"), text, confined)
    for way in _WAYS_BY_PORT:
        if getattr(spec.health, way):
            text = (
                "asks a port inside its own cell, which nobody outside reaches; ask by health.command or by"
            )
            yield Complaint(
                (*path, "health", way), f'{text} health.inference, or set confine.profile = "open"', confined
            )
