"""Check parts of a typed configuration against each other, which no single key can show."""

from __future__ import annotations

import difflib
import graphlib
import itertools
import os
import re
from collections.abc import Iterable, Iterator
from datetime import UTC
from pathlib import Path

import msgspec
from apscheduler.triggers.cron import CronTrigger

from epad.configuration.agent_schema import check_agents
from epad.configuration.complaint import Complaint
from epad.configuration.confine_checks import check_confine
from epad.configuration.identity_schema import check_identity
from epad.configuration.money_checks import check_money
from epad.configuration.notify_schema import check_notify
from epad.configuration.persons_schema import check_persons
from epad.configuration.probe_schema import ProbesConfig
from epad.configuration.schema import Config, SubsystemConfig, UpstreamConfig
from epad.configuration.secret_schema import check_secrets
from epad.configuration.server_kinds import SERVERS, server_named
from epad.configuration.servers_checks import check_servers
from epad.configuration.sizes import size_bytes
from epad.configuration.toml_lines import KeyPath, key_text
from epad.configuration.tools_checks import check_tools
from epad.configuration.urls import url_fault
from epad.configuration.user_checks import check_users
from epad.configuration.vault_checks import check_vault
from epad.storage.bundle_names import name_fault, subsystem_file
from probes.datastore import NAME as DATASTORE
from probes.vault import NAME as VAULT
from statemachine.finding import FOR_A_PERSON
from statemachine.tool_targets import CATEGORY_PREFIX

STATED_OFTENER = frozenset({DATASTORE, VAULT})
"""The probes that say oftener than they look what the last look has shown."""
PROBES = FOR_A_PERSON.union(
    *({item.name, *item.type.FINDS_AS} for item in msgspec.structs.fields(ProbesConfig)),
)
"""The names that findings go by: those of the probes' tables, and of what is found without one."""

RESERVED_NAMES = frozenset({"host"})
_LEAST_MEMORY_BYTES = 1 << 20
_MAX_PORT = 65_535
_EVERY_HOST = frozenset({"0.0.0.0", "[::]", "[0:0:0:0:0:0:0:0]"})  # noqa: S104 - compared with, not bound


def cross_check(config: Config) -> Iterator[Complaint]:
    """Yield every fault of a configuration whose keys are each right by themselves."""
    yield from _check_listeners(config)
    yield from _check_identity(config)
    yield from check_users(config)
    yield from _check_probe_names(config)
    yield from _check_enforce(config)
    yield from _check_order(config)
    yield from _check_quiet(config)
    yield from _check_probes(config.probes)
    yield from _check_schedule(config)
    yield from check_notify(config.notify)
    for name, upstream in config.upstreams.items():
        yield from _check_upstream(("upstreams", name), upstream, config)
    yield from check_money(config)
    yield from check_confine(config)
    yield from check_secrets(config.secrets)
    yield from check_persons(config.persons, config.web.proxy, config.subsystems.keys())
    yield from check_tools(config.tools)
    yield from check_agents(config.agents, config.subsystems, tools_enabled=config.tools.enabled)
    yield from check_identity(config.identity)
    yield from check_servers(config.tools.servers, config.secrets)
    yield from _check_datastores(config)
    yield from check_vault(config.vault)
    for name, subsystem in config.subsystems.items():
        yield from _check_subsystem(("subsystems", name), subsystem, config)
    yield from _check_cycles(config)


def _check_listeners(config: Config) -> Iterator[Complaint]:
    listeners: dict[KeyPath, str] = {("gateway", "listen"): config.gateway.listen}
    if config.metrics.listen:
        listeners["metrics", "listen"] = config.metrics.listen
    if config.web.listen:
        listeners["web", "listen"] = config.web.listen
    for name, subsystem in config.subsystems.items():
        if subsystem.listen and not subsystem.listen.startswith("unix:"):
            listeners["subsystems", name, "listen"] = subsystem.listen
    sound: dict[KeyPath, tuple[str, int]] = {}
    for path, address in listeners.items():
        match = re.fullmatch(r"(\[[0-9a-fA-F:]+\]|[^:/\s]+):(\d{1,5})", address)
        if match is None:
            yield Complaint(path, f'is "{address}"; give an address "host:port", or "" to turn it off')
        elif int(match[2]) > _MAX_PORT:
            yield Complaint(path, f"names port {match[2]}; give one from 0 to {_MAX_PORT}")
        else:
            sound[path] = (match[1], int(match[2]))
    for (other, first), (path, second) in itertools.combinations(sound.items(), 2):
        if _collide(first, second):
            text = f"is {listeners[path]}, which {key_text(other)} has too; give one of them another port"
            yield Complaint(path, text, (other,))


