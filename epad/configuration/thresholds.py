"""The probes' thresholds, made from the configuration; and what is wrong with those that no probe would take."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
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
from epad.configuration.toml_lines import KeyPath
from probes.alerts import AlertThresholds
from probes.cascade import CascadeThresholds
from probes.conversation import ConversationThresholds
from probes.host import HostThresholds
from probes.memory import MemoryThresholds
from probes.progress import ProgressThresholds
from probes.token_burn import BurnWindow, TokenBurnThresholds
from probes.vram import VramThresholds
from statemachine.assessor import Hysteresis
from statemachine.finding import Severity

# How a probe says what is wrong: the key, its value if that is not all there is to say, and the rest.
_REFUSAL = re.compile(r"(?P<key>probes(?:\.[\w-]+)+)(?: \((?P<value>[^)]*)\))? (?P<rest>.*)", re.DOTALL)


def token_burn_thresholds(config: TokenBurnConfig) -> TokenBurnThresholds:
    """The thresholds of every detector. Raises ValueError for one that could never be reached."""
    burn = {name: BurnWindow(**_fields(window)) for name, window in config.burn.items()}
    return TokenBurnThresholds(**{**_settings(config), "burn": burn})


def conversation_thresholds(config: ConversationConfig) -> ConversationThresholds:
    """Raises ValueError."""
    return ConversationThresholds(**_settings(config))


def progress_thresholds(config: ProgressConfig) -> ProgressThresholds:
    """Raises ValueError."""
    return ProgressThresholds(**_settings(config))


def cascade_thresholds(config: CascadeConfig) -> CascadeThresholds:
    """Raises ValueError."""
    return CascadeThresholds(**_settings(config))


def vram_thresholds(config: VramConfig) -> VramThresholds:
    """All but where the devices are looked for. Raises ValueError."""
    return VramThresholds(**{name: value for name, value in _settings(config).items() if name != "root"})


def host_thresholds(config: HostConfig) -> HostThresholds:
    """Raises ValueError."""
    return HostThresholds(**_settings(config))


def memory_thresholds(config: MemoryConfig) -> MemoryThresholds:
    """Raises ValueError."""
    return MemoryThresholds(**_settings(config))


def alert_thresholds(config: AlertsConfig) -> AlertThresholds:
    """With each severity as a finding has it."""
    severities = {label: Severity[name.upper()] for label, name in config.severities.items()}
    return AlertThresholds(config.interval_seconds, config.forget_seconds, severities)


def hysteresis(config: HysteresisConfig) -> Hysteresis:
    """Raises ValueError."""
    return Hysteresis(**_fields(config))


def check_thresholds(probes: ProbesConfig) -> Iterator[Complaint]:
    """What a probe would refuse, each at its key: the first of every probe."""
    made: list[Callable[[], object]] = [
        lambda: token_burn_thresholds(probes.token_burn),
        lambda: conversation_thresholds(probes.conversation),
        lambda: progress_thresholds(probes.progress),
        lambda: cascade_thresholds(probes.cascade),
        lambda: vram_thresholds(probes.vram),
        lambda: host_thresholds(probes.host),
        lambda: memory_thresholds(probes.memory),
        lambda: alert_thresholds(probes.alerts),
    ]
    for make in made:
        try:
            make()
        except ValueError as error:
            yield _complaint(str(error), probes)


def _complaint(refusal: str, probes: ProbesConfig) -> Complaint:
    """Tell the key from the words; the other keys of the table that are named may be at fault as well."""
    found = _REFUSAL.fullmatch(refusal)
    if found is None:
        return Complaint(("probes",), refusal)
    key: KeyPath = tuple(found["key"].split("."))
    known = _fields(getattr(probes, key[1])) if len(key) > 2 else {}
    others = tuple((*key[:2], word) for word in re.findall(r"\w+", found["rest"]) if word in known)
    text = f"is {found['value']}, and {found['rest']}" if found["value"] else found["rest"]
    return Complaint(key, text, others)


def _settings(struct: object) -> dict[str, Any]:
    """What the probe itself goes by; whether its findings hold anybody is decided where they are absorbed."""
    return {name: value for name, value in _fields(struct).items() if name != "enforce"}


def _fields(struct: object) -> dict[str, Any]:
    names: tuple[str, ...] = getattr(struct, "__struct_fields__")  # noqa: B009  msgspec's own list
    return {name: getattr(struct, name) for name in names}
