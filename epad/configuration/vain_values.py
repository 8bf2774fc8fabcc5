"""Values that can never take effect: nothing is wrong with them, and whoever wrote them believes in something else."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator
from datetime import UTC, datetime

from apscheduler.triggers.cron import CronTrigger

from epad.configuration.complaint import Complaint
from epad.configuration.confine_checks import vain_confine
from epad.configuration.schema import Config, LimitsConfig, SubsystemConfig
from epad.configuration.toml_lines import KeyPath
from epad.runtime.environment_marks import INSTANCE_MARK, STATE_MARK, SUBSYSTEM_MARK

_WINDOWS = ("minute", "hour", "day", "month", "in_all")
_OWN_VARIABLES = frozenset({STATE_MARK, SUBSYSTEM_MARK, INSTANCE_MARK, "NOTIFY_SOCKET", "WATCHDOG_USEC"})
# What is only asked of a process that epad starts itself.
_OF_PROCESSES = ("environment", "pass_env", "working_directory", "restart", "log", "notifies", "stop_seconds")
_OF_UNITS = frozenset({"restart", "stop_seconds"})  # told of elsewhere where they matter to a unit
_NAME = re.compile(r"[A-Za-z_*?\[][\w*?\[\]!-]*")


def vain_check(config: Config) -> Iterator[Complaint]:
    """Yield every key that is set and changes nothing."""
    for name, spec in config.subsystems.items():
        yield from _of_subsystem(("subsystems", name), spec, config)
    for name, group in config.groups.items():
        yield from _windows(("groups", name, "budget"), group.budget)
        if not any(spec.group == name for spec in config.subsystems.values()):
            yield Complaint(("groups", name), "has no subsystem in it; name it in [subsystems.NAME] group")
    for name, budget in config.budgets.items():
        yield from _windows(("budgets", name), budget)
    for name, upstream in config.upstreams.items():
        for pattern in upstream.models:
            if not pattern.strip() or pattern.startswith("^") or pattern.endswith("$") or "\\" in pattern:
                text = f"holds {pattern!a}, which no model is called: a pattern has * and ?, as files have"
                yield Complaint(("upstreams", name, "models"), text)
    yield from _hosts(config)
    yield from _schedule(config)


def _of_subsystem(path: KeyPath, spec: SubsystemConfig, config: Config) -> Iterator[Complaint]:
    yield from _windows((*path, "budget"), spec.budget)
    plain = SubsystemConfig()
    if not spec.gateway and spec.budget != plain.budget:
        yield Complaint((*path, "budget"), "is set, but gateway is false: it asks no model through epad")
    most = config.gateway.max_in_flight
    if plain.budget.max_in_flight != spec.budget.max_in_flight > most:
        text = (
            f"is {spec.budget.max_in_flight}, above gateway.max_in_flight, which is {most}: that is met first"
        )
        yield Complaint((*path, "budget", "max_in_flight"), text)
    if spec.confine is not None:
        yield from vain_confine((*path, "confine"), spec.confine)
    if spec.kind != "process":
        for key in _OF_PROCESSES:
            if getattr(spec, key) != getattr(plain, key) and not (spec.kind == "unit" and key in _OF_UNITS):
                yield Complaint((*path, key), f"is set, but it is a {spec.kind}: epad does not start it")
    for variable in sorted(_OWN_VARIABLES & spec.environment.keys()):
        yield Complaint((*path, "environment", variable), "is set, but epad gives it a value of its own")
    for pattern in spec.pass_env:
        if not _NAME.fullmatch(pattern):
            text = f"holds {pattern!a}, which no variable is called: give names, such as HF_TOKEN or MY_*"
            yield Complaint((*path, "pass_env"), text)


def _windows(path: KeyPath, limits: LimitsConfig) -> Iterator[Complaint]:
    """A limit that is not below that of a longer time is never met: the other is, sooner or at once."""
    for unit in ("tokens", "usd"):
        names = [f"{unit}_{window if window == 'in_all' else f'per_{window}'}" for window in _WINDOWS]
        given = [(name, value) for name in names if (value := getattr(limits, name))]
        for (short, value), (long, limit) in itertools.pairwise(given):
            if value > limit:
                text = f"is {value:,}, above {long}, which is {limit:,}: that is met first; lower it or raise that"
                yield Complaint((*path, short), text)


def _hosts(config: Config) -> Iterator[Complaint]:
    tables = {"gateway": config.gateway.hosts, "metrics": config.metrics.hosts, "web": config.web.hosts}
    for table, hosts in tables.items():
        for host in hosts:
            if "/" in host or "*" in host or re.search(r":\d+$", host) or host != host.strip():
                text = f"holds {host!a}, which no request is for: give names alone, as in gpu.example.org"
                yield Complaint((table, "hosts"), text)


def _schedule(config: Config) -> Iterator[Complaint]:
    for key in config.schedule.__struct_fields__:
        expression: str = getattr(config.schedule, key)
        if not expression:
            continue
        trigger = CronTrigger.from_crontab(expression, timezone=UTC)
        if trigger.get_next_fire_time(None, datetime.now(UTC)) is None:
            text = f'is "{expression}", a day that never comes; correct it, or "" turns it off'
            yield Complaint(("schedule", key), text)