def _check_identity(config: Config) -> Iterator[Complaint]:
    """Check that each socket belongs to one subsystem, and that every named thing exists."""
    sockets: dict[str, KeyPath] = {}
    for name, subsystem in config.subsystems.items():
        path: KeyPath = ("subsystems", name)
        if subsystem.listen and not subsystem.gateway:
            text = "is set, but gateway is false; take one of them out"
            yield Complaint((*path, "listen"), text, ((*path, "gateway"),))
        if subsystem.listen.startswith("unix:"):
            other = sockets.setdefault(subsystem.listen, (*path, "listen"))
            if other[1] != name:
                text = f"is {subsystem.listen}, which {key_text(other)} has too; give each its own"
                yield Complaint((*path, "listen"), text, (other,))
        if re.search(r":0+$", subsystem.listen):
            text = f"is {subsystem.listen}; a door of its own is known by its port: give a port above 0"
            yield Complaint((*path, "listen"), text)
        if subsystem.group and subsystem.group not in config.groups:
            text = f"names {subsystem.group}, which is not in [groups]; {_suggest(subsystem.group, config.groups)}"
            yield Complaint((*path, "group"), text)
    anonymous = config.gateway.anonymous
    chargeable = {name for name, subsystem in config.subsystems.items() if subsystem.gateway}
    if anonymous and anonymous not in chargeable:
        text = f"names {anonymous}, which is no subsystem with a gateway; {_suggest(anonymous, chargeable)}"
        yield Complaint(("gateway", "anonymous"), text)


def _collide(first: tuple[str, int], second: tuple[str, int]) -> bool:
    same_host = first[0] == second[0] or first[0] in _EVERY_HOST or second[0] in _EVERY_HOST
    return same_host and first[1] == second[1] != 0


def _check_probe_names(config: Config) -> Iterator[Complaint]:
    for name in config.hysteresis:
        if name not in PROBES | {"default"}:
            yield Complaint(("hysteresis", name), f"names no probe; {_suggest(name, PROBES)}")
    for name in config.containment:
        if name not in PROBES:
            yield Complaint(("containment", name), f"names no probe; {_suggest(name, PROBES)}")


def _check_probes(probes: ProbesConfig) -> Iterator[Complaint]:
    """Yield the settings that a probe could never reach, or always would: the first of every probe."""
    for name, settings in probes.by_name().items():
        for fault in itertools.islice(settings.faults(), 1):
            table = ("probes", name)
            yield Complaint(
                (*table, *fault.key), fault.text, tuple((*table, *other) for other in fault.others)
            )


def _check_enforce(config: Config) -> Iterator[Complaint]:
    """A name that is misspelt would leave its detector as it was, in silence."""
    everything: set[str] = set()
    for probe, settings in config.probes.by_name().items():
        known = {probe, *settings.DETECTORS}
        everything |= known
        for name in settings.enforced():
            if name not in known:
                yield Complaint(
                    ("probes", probe, "enforce", name), f"names no detector; {_suggest(name, known)}"
                )
    for subsystem, spec in config.subsystems.items():
        for name in spec.enforce:
            if name not in everything:
                path = ("subsystems", subsystem, "enforce", name)
                yield Complaint(path, f"names no detector; {_suggest(name, everything)}")


def _check_order(config: Config) -> Iterator[Complaint]:
    """Yield the pairs of which the first must not exceed the second."""
    tables: list[tuple[KeyPath, object, str, str]] = [
        (("gateway",), config.gateway, "default_output_tokens", "max_output_tokens"),
    ]
    for name, rule in config.hysteresis.items():
        tables.append((("hysteresis", name), rule, "raise_after", "out_of"))
    for name, subsystem in config.subsystems.items():
        restart = ("subsystems", name, "restart")
        tables.append((restart, subsystem.restart, "backoff_seconds", "backoff_max_seconds"))
    for path, table, low, high in tables:
        value, limit = getattr(table, low), getattr(table, high)
        if value > limit:
            text = f"is {value:g}, above {high}, which is {limit:g}; lower it or raise that"
            yield Complaint((*path, low), text, ((*path, high),))


def _check_quiet(config: Config) -> Iterator[Complaint]:
    """A probe that looks less often than its anomalies take to clear finds the same trouble anew each time."""
    for name, settings in config.probes.by_name().items():
        rule = config.hysteresis.get(name, config.hysteresis["default"])
        interval = settings.interval_seconds
        if name not in STATED_OFTENER and rule.clear_after_seconds <= interval:
            table = name if name in config.hysteresis else "default"
            text = f"is {rule.clear_after_seconds:g}: it must be above probes.{name}.interval_seconds, {interval:g}"
            path = ("hysteresis", table, "clear_after_seconds")
            yield Complaint(path, text, (("probes", name, "interval_seconds"),))


