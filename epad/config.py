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
Positive = Annotated[float, Meta(gt=0)]
RungName = Literal["open", "throttle", "block", "freeze", "release_vram", "stop"]
Tokens = Annotated[int, Meta(ge=0)]
Dollars = Annotated[float, Meta(ge=0, le=1e9)]  # in micro-USD this fits 53 bits, so it is exact
Listener = Annotated[str, Meta(pattern=r"^$|^unix:/\S+$|^(\[[0-9a-fA-F:]+\]|[^:/\s]+):\d{1,5}$")]

CheckUrl = Annotated[str, Meta(pattern=r"^$|^https?://\S+$")]
CheckAddress = Annotated[str, Meta(pattern=r"^$|^(\[[0-9a-fA-F:]+\]|[^:/\s]+):\d{1,5}$")]


class DaemonConfig(Struct, frozen=True, forbid_unknown_fields=True):
    """Where the daemon keeps what it keeps, and how it talks about it."""

    state_directory: str
    runtime_directory: str
    log_format: Literal["auto", "console", "json", "journal"]
    log_level: Literal["debug", "info", "warning", "error"]
    tick_seconds: Seconds
    shutdown_seconds: Seconds
    engine: Literal["auto", "plain", "systemd"] = "auto"


class ControlConfig(Struct, frozen=True, forbid_unknown_fields=True):
    """The Unix socket that `epactl` speaks to."""

    operator_group: str


class MetricsConfig(Struct, frozen=True, forbid_unknown_fields=True):
    """The Prometheus endpoint; an empty `listen` turns it off."""

    listen: str


class WebConfig(Struct, frozen=True, forbid_unknown_fields=True):
    """The status page; an empty `listen` turns it off."""

    listen: str
    orders: bool
    alerts: bool
    hosts: tuple[str, ...]


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
    anonymous: str
    refusals_before_close: Count
    idempotency_seconds: Seconds
    idempotency_bytes: Count


class LedgerConfig(Struct, frozen=True, forbid_unknown_fields=True):
    """The turn ledger's writer and its verification."""

    batch_turns: Count
    waiting_turns: Count
    tail_check_records: Count
    scrub_records_per_second: Count
    head_records: Count
    head_seconds: Seconds
    seal_records: Count
    seal_seconds: Seconds
    payloads: Literal["off", "hashed", "open", "kept"]
    payload_days: Seconds
    payload_bytes: Count


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


class BurnWindowConfig(Struct, frozen=True, forbid_unknown_fields=True):
    """A share of the day's budget within some seconds, and the rung that calls for."""

    seconds: Seconds
    day_share: Ratio
    rung: RungName


class TokenBurnConfig(Struct, frozen=True, forbid_unknown_fields=True):
    """When spending is a runaway: the thresholds of `probes.token_burn.TokenBurnThresholds`."""

    interval_seconds: Seconds
    window_seconds: Seconds
    warn_ratio: Ratio
    identical_prompts: Count
    duplicate_ratio: Ratio
    appended_loops: Count
    retry_warn_ratio: Ratio
    retry_ratio: Ratio
    error_ratio: Ratio
    min_calls: Count
    pile_up_ratio: Positive
    oldest_seconds: Seconds
    cusum_warn: Positive
    cusum_act: Positive
    cusum_history_minutes: Count
    cusum_patience_seconds: Seconds
    output_window_characters: Count
    output_windows: Count
    output_chunks: Count
    burn: dict[Name, BurnWindowConfig]
    rungs: dict[Name, RungName]


class ConversationConfig(Struct, frozen=True, forbid_unknown_fields=True):
    """When a conversation is unwell, or goes round in a loop."""

    interval_seconds: Seconds
    window_seconds: Seconds
    loop_repeats: Count
    stale_turns: Count
    max_conversations: Count
    rung: RungName


class ProgressConfig(Struct, frozen=True, forbid_unknown_fields=True):
    """When burning tokens without progress is a stall."""

    interval_seconds: Seconds
    stall_seconds: Seconds
    min_tokens: Count


class LivenessConfig(Struct, frozen=True, forbid_unknown_fields=True):
    """How soon a subsystem that hangs or has failed is found."""

    interval_seconds: Seconds


class LedgerIntegrityConfig(Struct, frozen=True, forbid_unknown_fields=True):
    """How often the ledger is read back."""

    interval_seconds: Seconds


class VramConfig(Struct, frozen=True, forbid_unknown_fields=True):
    """How full a GPU may be, how fast it may fill, and how long a driver call may take."""

    interval_seconds: Seconds
    timeout_seconds: Seconds
    warn_ratio: Ratio
    limit_ratio: Ratio
    growth_window_seconds: Seconds
    exhaustion_seconds: Seconds
    ghost_bytes: Count
    root: str


