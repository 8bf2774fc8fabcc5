"""Type the probes' tables of the configuration: the limits beyond which there is trouble."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta, Struct

from epad.configuration.value_types import Count, Name, Positive, Ratio, RungName, Seconds

Enforce = dict[Name, Literal["observe", "contain"]]
"""Of each detector, or of a probe that has one only by the probe's name: does it hold, or is it only told?"""


class BurnWindowConfig(Struct, frozen=True, forbid_unknown_fields=True):
    """A share of the day's budget within some seconds, and the rung that calls for."""

    seconds: Seconds
    day_share: Ratio
    rung: RungName


class TokenBurnConfig(Struct, frozen=True, forbid_unknown_fields=True):
    """Sets the limits of spending: the thresholds of `probes.token_burn.TokenBurnSettings`."""

    interval_seconds: Seconds
    window_seconds: Seconds
    warn_ratio: Ratio
    identical_prompts: Count
    duplicate_ratio: Ratio
    sampled_prompts: Count
    appended_loops: Count
    climb_seconds: Seconds
    retry_warn_ratio: Ratio
    retry_ratio: Ratio
    error_ratio: Ratio
    min_calls: Count
    hammering_slots: Count
    hammering_refusals: Count
    pile_up_ratio: Positive
    oldest_seconds: Seconds
    cusum_warn: Positive
    cusum_act: Positive
    cusum_history_minutes: Count
    cusum_patience_seconds: Seconds
    output_window_characters: Count
    output_windows: Count
    output_chunks: Count
    output_characters: Count
    output_row_characters: Count
    output_answers: Count
    burn: dict[Name, BurnWindowConfig]
    rungs: dict[Name, RungName]
    enforce: Enforce = {}


class ConversationConfig(Struct, frozen=True, forbid_unknown_fields=True):
    """Sets the limits of a conversation that is unwell, or goes round in a loop."""

    interval_seconds: Seconds
    window_seconds: Seconds
    loop_repeats: Count
    stale_turns: Count
    max_conversations: Count
    rung: RungName
    enforce: Enforce = {}


class ProgressConfig(Struct, frozen=True, forbid_unknown_fields=True):
    """Sets the limits of burning tokens without progress."""

    interval_seconds: Seconds
    stall_seconds: Seconds
    min_tokens: Count
    enforce: Enforce = {}


class LivenessConfig(Struct, frozen=True, forbid_unknown_fields=True):
    """Sets how soon a subsystem that hangs or has failed is found."""

    interval_seconds: Seconds
    enforce: Enforce = {}


class LedgerIntegrityConfig(Struct, frozen=True, forbid_unknown_fields=True):
    """Sets how often the ledger is read back."""

    interval_seconds: Seconds


class VramConfig(Struct, frozen=True, forbid_unknown_fields=True):
    """Sets how full a GPU may be, how fast it may fill, and how long a driver call may take."""

    interval_seconds: Seconds
    timeout_seconds: Seconds
    warn_ratio: Ratio
    limit_ratio: Ratio
    growth_window_seconds: Seconds
    exhaustion_seconds: Seconds
    ghost_bytes: Count
    root: str
    enforce: Enforce = {}


class HostConfig(Struct, frozen=True, forbid_unknown_fields=True):
    """Sets the limits of trouble of the machine itself, or of the daemon on it.

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
    available_warn_ratio: Ratio = 0.05
    available_warn_bytes: Count = 1_073_741_824
    enforce: Enforce = {}


class MemoryConfig(Struct, frozen=True, forbid_unknown_fields=True):
    """Sets the limits of memory: of one subsystem, and of the machine's last reserve."""

    interval_seconds: Seconds = 10.0
    growth_window_seconds: Seconds = 120.0
    exhaustion_seconds: Seconds = 600.0
    warn_ratio: Ratio = 0.9
    high_seconds: Seconds = 60.0
    available_limit_ratio: Ratio = 0.05
    available_limit_bytes: Count = 1_073_741_824
    enforce: Enforce = {}


class CascadeConfig(Struct, frozen=True, forbid_unknown_fields=True):
    """Sets how many crashes are too many, and when a failed subsystem is the root of others' failing."""

    interval_seconds: Seconds
    window_seconds: Seconds
    crashes: Count
    subsystems: Count
    settle_seconds: Annotated[float, Meta(ge=0)]
    bad_looks: Count
    of_looks: Count
    good_looks: Count
    blast_ratio: Annotated[float, Meta(gt=0, le=1)]
    burst_seconds: Seconds = 60.0
    row_crashes: Count = 5
    enforce: Enforce = {}


class AlertsConfig(Struct, frozen=True, forbid_unknown_fields=True):
    """Maps the severity labels of Alertmanager's alerts to severities."""

    interval_seconds: Seconds
    forget_seconds: Seconds
    severities: dict[str, Literal["ok", "warning", "anomaly", "critical"]]
    enforce: Enforce = {}


class DatastoreProbeConfig(Struct, frozen=True, forbid_unknown_fields=True):
    """Sets how often the stores of other programs are read back, and how much of a core that may take."""

    interval_seconds: Seconds
    core_share: Annotated[float, Meta(gt=0, le=1)]
    deadline_seconds: Seconds
    enforce: Enforce = {}


class ProbesConfig(Struct, frozen=True, forbid_unknown_fields=True):
    """Holds one table a probe."""

    token_burn: TokenBurnConfig
    conversation: ConversationConfig
    progress: ProgressConfig
    liveness: LivenessConfig
    ledger_integrity: LedgerIntegrityConfig
    vram: VramConfig
    host: HostConfig
    cascade: CascadeConfig
    alerts: AlertsConfig
    datastore: DatastoreProbeConfig
    memory: MemoryConfig = MemoryConfig()