def _check_schedule(config: Config) -> Iterator[Complaint]:
    for key in config.schedule.__struct_fields__:
        expression: str = getattr(config.schedule, key)
        if not expression:
            continue
        try:
            CronTrigger.from_crontab(expression, timezone=UTC)
        except ValueError as error:
            text = f'is "{expression}": {error}; give five cron fields, or "" to turn it off'
            yield Complaint(("schedule", key), text)


def _check_upstream(path: KeyPath, upstream: UpstreamConfig, config: Config) -> Iterator[Complaint]:
    template = config.gateway.template_tokens
    if 0 < upstream.context_tokens <= template:
        yield Complaint(
            (*path, "context_tokens"),
            f"is {upstream.context_tokens}, which gateway.template_tokens ({template}) alone fills; "
            "give the model's whole context, or 0 if it is not known",
            (("gateway", "template_tokens"),),
        )
    if fault := url_fault(upstream.url):
        yield Complaint((*path, "url"), fault)
    if upstream.served_by and upstream.served_by not in config.subsystems:
        suggestion = _suggest(upstream.served_by, config.subsystems)
        text = f"names {upstream.served_by}, which is not a subsystem; {suggestion}"
        yield Complaint((*path, "served_by"), text)
    if upstream.server and server_named(upstream.server) is None:
        kinds = ", ".join(sorted(SERVERS))
        text = f"is {upstream.server}, which is no kind of server that epad knows; give one of {kinds}"
        yield Complaint((*path, "server"), text)
    first, *others = [
        key for key in ("api_key_file", "api_key_credential", "api_key_secret") if getattr(upstream, key)
    ] or [""]
    for other in others:
        yield Complaint((*path, other), f"is set, and {first} too; give one of them", ((*path, first),))
    if upstream.api_key_file:
        complaint = _check_key_file(Path(upstream.api_key_file))
        if complaint:
            yield Complaint((*path, "api_key_file"), complaint)


def _check_key_file(file: Path) -> str:
    if not file.is_absolute():
        return f"is {file}, a relative path; give it from the root"
    if not os.access(file, os.R_OK):
        return f"is {file}, which is not there or cannot be read; give it to the daemon's user, mode 0400"
    if not file.is_file() or file.stat().st_size == 0:
        return f"is {file}, which is not a file with a key in it; write the key into it"
    return ""


def _check_subsystem(path: KeyPath, subsystem: SubsystemConfig, config: Config) -> Iterator[Complaint]:
    kind, command = (*path, "kind"), (*path, "command")
    if subsystem.kind == "process" and not subsystem.command:
        text = 'is missing; give the program and its arguments, or kind = "client"'
        yield Complaint(command, text, (kind,))
    if subsystem.kind != "process" and subsystem.command:
        text = f'is set, but a {subsystem.kind} has no process of epad\'s; take it out, or kind = "process"'
        yield Complaint(command, text, (kind,))
    yield from _check_unit(path, subsystem)
    if path[-1] in RESERVED_NAMES:
        text = f"may not be called {path[-1]}: findings about the machine itself bear that name; take another"
        yield Complaint(path, text)
    if config.tools.enabled and path[-1].startswith(CATEGORY_PREFIX):
        text = f"may not be called {path[-1]} while [tools] is enabled: categories of tools are held by such names"
        yield Complaint(path, text)
    if subsystem.serves and subsystem.serves not in config.upstreams:
        text = f"names {subsystem.serves}, which is not in [upstreams]; {_suggest(subsystem.serves, config.upstreams)}"
        yield Complaint((*path, "serves"), text)
    if subsystem.workspace_labels and not config.tools.enabled:
        text = "is set, but [tools] is not enabled, and without tools no labels are kept: enable it, or take this out"
        yield Complaint((*path, "workspace_labels"), text, (("tools", "enabled"),))
    yield from _check_memory(path, subsystem)
    yield from _check_health(path, subsystem)
    yield from _check_state((*path, "state"), subsystem)
    for name in subsystem.depends_on:
        if name not in config.subsystems:
            text = f"names {name}, which is not a subsystem; {_suggest(name, config.subsystems)}"
            yield Complaint((*path, "depends_on"), text)


def _check_memory(path: KeyPath, subsystem: SubsystemConfig) -> Iterator[Complaint]:
    """Limits of something that has processes, the milder one below the other, and in no forgotten unit."""
    most, high = size_bytes(subsystem.memory_max), size_bytes(subsystem.memory_high)
    for key, size in (("memory_max", most), ("memory_high", high)):
        if size and subsystem.kind == "client":
            text = "is set, but a client has no process here; take it out"
            yield Complaint((*path, key), text, ((*path, "kind"),))
        elif 0 < size < _LEAST_MEMORY_BYTES:
            text = f'is {size} bytes, in which no program runs; give it a unit, as in "4GiB"'
            yield Complaint((*path, key), text)
    if 0 < most < high:
        text = f"is {subsystem.memory_high}, above memory_max, which is {subsystem.memory_max}; lower it or raise that"
        yield Complaint((*path, "memory_high"), text, ((*path, "memory_max"),))


