"""The configuration of a dry daemon: the same subsystems, and nothing by which they could reach the real one.

Pure. It gives this up: upstreams are a stub, `unit` and `client` subsystems are left alone, and a health check that
asks a model for a token is not run.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from pathlib import Path

from msgspec.structs import replace

from epad.configuration.schema import Config, HealthConfig, RestartConfig, SubsystemConfig, UpstreamConfig

STOP_SECONDS = 5.0
# The trial itself says when a process has had its time; the supervisor of the dry daemon never does.
_FOREVER_SECONDS = 1e6
_THIS_HOST = ("127.0.0.1", "localhost", "0.0.0.0", "[::1]", "[::]")  # noqa: S104  names in texts, not bound


def dry(config: Config, stub: str, gateway: str, work: Path, left_alone: Collection[str] = ()) -> Config:
    """Return the configuration that a dry daemon runs on.

    `stub` is the URL of the answering stub, `gateway` the address to listen on. `work` holds the directories of the
    real subsystems, where a relative command is found. `left_alone` are processes that must not be started.
    """
    subsystems = {
        name: _subsystem(spec, config.gateway.listen, gateway, work / name, start=name not in left_alone)
        for name, spec in config.subsystems.items()
    }
    return replace(
        config,
        daemon=replace(config.daemon, state_directory="", runtime_directory="", engine="plain"),
        control=replace(config.control, operator_group=""),
        metrics=replace(config.metrics, listen=""),
        web=replace(config.web, listen=""),
        # No token is spent here, so nothing is refused for the cost that it might have.
        gateway=replace(config.gateway, listen=gateway, unknown_fields="pass"),
        upstreams={name: _upstream(spec, stub) for name, spec in config.upstreams.items()},
        datastores={},
        subsystems=subsystems,
    )


def _upstream(upstream: UpstreamConfig, stub: str) -> UpstreamConfig:
    return replace(
        upstream,
        url=stub,
        api_key_file="",
        api_key_credential="",
        api_key_secret="",
        served_by="",
        tokenizer="",
    )


def _subsystem(
    spec: SubsystemConfig, listen: str, gateway: str, work: Path, *, start: bool
) -> SubsystemConfig:
    if spec.kind != "process" or not start:
        return SubsystemConfig(kind="client", gateway=spec.gateway, budget=spec.budget)
    program, *words = spec.command or ("",)
    if "/" in program and not spec.working_directory and not Path(program).is_absolute():
        program = str(work / program)
    return replace(
        spec,
        command=tuple(_led_to(word, listen, gateway) for word in (program, *words)),
        environment={name: _led_to(value, listen, gateway) for name, value in spec.environment.items()},
        health=HealthConfig() if spec.health.inference else spec.health,
        restart=RestartConfig(policy="never", success_exit_codes=spec.restart.success_exit_codes),
        listen="",
        ready_seconds=_FOREVER_SECONDS,
        stop_seconds=min(spec.stop_seconds, STOP_SECONDS),
    )


def _led_to(text: str, listen: str, gateway: str) -> str:
    """Put the dry gateway's address where a text names the real one's."""
    host, _, port = listen.rpartition(":")
    if not port.isdecimal() or int(port) == 0:
        return text
    names = "|".join(re.escape(name) for name in (host, *_THIS_HOST))
    return re.sub(rf"(?<![\w.-])(?:{names}):{port}(?!\d)", gateway, text)
