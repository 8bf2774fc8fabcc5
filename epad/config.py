"""The configuration as typed, immutable values. Reading it from files is `epad/config_load.py`.

Every default and its reason stands in `epad/default.toml`, which is always the lowest layer; so the types
here carry bounds, not defaults, except where absence has a meaning of its own.
"""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta, Struct

Seconds = Annotated[float, Meta(gt=0)]
Ratio = Annotated[float, Meta(ge=0, le=1)]
Count = Annotated[int, Meta(ge=1)]
Name = Annotated[str, Meta(pattern=r"^[a-z][a-z0-9_-]{0,31}$")]
Address = Annotated[str, Meta(pattern=r"^(\[[0-9a-fA-F:]+\]|[^:/\s]+):\d{1,5}$")]
RungName = Literal["open", "throttle", "block", "freeze", "stop"]


class DaemonConfig(Struct, frozen=True, forbid_unknown_fields=True):
    """Where the daemon keeps what it keeps, and how it talks about it."""

    state_directory: str
    runtime_directory: str
    log_format: Literal["auto", "console", "json", "journal"]
    log_level: Literal["debug", "info", "warning", "error"]
    tick_seconds: Seconds
    shutdown_seconds: Seconds


class ControlConfig(Struct, frozen=True, forbid_unknown_fields=True):
    """The Unix socket that `epactl` speaks to."""

    operator_group: str


class MetricsConfig(Struct, frozen=True, forbid_unknown_fields=True):
    """The Prometheus endpoint; an empty `listen` turns it off."""

    listen: str


class GatewayConfig(Struct, frozen=True, forbid_unknown_fields=True):
    """The one way to a model."""

    listen: Address
    max_body_bytes: Count
    max_in_flight: Count
    default_output_tokens: Count
    max_output_tokens: Count
    template_tokens: Annotated[int, Meta(ge=0)]
    connect_seconds: Seconds
    idle_seconds: Seconds
    write_seconds: Seconds


class LedgerConfig(Struct, frozen=True, forbid_unknown_fields=True):
    """The turn ledger's writer and its verification."""

    batch_turns: Count
    waiting_turns: Count
    tail_check_records: Count
    scrub_records_per_second: Count
    keep_payloads: bool


class PolicyConfig(Struct, frozen=True, forbid_unknown_fields=True):
    """The thresholds of `statemachine.situation.Limits`."""

    dwell_seconds: Seconds
    quarantine_limit_seconds: Seconds
    verify_seconds: Seconds
    recovery_attempts: Count
    recovery_limit_seconds: Seconds
    recoveries_per_hour: Count
    attempts_per_subsystem: Count


class HysteresisConfig(Struct, frozen=True, forbid_unknown_fields=True):
    """The rule of `statemachine.assessor.Hysteresis` for one probe."""

    raise_after: Count
    out_of: Count
    clear_after_seconds: Seconds
    flap_window_seconds: Seconds
    flap_hold_max_seconds: Seconds


class TokenBurnConfig(Struct, frozen=True, forbid_unknown_fields=True):
    """When spending is a runaway."""

    interval_seconds: Seconds
    window_seconds: Seconds
    identical_prompts: Count
    warn_ratio: Ratio


class ProgressConfig(Struct, frozen=True, forbid_unknown_fields=True):
    """When burning tokens without progress is a stall."""

    interval_seconds: Seconds
    stall_seconds: Seconds
    min_tokens: Count


class LedgerIntegrityConfig(Struct, frozen=True, forbid_unknown_fields=True):
    """How often the ledger is read back."""

    interval_seconds: Seconds


class VramConfig(Struct, frozen=True, forbid_unknown_fields=True):
    """How full a GPU may be, and how long a driver call may take."""

    interval_seconds: Seconds
    timeout_seconds: Seconds
    warn_ratio: Ratio
    limit_ratio: Ratio


class CascadeConfig(Struct, frozen=True, forbid_unknown_fields=True):
    """How many crashes are too many."""

    interval_seconds: Seconds
    window_seconds: Seconds
    crashes: Count
    subsystems: Count


class ProbesConfig(Struct, frozen=True, forbid_unknown_fields=True):
    """One table a probe."""

    token_burn: TokenBurnConfig
    progress: ProgressConfig
    ledger_integrity: LedgerIntegrityConfig
    vram: VramConfig
    cascade: CascadeConfig


class CheckpointConfig(Struct, frozen=True, forbid_unknown_fields=True):
    """How many checkpoints are kept, and how long making one may take."""

    keep: Count
    deadline_seconds: Seconds


class ScheduleConfig(Struct, frozen=True, forbid_unknown_fields=True):
    """Wall-clock jobs, as five-field cron expressions; empty turns one off."""

    nightly_verify: str
    checkpoint: str


class UpstreamConfig(Struct, frozen=True, forbid_unknown_fields=True):
    """A model server. `models` are glob patterns; the first upstream that matches serves a model."""

    url: Annotated[str, Meta(pattern=r"^(https?://[^\s]+|unix:/[^\s]+)$")]
    dialects: Annotated[tuple[Literal["openai", "ollama"], ...], Meta(min_length=1)]
    models: Annotated[tuple[str, ...], Meta(min_length=1)] = ("*",)
    api_key_file: str = ""
    context_tokens: Annotated[int, Meta(ge=0)] = 0
    embedded: bool = False


class BudgetConfig(Struct, frozen=True, forbid_unknown_fields=True):
    """What a subsystem may spend; 0 means no limit."""

    tokens_per_minute: Annotated[int, Meta(ge=0)] = 0
    tokens_per_hour: Annotated[int, Meta(ge=0)] = 0
    tokens_per_day: Annotated[int, Meta(ge=0)] = 0
    max_in_flight: Count = 8


class RestartConfig(Struct, frozen=True, forbid_unknown_fields=True):
    """When a process that ended is started again."""

    policy: Literal["always", "on-failure", "never"] = "on-failure"
    intensity: Count = 5
    period_seconds: Seconds = 60.0
    backoff_seconds: Seconds = 0.5
    backoff_max_seconds: Seconds = 60.0
    healthy_seconds: Seconds = 600.0
    success_exit_codes: tuple[Annotated[int, Meta(ge=0, le=255)], ...] = (0,)


class SubsystemConfig(Struct, frozen=True, forbid_unknown_fields=True):
    """One workload: the unit of isolation."""

    kind: Literal["process", "client"] = "process"
    command: tuple[str, ...] = ()
    environment: dict[str, str] = {}
    working_directory: str = ""
    essential: bool = False
    depends_on: tuple[Name, ...] = ()
    gateway: bool = True
    budget: BudgetConfig = BudgetConfig()
    restart: RestartConfig = RestartConfig()
    stop_seconds: Seconds = 10.0
    ready_seconds: Seconds = 30.0
    notifies: bool = True
    critical_files: tuple[str, ...] = ()


class Config(Struct, frozen=True, forbid_unknown_fields=True):
    """The whole configuration; equal values mean that nothing changed."""

    daemon: DaemonConfig
    control: ControlConfig
    metrics: MetricsConfig
    gateway: GatewayConfig
    ledger: LedgerConfig
    policy: PolicyConfig
    hysteresis: dict[Name, HysteresisConfig]
    containment: dict[Name, RungName]
    probes: ProbesConfig
    checkpoint: CheckpointConfig
    schedule: ScheduleConfig
    upstreams: dict[Name, UpstreamConfig] = {}
    subsystems: dict[Name, SubsystemConfig] = {}