def _check_health(path: KeyPath, subsystem: SubsystemConfig) -> Iterator[Complaint]:
    """Check that a subsystem has one way to be asked, is one epad can restart, and that its policy allows a restart."""
    ways = [(*path, "health", way) for way in subsystem.health.ways]
    if len(ways) > 1:
        text = f"is set, and {key_text(ways[0])} too; one way to ask is enough: take one of them out"
        yield Complaint(ways[1], text, (ways[0],))
    if subsystem.health.http and (fault := url_fault(subsystem.health.http)):
        yield Complaint((*path, "health", "http"), fault)
    if ways and subsystem.kind == "client":
        text = 'is set, but a client has no process to be well; take it out, or kind = "process"'
        yield Complaint(ways[0], text, ((*path, "kind"),))
    if subsystem.restart.hung_seconds and subsystem.restart.policy == "never":
        text = "is set, but policy is never; set it to 0, or choose another policy"
        yield Complaint((*path, "restart", "hung_seconds"), text, ((*path, "restart", "policy"),))


def _check_unit(path: KeyPath, subsystem: SubsystemConfig) -> Iterator[Complaint]:
    """Yield a name of systemd's, for the one kind that has one."""
    name, unit = (*path, "unit"), subsystem.unit
    if subsystem.kind == "unit" and not re.fullmatch(r"[A-Za-z0-9:_.@\\-]{1,247}\.service", unit):
        text = f"is {unit!r}; give a service as systemctl names it, such as ollama.service"
        yield Complaint(
            name, text if unit else "is missing; give it, such as ollama.service", ((*path, "kind"),)
        )
    if subsystem.kind == "unit" and unit in {"epad.service", "dbus.service"}:
        yield Complaint(name, f"is {unit}, which epad itself needs; a hold would be its own end")
    if subsystem.kind != "unit" and unit:
        yield Complaint(name, 'is set, but only kind = "unit" has one; set it, or take this out')


def _check_state(path: KeyPath, subsystem: SubsystemConfig) -> Iterator[Complaint]:
    """Check that each part has its own place in a checkpoint, below the subsystem's directory if not absolute."""
    state = subsystem.state
    for key in ("files", "directories", "databases"):
        for file in getattr(state, key):
            if not file or ".." in Path(file).parts:
                text = f'has "{file}"; give paths below the subsystem\'s own directory, or from the root'
                yield Complaint((*path, key), text)
                return
    fault = name_fault(
        subsystem_file("x", file) for file in (*state.files, *state.databases, *state.directories)
    )
    if fault:
        yield Complaint(path, f"{fault}; name each part once, and none that lies inside another")
    if state.checkpoint_signal and subsystem.kind == "client":
        text = "is set, but a client has no process; take it out"
        yield Complaint((*path, "checkpoint_signal"), text)


def _check_datastores(config: Config) -> Iterator[Complaint]:
    paths: dict[str, str] = {}
    for name, store in config.datastores.items():
        path: KeyPath = ("datastores", name)
        if store.subsystem and store.subsystem not in config.subsystems:
            suggestion = _suggest(store.subsystem, config.subsystems)
            text = f"names {store.subsystem}, which is not a subsystem; {suggestion}"
            yield Complaint((*path, "subsystem"), text)
        writer = config.subsystems.get(store.subsystem)
        if store.restore and (not store.subsystem or (writer is not None and writer.kind == "client")):
            text = "needs subsystem to name one that epad can stop: nothing is replaced under its writer"
            yield Complaint((*path, "restore"), text)
        other = paths.setdefault(store.path, name)
        if other != name:
            text = f"is {store.path}, which datastores.{other} has too; take one of them out"
            yield Complaint((*path, "path"), text)


def _check_cycles(config: Config) -> Iterator[Complaint]:
    """Report one cycle among the dependencies; the next shows when it is cut."""
    graph = {
        name: {other for other in subsystem.depends_on if other in config.subsystems}
        for name, subsystem in config.subsystems.items()
    }
    try:
        graphlib.TopologicalSorter(graph).prepare()
    except graphlib.CycleError as error:
        # The cycle runs from a dependency to what depends on it; people read it the other way round.
        cycle: list[str] = error.args[1][::-1]
        text = f"is a circle: {' needs '.join(cycle)}; take one of them out"
        yield Complaint(("subsystems", cycle[0], "depends_on"), text)


def _suggest(name: str, known: Iterable[str]) -> str:
    nearest = difflib.get_close_matches(name, sorted(known), n=1)
    return f"did you mean {nearest[0]}?" if nearest else f"there are: {', '.join(sorted(known)) or 'none'}"