class HostConfig(Struct, frozen=True, forbid_unknown_fields=True):
    """When the machine itself, or the daemon on it, is in trouble.

    Free space is below a mark when it is so twice: as a share of the file system, and in bytes.
    """

    interval_seconds: Seconds
    memory_warn_ratio: Ratio
    memory_limit_ratio: Ratio
    io_warn_ratio: Ratio
    cpu_warn_ratio: Ratio
    disk_warn_ratio: Ratio
    disk_warn_bytes: Count
    disk_limit_ratio: Ratio
    disk_limit_bytes: Count
    disk_critical_ratio: Ratio
    disk_critical_bytes: Count
    inodes_warn_ratio: Ratio
    inodes_limit_ratio: Ratio
    lag_seconds: Seconds
    lag_settle_seconds: Seconds


class CascadeConfig(Struct, frozen=True, forbid_unknown_fields=True):
    """How many crashes are too many, and when a failed subsystem is the root of others' failing."""

    interval_seconds: Seconds
    window_seconds: Seconds
    crashes: Count
    subsystems: Count
    settle_seconds: Annotated[float, Meta(ge=0)]
    bad_looks: Count
    of_looks: Count
    good_looks: Count
    blast_ratio: Annotated[float, Meta(gt=0, le=1)]


class AlertsConfig(Struct, frozen=True, forbid_unknown_fields=True):
    """Alerts from Alertmanager, and what their severity label counts as."""

    interval_seconds: Seconds
    forget_seconds: Seconds
    severities: dict[str, Literal["ok", "warning", "anomaly", "critical"]]


class ProbesConfig(Struct, frozen=True, forbid_unknown_fields=True):
    """One table a probe."""

    token_burn: TokenBurnConfig
    conversation: ConversationConfig
    progress: ProgressConfig
    liveness: LivenessConfig
    ledger_integrity: LedgerIntegrityConfig
    vram: VramConfig
    host: HostConfig
    cascade: CascadeConfig
    alerts: AlertsConfig


class ReleaseVramConfig(Struct, frozen=True, forbid_unknown_fields=True):
    """How VRAM is taken back from a subsystem, and when that is enough."""

    request_seconds: Seconds
    settle_seconds: Seconds
    keep_ratio: Annotated[float, Meta(ge=0, lt=1)]
    sleep_level: Literal[1, 2]


class CheckpointConfig(Struct, frozen=True, forbid_unknown_fields=True):
    """How many checkpoints are kept, and how long making one may take."""

    keep: Count
    deadline_seconds: Seconds


class LifeboatConfig(Struct, frozen=True, forbid_unknown_fields=True):
    """The room held back for the last resort, and what the daemon does once everything is saved."""

    then: Literal["stay", "exit"]
    first_tier_bytes: Annotated[int, Meta(ge=65_536)]
    ballast_bytes: Annotated[int, Meta(ge=0)]


class RecoveryConfig(Struct, frozen=True, forbid_unknown_fields=True):
    """How messages that were lost in a crash are asked again."""

    replay_attempts: Annotated[int, Meta(ge=0, le=10)]
    replay_seconds: Seconds
    ready_seconds: Seconds


class ScheduleConfig(Struct, frozen=True, forbid_unknown_fields=True):
    """Wall-clock jobs, as five-field cron expressions; empty turns one off."""

    nightly_verify: str
    checkpoint: str


class UpstreamConfig(Struct, frozen=True, forbid_unknown_fields=True):
    """A model server. `models` are glob patterns; the first upstream that matches serves a model.

    `served_by` is the subsystem whose process it is; empty where it is none of ours.
    """

    url: Annotated[str, Meta(pattern=r"^(https?://[^\s]+|unix:/[^\s]+)$")]
    dialects: Annotated[tuple[Literal["openai", "ollama", "anthropic"], ...], Meta(min_length=1)]
    models: Annotated[tuple[str, ...], Meta(min_length=1)] = ("*",)
    api_key_file: str = ""
    api_key_credential: str = ""
    context_tokens: Annotated[int, Meta(ge=0)] = 0
    free: bool = False
    embedded: bool = False
    served_by: str = ""


class LimitsConfig(Struct, frozen=True, forbid_unknown_fields=True):
    """What may be spent; 0 means no limit. A month is the last 31 days, so no calendar month exceeds it."""

    tokens_per_minute: Tokens = 0
    tokens_per_hour: Tokens = 0
    tokens_per_day: Tokens = 0
    tokens_per_month: Tokens = 0
    tokens_in_all: Tokens = 0
    usd_per_minute: Dollars = 0.0
    usd_per_hour: Dollars = 0.0
    usd_per_day: Dollars = 0.0
    usd_per_month: Dollars = 0.0
    usd_in_all: Dollars = 0.0
    requests_per_minute: Annotated[int, Meta(ge=0)] = 0


