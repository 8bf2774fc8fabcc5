"""The configuration as typed, immutable values. Reading it from files is `epad/configuration/load.py`.

Every default and its reason stands in `epad/default.toml`, which is always the lowest layer; so the types
here carry bounds, not defaults, except where absence has a meaning of its own.
"""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta, Struct

from epad.configuration.agent_schema import AgentConfig
from epad.configuration.confine_schema import ConfineConfig, HouseConfineConfig
from epad.configuration.identity_schema import IdentityConfig
from epad.configuration.intent_schema import IntentConfig
from epad.configuration.notify_schema import NotifyConfig
from epad.configuration.persons_schema import PersonConfig, ProxyConfig
from epad.configuration.probe_schema import ProbesConfig
from epad.configuration.secret_schema import SecretConfig
from epad.configuration.sizes import Size
from epad.configuration.tools_schema import ToolsConfig
from epad.configuration.value_types import (
    Address,
    CheckAddress,
    CheckUrl,
    Dollars,
    Limit,
    Listener,
)
from epad.configuration.vault_schema import VaultConfig
from epad.gate.tiers import TierName
from statemachine.assessor import Hysteresis
from statemachine.enforcement import Enforce
from statemachine.rung import RungName
from statemachine.situation import Limits
from statemachine.value_types import Count, Name, Ratio, Seconds

DialectName = Literal["openai", "ollama", "anthropic"]


class DaemonConfig(Struct, frozen=True, forbid_unknown_fields=True):
    """Sets the daemon's directories, and the form of its log."""

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
    hosts: tuple[str, ...] = ()


class WebConfig(Struct, frozen=True, forbid_unknown_fields=True):
    """The status page; an empty `listen` turns it off."""

    listen: str
    orders: bool
    alerts: bool
    hosts: tuple[str, ...]
    proxy: ProxyConfig | None = None


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
    refusals_before_rest: Count
    idempotency_seconds: Seconds
    idempotency_bytes: Count
    wait_seconds: Annotated[float, Meta(ge=0, le=600)] = 0.0
    unknown_fields: Literal["refuse", "pass"] = "refuse"
    subsystem_bodies_bytes: Count = 67_108_864
    bodies_bytes: Count = 536_870_912
    max_connections: Count = 4_096
    hosts: tuple[str, ...] = ()


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
    first_scrub_records_per_second: Count = 50_000
    keep_records: Annotated[int, Meta(ge=0)] = 20_000_000


class ReleaseVramConfig(Struct, frozen=True, forbid_unknown_fields=True):
    """Sets how VRAM is taken back from a subsystem, and when that is enough."""

    request_seconds: Seconds
    settle_seconds: Seconds
    keep_ratio: Annotated[float, Meta(ge=0, lt=1)]
    sleep_level: Literal[1, 2]


class CheckpointConfig(Struct, frozen=True, forbid_unknown_fields=True):
    """Sets how many checkpoints are kept, how much room they leave, and how long making one may take."""

    keep: Count
    deadline_seconds: Seconds
    daily: Annotated[int, Meta(ge=0)] = 0
    weekly: Annotated[int, Meta(ge=0)] = 0
    free_ratio: Ratio = 0.0


class LifeboatConfig(Struct, frozen=True, forbid_unknown_fields=True):
    """Sets the room held back for the last resort, and the daemon's end once everything is saved."""

    then: Literal["stay", "exit"]
    first_tier_bytes: Annotated[int, Meta(ge=65_536)]
    ballast_bytes: Annotated[int, Meta(ge=0)]


class RecoveryConfig(Struct, frozen=True, forbid_unknown_fields=True):
    """Sets how messages that were lost in a crash are asked again."""

    replay_attempts: Annotated[int, Meta(ge=0, le=10)]
    replay_seconds: Seconds
    ready_seconds: Seconds


class RetentionConfig(Struct, frozen=True, forbid_unknown_fields=True):
    """Sets how many rows `state.db` keeps; the oldest go. By number: a wall clock set ahead drops nothing.

    Of the ledger's records `[ledger] keep_records` says so.
    """

    events: Annotated[int, Meta(ge=1_000)] = 200_000
    recordings: Annotated[int, Meta(ge=40_000)] = 300_000


