"""Build the probes' thresholds from the configuration, and report those that no probe accepts."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from types import MappingProxyType
from typing import Any

from epad.configuration.complaint import Complaint
from epad.configuration.probe_schema import (
    AlertsConfig,
    CascadeConfig,
    ConversationConfig,
    HostConfig,
    MemoryConfig,
    ProbesConfig,
    ProgressConfig,
    TokenBurnConfig,
    VramConfig,
)
from epad.configuration.schema import HysteresisConfig
from probes.alerts import AlertsSettings
from probes.bounds import BoundError
from probes.cascade import CascadeSettings
from probes.conversation import ConversationSettings
from probes.host import HostSettings
from probes.memory import MemorySettings
from probes.progress import ProgressSettings
from probes.token_burn import BurnWindow, TokenBurnSettings
from probes.vram import VramSettings
from statemachine.assessor import Hysteresis
from statemachine.finding import Severity


def token_burn_thresholds(config: TokenBurnConfig) -> TokenBurnSettings:
    """The thresholds of every detector. Raises BoundError for one that could never be reached."""
    burn = {name: BurnWindow(**_fields(window)) for name, window in config.burn.items()}
    return TokenBurnSettings(**{**_settings(config), "burn": burn})


def conversation_thresholds(config: ConversationConfig) -> ConversationSettings:
    """Raises BoundError."""
    return ConversationSettings(**_settings(config))


def progress_thresholds(config: ProgressConfig) -> ProgressSettings:
    """Raises BoundError."""
    return ProgressSettings(**_settings(config))


def cascade_thresholds(config: CascadeConfig) -> CascadeSettings:
    """Raises BoundError."""
    return CascadeSettings(**_settings(config))


def vram_thresholds(config: VramConfig) -> VramSettings:
    """Return every threshold but the places of the devices. Raises BoundError."""
    return VramSettings(**{name: value for name, value in _settings(config).items() if name != "root"})


def host_thresholds(config: HostConfig) -> HostSettings:
    """Raises BoundError."""
    return HostSettings(**_settings(config))


def memory_thresholds(config: MemoryConfig) -> MemorySettings:
    """Raises BoundError."""
    return MemorySettings(**_settings(config))


def alert_thresholds(config: AlertsConfig) -> AlertsSettings:
    """With each severity as a finding has it."""
    severities = {label: Severity[name.upper()] for label, name in config.severities.items()}
    return AlertsSettings(config.interval_seconds, config.forget_seconds, severities)


def hysteresis(config: HysteresisConfig) -> Hysteresis:
    """Raises ValueError."""
    return Hysteresis(**_fields(config))


MAKERS: Mapping[str, Callable[[Any], object]] = MappingProxyType(
    {
        "token_burn": token_burn_thresholds,
        "conversation": conversation_thresholds,
        "progress": progress_thresholds,
        "cascade": cascade_thresholds,
        "vram": vram_thresholds,
        "host": host_thresholds,
        "memory": memory_thresholds,
        "alerts": alert_thresholds,
    }
)
"""By the name of a probe's table: what makes its thresholds of it."""


def check_thresholds(probes: ProbesConfig) -> Iterator[Complaint]:
    """Yield the thresholds that a probe refuses, each at its key: the first of every probe."""
    for name, make in MAKERS.items():
        try:
            make(getattr(probes, name))
        except BoundError as error:
            table = ("probes", error.probe)
            others = tuple((*table, *key) for key in error.others)
            yield Complaint((*table, *error.key), f"is {error.value}, and {error.bound}", others)


def _settings(struct: object) -> dict[str, Any]:
    """Return the probe's own settings; enforcement is decided later, by those who absorb its findings."""
    return {name: value for name, value in _fields(struct).items() if name != "enforce"}


def _fields(struct: object) -> dict[str, Any]:
    names: tuple[str, ...] = getattr(struct, "__struct_fields__")  # noqa: B009  msgspec's own list
    return {name: getattr(struct, name) for name in names}
