"""A run's configuration: a TOML file, the command line over it, and epad's environment where neither says."""

from __future__ import annotations

import argparse
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any, Final

import msgspec

from runners.contract import Contract
from runners.wargame.endpoint.endpoint import DEFAULT_MAX_IN_FLIGHT, Dialect, Endpoint, Structured
from runners.wargame.roles import EMBEDDED_ATTACKER, EMBEDDED_TEACHER, ROLES, Role
from runners.wargame.scenario.grammar import Split
from runners.wargame.scenario.library import digest, load_grammar
from runners.wargame.settings import Limits, Settings

DEFAULT_ENDPOINT: Final = "default"
GATEWAY_MAX_IN_FLIGHT: Final = 8
"""What epad lets a subsystem have in flight unless its budget says otherwise; finding that out by refusals would
look to epad like a runaway."""


class ConfigurationError(Exception):
    """The configuration cannot be used; the message names file, key and fix."""


class EndpointEntry(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`[endpoints.NAME]`: one server."""

    url: str
    dialect: Dialect = "openai"
    key_env: str = ""
    structured: Structured = "json_schema"
    max_in_flight: int = DEFAULT_MAX_IN_FLIGHT
    start_in_flight: int = 4
    loaded_models: int = 0
    context_tokens: int = 0


class ModelEntry(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`[attacker]`, `[target]` and `[teacher]`: a model and where it is asked."""

    model: str
    endpoint: str = ""
    sees_label: bool = True


class RoleEntry(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Types `[roles.NAME]`: a missing key keeps its shipped value."""

    model: str | None = None
    endpoint: str = ""
    weight: float | None = None
    instruction: str | None = None


class RunEntry(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Types `[run]`: the settings that identify a run."""

    seed: int = 1
    quorum: int = 3
    threshold: float = 0.5
    false_alarm_ceiling: float = 0.05
    splits: tuple[Split, ...] = ("calibrate", "evaluate")
    scenarios: tuple[str, ...] = ()
    verdict_tokens: int = 96
    turn_tokens: int = 400


class File(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The whole file."""

    endpoints: dict[str, EndpointEntry] = {}
    attacker: ModelEntry = ModelEntry(EMBEDDED_ATTACKER)
    target: ModelEntry = ModelEntry("")
    teacher: ModelEntry = ModelEntry(EMBEDDED_TEACHER)
    roles: dict[str, RoleEntry] = {}
    run: RunEntry = RunEntry()
    limits: dict[str, float] = {}


@dataclass(frozen=True, slots=True)
class Plan:
    """Holds everything a command needs before it opens anything. No endpoint: embedded models answer."""

    settings: Settings
    limits: Limits
    endpoints: tuple[Endpoint, ...]
    attacker_endpoint: str
    teacher: ModelEntry
    scenarios: tuple[Path, ...]

    @property
    def url(self) -> str:
        return ", ".join(endpoint.base_url for endpoint in self.endpoints)


def resolve(options: argparse.Namespace, environment: Mapping[str, str] = os.environ) -> Plan:
    """Lay the command line over the file. Raises ConfigurationError."""
    file = _read(options.config)
    if options.base_url and file.endpoints:
        raise ConfigurationError(f"{options.config} has endpoints of its own: leave --base-url out")
    scenarios = tuple(Path(name) for name in options.scenarios or file.run.scenarios)
    settings = Settings(
        seed=file.run.seed if options.seed is None else options.seed,
        attacker_model=options.attacker_model or file.attacker.model,
        target_model=file.target.model,
        roles=_roles(file, options),
        scenarios=_digest(scenarios),
        loose_families=load_grammar(scenarios).loose_families if scenarios else (),
        splits=("train", *file.run.splits) if options.include_train else file.run.splits,
        quorum=file.run.quorum,
        threshold=file.run.threshold,
        false_alarm_ceiling=file.run.false_alarm_ceiling,
        verdict_tokens=file.run.verdict_tokens,
        turn_tokens=file.run.turn_tokens,
    )
    plan = Plan(
        settings,
        _limits(file, options),
        _endpoints(file, options, environment),
        file.attacker.endpoint,
        file.teacher,
        scenarios,
    )
    _check(plan, file)
    return plan


def _read(path: Path | None) -> File:
    if path is None:
        return File()
    try:
        return msgspec.toml.decode(path.read_bytes(), type=File)
    except (OSError, msgspec.DecodeError, msgspec.ValidationError) as error:
        raise ConfigurationError(f"{path}: {error}") from error


def _digest(paths: tuple[Path, ...]) -> str:
    try:
        return digest(paths)
    except OSError as error:
        raise ConfigurationError(f"scenarios: {error}") from error


def _roles(file: File, options: argparse.Namespace) -> tuple[Role, ...]:
    models, weights = dict(options.role_model), dict(options.role_weight)
    roles = []
    for role in ROLES:
        entry = file.roles.get(role.name, RoleEntry())
        roles.append(
            replace(
                role,
                model=models.get(role.name) or options.defender_model or entry.model or role.model,
                weight=float(weights.get(role.name, role.weight if entry.weight is None else entry.weight)),
                instruction=entry.instruction or role.instruction,
                endpoint=entry.endpoint,
            )
        )
    return tuple(roles)


def _limits(file: File, options: argparse.Namespace) -> Limits:
    known = {field.name for field in fields(Limits)}
    if strange := sorted(file.limits.keys() - known):
        raise ConfigurationError(f"limits: no such limit {strange}; there are {sorted(known)}")
    values: dict[str, Any] = asdict(Limits()) | file.limits
    values |= {name: given for name in known if (given := getattr(options, name, None)) is not None}
    for name in ("retries", "attempts_per_round", "replays_per_round", "breaker_failures"):
        values[name] = int(values[name])
    values["connect_seconds"] = min(values["connect_seconds"], values["call_seconds"])
    return Limits(**values)


def _endpoints(
    file: File, options: argparse.Namespace, environment: Mapping[str, str]
) -> tuple[Endpoint, ...]:
    if file.endpoints:
        return tuple(_endpoint(name, entry, environment) for name, entry in file.endpoints.items())
    contract = Contract.from_environment(environment)
    url = options.base_url or contract.openai_base_url
    if not url:
        return ()
    key = options.api_key or ("" if options.base_url else contract.gateway_key)
    most = options.max_in_flight or (DEFAULT_MAX_IN_FLIGHT if options.base_url else GATEWAY_MAX_IN_FLIGHT)
    return (Endpoint(DEFAULT_ENDPOINT, url, key, max_in_flight=most),)


def _endpoint(name: str, entry: EndpointEntry, environment: Mapping[str, str]) -> Endpoint:
    values = msgspec.structs.asdict(entry)
    url, variable = values.pop("url"), values.pop("key_env")
    if variable and variable not in environment:
        raise ConfigurationError(f"endpoints.{name}.key_env: the environment has no {variable}")
    return Endpoint(name, url, environment.get(variable, ""), **values)


def _check(plan: Plan, file: File) -> None:
    names = {endpoint.name for endpoint in plan.endpoints} | {""}
    used = {f"roles.{role.name}": role.endpoint for role in plan.settings.roles}
    used |= {"attacker": file.attacker.endpoint, "teacher": file.teacher.endpoint}
    for place, name in used.items():
        if name not in names:
            raise ConfigurationError(
                f"{place}.endpoint: no endpoint {name!r}; there are {sorted(names - {''})}"
            )
    if strange := sorted(file.roles.keys() - {role.name for role in ROLES}):
        raise ConfigurationError(f"roles: no such role {strange}; there are {[role.name for role in ROLES]}")
    if not 1 <= plan.settings.quorum <= len(ROLES):
        raise ConfigurationError(f"run.quorum: must be 1 to {len(ROLES)}, not {plan.settings.quorum}")
    if not 0 < plan.settings.false_alarm_ceiling < 1:
        raise ConfigurationError("run.false_alarm_ceiling: must be above 0 and below 1")
    limits = plan.limits
    if not 0 < limits.connect_seconds <= limits.call_seconds <= limits.round_seconds:
        raise ConfigurationError("limits: call_seconds must be above 0, and round_seconds not below it")