class ScheduleConfig(Struct, frozen=True, forbid_unknown_fields=True):
    """Wall-clock jobs, as five-field cron expressions; empty turns one off."""

    nightly_verify: str
    checkpoint: str
    restore_drill: str


class UpstreamConfig(Struct, frozen=True, forbid_unknown_fields=True):
    """A model server. `models` are glob patterns; the first upstream that matches serves a model.

    `served_by` is the subsystem whose process it is; empty where it is none of ours. `server` is the kind of server,
    as in epad/configuration/server_kinds.py; empty: it is told by its address and its answers.
    `tokenizer` is a tokenizer.json by which its prompts are counted.
    `fields` may be asked of it beside
    those that are known.
    """

    url: Annotated[str, Meta(pattern=r"^(https?://[^\s]+|unix:/[^\s]+)$")]
    dialects: Annotated[tuple[DialectName, ...], Meta(min_length=1)]
    models: Annotated[tuple[str, ...], Meta(min_length=1)] = ("*",)
    api_key_file: str = ""
    api_key_credential: str = ""
    api_key_secret: str = ""
    context_tokens: Annotated[int, Meta(ge=0)] = 0
    free: bool = False
    embedded: bool = False
    served_by: str = ""
    server: str = ""
    tokenizer: str = ""
    fields: tuple[str, ...] = ()


class LimitsConfig(Struct, frozen=True, forbid_unknown_fields=True):
    """Limits spending; 0 means no limit. A month is the last 31 days, so no calendar month exceeds it."""

    tokens_per_minute: Limit = 0
    tokens_per_hour: Limit = 0
    tokens_per_day: Limit = 0
    tokens_per_month: Limit = 0
    tokens_in_all: Limit = 0
    usd_per_minute: Dollars = 0.0
    usd_per_hour: Dollars = 0.0
    usd_per_day: Dollars = 0.0
    usd_per_month: Dollars = 0.0
    usd_in_all: Dollars = 0.0
    requests_per_minute: Limit = 0


class BudgetConfig(LimitsConfig, frozen=True, forbid_unknown_fields=True):
    """Limits a subsystem. 0 turns in flight: as many as the budgets above it and the gateway allow."""

    max_in_flight: Limit = 8


class SharedBudgetConfig(LimitsConfig, frozen=True, forbid_unknown_fields=True):
    """Limits several subsystems together; each has its own cap of turns in flight beside this one."""

    max_in_flight: Limit = 0


class GroupConfig(Struct, frozen=True, forbid_unknown_fields=True):
    """Subsystems that share a budget, each within its own."""

    budget: SharedBudgetConfig = SharedBudgetConfig()


class PriceConfig(Struct, frozen=True, forbid_unknown_fields=True):
    """Sets prices in USD per million tokens. An omitted one costs as `input`, or for reasoning as `output`.

    `cache_write_hour` left out beside a `cache_write` is twice `input`, and no less than `cache_write`.
    """

    input: Dollars
    output: Dollars
    cached_read: Dollars | None = None
    cache_write: Dollars | None = None
    cache_write_hour: Dollars | None = None
    reasoning: Dollars | None = None


class RestartConfig(Struct, frozen=True, forbid_unknown_fields=True):
    """Sets when a process that ended is started again."""

    policy: Literal["always", "on-failure", "never"] = "on-failure"
    intensity: Count = 5
    period_seconds: Seconds = 60.0
    backoff_seconds: Seconds = 0.5
    backoff_max_seconds: Seconds = 60.0
    healthy_seconds: Seconds = 1_800.0
    failures_in_a_row: Annotated[int, Meta(ge=0)] = 10  # 0: no such limit
    hung_seconds: Annotated[float, Meta(ge=0)] = 0.0  # 0: a hung process is reported and left alone
    success_exit_codes: tuple[Annotated[int, Meta(ge=0, le=255)], ...] = (0,)


class HealthConfig(Struct, frozen=True, forbid_unknown_fields=True):
    """Sets how to ask a subsystem if it works: one of four ways, or none.

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
        """Return the ways that are configured; more than one is an error."""
        return tuple(way for way in ("http", "tcp", "command", "inference") if getattr(self, way))


class LogConfig(Struct, frozen=True, forbid_unknown_fields=True):
    """Sets how much of a process's output is kept: the present file, and so many former ones."""

    max_bytes: Annotated[int, Meta(ge=65_536)] = 10_485_760
    keep: Annotated[int, Meta(ge=0, le=99)] = 3