class BudgetConfig(LimitsConfig, frozen=True, forbid_unknown_fields=True):
    """What a subsystem may spend."""

    max_in_flight: Count = 8


class SharedBudgetConfig(LimitsConfig, frozen=True, forbid_unknown_fields=True):
    """What several subsystems may spend together; each has its own cap of turns in flight beside this one."""

    max_in_flight: Annotated[int, Meta(ge=0)] = 0


class GroupConfig(Struct, frozen=True, forbid_unknown_fields=True):
    """Subsystems that share a budget, each within its own."""

    budget: SharedBudgetConfig = SharedBudgetConfig()


class PriceConfig(Struct, frozen=True, forbid_unknown_fields=True):
    """USD per million tokens. What is left out costs as `input`, or for reasoning as `output`."""

    input: Dollars
    output: Dollars
    cached_read: Dollars | None = None
    cache_write: Dollars | None = None
    reasoning: Dollars | None = None


class RestartConfig(Struct, frozen=True, forbid_unknown_fields=True):
    """When a process that ended is started again."""

    policy: Literal["always", "on-failure", "never"] = "on-failure"
    intensity: Count = 5
    period_seconds: Seconds = 60.0
    backoff_seconds: Seconds = 0.5
    backoff_max_seconds: Seconds = 60.0
    healthy_seconds: Seconds = 600.0
    hung_seconds: Annotated[float, Meta(ge=0)] = 0.0  # 0: a hung process is reported and left alone
    success_exit_codes: tuple[Annotated[int, Meta(ge=0, le=255)], ...] = (0,)


class HealthConfig(Struct, frozen=True, forbid_unknown_fields=True):
    """How to ask a subsystem whether it works: one of four ways, or none.

    `http` is a URL that must answer below 400, `tcp` an address that must take a connection, `command` a program
    that must exit with 0, `inference` a model that must give one token through the upstream that serves it.
    """

    http: CheckUrl = ""
    tcp: CheckAddress = ""
    command: tuple[str, ...] = ()
    inference: str = ""
    interval_seconds: Seconds = 10.0
    timeout_seconds: Seconds = 5.0
    failures: Count = 3

    @property
    def ways(self) -> tuple[str, ...]:
        """The ways that are configured; more than one is an error."""
        return tuple(way for way in ("http", "tcp", "command", "inference") if getattr(self, way))


class LogConfig(Struct, frozen=True, forbid_unknown_fields=True):
    """How much of a process's output is kept: the present file, and so many former ones."""

    max_bytes: Annotated[int, Meta(ge=65_536)] = 10_485_760
    keep: Annotated[int, Meta(ge=0, le=99)] = 3


class SubsystemConfig(Struct, frozen=True, forbid_unknown_fields=True):
    """One workload: the unit of isolation."""

    kind: Literal["process", "unit", "client"] = "process"
    unit: str = ""
    command: tuple[str, ...] = ()
    environment: dict[str, str] = {}
    working_directory: str = ""
    essential: bool = False
    depends_on: tuple[Name, ...] = ()
    gateway: bool = True
    serves: str = ""
    fills_gpu: bool = False
    listen: Listener = ""
    user: str = ""
    group: str = ""
    budget: BudgetConfig = BudgetConfig()
    restart: RestartConfig = RestartConfig()
    health: HealthConfig = HealthConfig()
    log: LogConfig = LogConfig()
    stop_seconds: Seconds = 10.0
    ready_seconds: Seconds = 30.0
    notifies: bool = False
    critical_files: tuple[str, ...] = ()

    @property
    def ready_at_once(self) -> bool:
        """Whether it counts as ready as soon as it runs: it neither says when, nor can it be asked."""
        return not self.notifies and not self.health.ways


class Config(Struct, frozen=True, forbid_unknown_fields=True):
    """The whole configuration; equal values mean that nothing changed."""

    daemon: DaemonConfig
    control: ControlConfig
    metrics: MetricsConfig
    web: WebConfig
    gateway: GatewayConfig
    ledger: LedgerConfig
    policy: PolicyConfig
    hysteresis: dict[Name, HysteresisConfig]
    containment: dict[Name, RungName]
    probes: ProbesConfig
    release_vram: ReleaseVramConfig
    checkpoint: CheckpointConfig
    recovery: RecoveryConfig
    lifeboat: LifeboatConfig
    schedule: ScheduleConfig
    budgets: dict[Literal["global"], SharedBudgetConfig] = {}
    groups: dict[Name, GroupConfig] = {}
    prices: dict[str, PriceConfig] = {}
    upstreams: dict[Name, UpstreamConfig] = {}
    subsystems: dict[Name, SubsystemConfig] = {}
