"""Check the tables that confine subsystems: faults that keep the daemon from starting, and values without effect."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import PurePosixPath

from epad.configuration.complaint import Complaint
from epad.configuration.confine_schema import ConfineConfig
from epad.configuration.schema import Config, SubsystemConfig
from epad.configuration.toml_lines import KeyPath
from runners.egress.rules import HostRule, RuleError, parse


def check_confine(config: Config) -> Iterator[Complaint]:
    """Yield what is wrong with a table by itself, or with its subsystem."""
    for name, spec in config.subsystems.items():
        if spec.confine is not None:
            yield from _check_table(("subsystems", name, "confine"), spec, spec.confine)


def vain_confine(path: KeyPath, confine: ConfineConfig) -> Iterator[Complaint]:
    """Yield the keys of a table that its profile has no use for."""
    plain = ConfineConfig()
    unused = {
        "open": ("workspace", "read", "never", "hosts", "ask", "gpu", "require"),
        "gateway-only": ("read",),
        "workspace": (),
        "sealed": ("hosts", "ask"),
    }
    for key in unused[confine.profile]:
        if getattr(confine, key) != getattr(plain, key):
            text = f"is set, but profile is {confine.profile}, which has no use for it; take one of them out"
            yield Complaint((*path, key), text, ((*path, "profile"),))


def _check_table(path: KeyPath, spec: SubsystemConfig, confine: ConfineConfig) -> Iterator[Complaint]:
    if spec.kind == "unit":
        text = f"is set, but systemd starts {spec.unit}, with the walls of its unit; take it out, or let epad start it"
        yield Complaint(path, f'{text}: kind = "process"', ((*path[:-1], "kind"),))
    if spec.kind == "client":
        text = "is set, but a client has no process of epad's; take it out, or let epad start it"
        yield Complaint(path, f'{text}: kind = "process"', ((*path[:-1], "kind"),))
    if confine.workspace == "/":
        text = 'is "/", the whole machine; name a directory, or set profile = "gateway-only"'
        yield Complaint((*path, "workspace"), text)
    elif confine.workspace and not _is_from_root(confine.workspace):
        yield Complaint((*path, "workspace"), f'is "{confine.workspace}"; give it from the root, or from ~/')
    for text in confine.read:
        if not _is_from_root(text):
            yield Complaint((*path, "read"), f'holds "{text}"; give each from the root, or from ~/')
    for text in confine.never:
        if not text or text.startswith(("/", "~")) or ".." in PurePosixPath(text).parts:
            fault = f'holds "{text}"; give each from the workspace, as CLAUDE.md or docs/frozen'
            yield Complaint((*path, "never"), fault)
    yield from _check_hosts((*path, "hosts"), confine.hosts)


def _check_hosts(path: KeyPath, texts: tuple[str, ...]) -> Iterator[Complaint]:
    """Yield the rules that cannot be read, and those of one host that say two different things."""
    rules: dict[tuple[str, bool, int], HostRule] = {}
    for text in texts:
        try:
            rule = parse(text)
        except RuleError as error:
            yield Complaint(path, f"holds a rule that matches nothing: {error}")
            continue
        other = rules.setdefault((rule.name, rule.wildcard, rule.port), rule)
        if other != rule:
            yield Complaint(path, f"says of one host both {other} and {rule}; take one of them out")


def _is_from_root(path: str) -> bool:
    return path.startswith(("/", "~/")) or path == "~"