class StateConfig(Struct, frozen=True, forbid_unknown_fields=True):
    """Names the files of a subsystem for a checkpoint: paths below its own directory, or from the root.

    Before it is copied the process gets `checkpoint_signal`, and this long to say X_EPAD_SAVED=1.
    """

    files: tuple[str, ...] = ()
    directories: tuple[str, ...] = ()
    databases: tuple[str, ...] = ()
    checkpoint_signal: Literal["", "SIGUSR1", "SIGUSR2", "SIGHUP"] = ""
    deadline_seconds: Seconds = 10.0


class DatastoreConfig(Struct, frozen=True, forbid_unknown_fields=True):
    """A SQLite database or JSON-lines file that other programs write.

    `subsystem` is the one that writes it, if it is one of ours: it is held while the store is damaged. `restore`
    lets RECOVERY put the last sound copy in the place of a damaged file; it is the user's own data, so it asks for it.
    """

    path: Annotated[str, Meta(pattern=r"^/")]
    kind: Literal["auto", "sqlite", "jsonl"] = "auto"
    subsystem: str = ""
    shrink_ratio: Annotated[float, Meta(gt=0, le=1)] = 0.05
    restore: bool = False


class SubsystemConfig(Struct, frozen=True, forbid_unknown_fields=True):
    """Configures one workload, the unit of isolation.

    `background` says that it may be paused for the others' sake; `essential` that a recovery repairs it, however
    often, and does not park it.
    """

    kind: Literal["process", "unit", "client"] = "process"
    unit: str = ""
    command: tuple[str, ...] = ()
    environment: dict[str, str] = {}
    pass_env: tuple[str, ...] = ()
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
    memory_max: Size = 0
    memory_high: Size = 0
    stop_seconds: Seconds = 10.0
    ready_seconds: Seconds = 30.0
    notifies: bool = False
    state: StateConfig = StateConfig()
    background: bool = False
    enforce: Enforce = {}
    confine: ConfineConfig | None = None
    tier: TierName | None = None
    tools: tuple[str, ...] | None = None
    memory: Literal["session", "shared"] = "session"
    on_change: Literal["tell", "hold"] = "tell"
    made_of: tuple[str, ...] = ()
    workspace_labels: tuple[Literal["untrusted", "private"], ...] = ()
    tool_calls_per_minute: Annotated[int, Meta(ge=0)] | None = None
    tool_output_tokens_per_hour: Annotated[int, Meta(ge=0)] | None = None

    @property
    def ready_at_once(self) -> bool:
        """Tell if it counts as ready as soon as it runs, since it neither reports it nor can be asked."""
        return not self.notifies and not self.health.ways


class Config(Struct, frozen=True, forbid_unknown_fields=True):
    """The whole configuration; equal values mean that nothing changed."""

    daemon: DaemonConfig
    control: ControlConfig
    metrics: MetricsConfig
    web: WebConfig
    gateway: GatewayConfig
    ledger: LedgerConfig
    policy: Limits
    hysteresis: dict[Name, Hysteresis]
    containment: dict[Name, RungName]
    probes: ProbesConfig
    release_vram: ReleaseVramConfig
    checkpoint: CheckpointConfig
    recovery: RecoveryConfig
    lifeboat: LifeboatConfig
    schedule: ScheduleConfig
    tools: ToolsConfig
    identity: IdentityConfig
    intent: IntentConfig
    vault: VaultConfig = VaultConfig()
    retention: RetentionConfig = RetentionConfig()
    notify: NotifyConfig = NotifyConfig()
    confine: HouseConfineConfig = HouseConfineConfig()
    secrets: dict[Name, SecretConfig] = {}
    persons: dict[Name, PersonConfig] = {}
    budgets: dict[Literal["global"], SharedBudgetConfig] = {}
    groups: dict[Name, GroupConfig] = {}
    prices: dict[str, PriceConfig] = {}
    upstreams: dict[Name, UpstreamConfig] = {}
    datastores: dict[Name, DatastoreConfig] = {}
    subsystems: dict[Name, SubsystemConfig] = {}
    agents: dict[Name, AgentConfig] = {}
