"""Say which table confines a subsystem."""

from __future__ import annotations

from collections.abc import Iterator

from epad.configuration.confine_schema import ConfineConfig
from epad.configuration.schema import Config


def confine_of(name: str, config: Config) -> ConfineConfig:
    """Return the table that holds for a subsystem: its own, else as `[confine] default` says."""
    spec = config.subsystems[name]
    if spec.confine is not None:
        return spec.confine
    confined = spec.kind == "process" and config.confine.default == "workspace"
    return ConfineConfig(profile="workspace" if confined else "open")


def unconfined(config: Config) -> Iterator[str]:
    """Yield a line for each subsystem whose process has no walls."""
    for name, spec in config.subsystems.items():
        if spec.kind == "process" and confine_of(name, config).profile == "open":
            yield (
                f"not confined: {name} reaches every host, and all files of its user; "
                f"[subsystems.{name}.confine] puts walls around it"
            )
