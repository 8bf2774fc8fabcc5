"""The answer of `GET /v1/status` and its parts.

A shape is a typed dictionary, so the type checker holds whoever makes an answer and whoever reads it to the same keys,
`epactl` reads it without importing anything, and msgspec makes the OpenAPI document from it (`epad/api/openapi.py`).
Rejected: msgspec structs, since `epactl` would need a second description of each, made from them. A key that came
later is `NotRequired`: an older daemon answers without it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NotRequired, TypedDict

from epad.answers.tools import ToolCategory


class Sentence(TypedDict):
    """Holds one trouble: subject, verb, time, reason, end, command; and all of it in one line."""

    who: str
    what: str
    since: str
    why: str
    until: str
    do: str
    line: str


class Use(TypedDict):
    """A limit, and how much of it is used."""

    limit: int
    used: int


class Anomaly(TypedDict):
    """A finding that held."""

    id: str
    probe: str
    subsystem: str
    severity: str
    reason: str
    age_seconds: float


class Incident(TypedDict):
    """Holds a failure, and the failures it causes."""

    root: str
    reason: str
    age_seconds: float
    victims: Sequence[str]
    settled: bool
    flapping: bool


class Progress(TypedDict):
    """Holds a subsystem's own report of its progress."""

    done: int
    total: int | None


class Tokens(TypedDict):
    """The tokens and turns that a subsystem has used."""

    input: int
    output: int
    turns: int


class Hold(TypedDict):
    """Holds the rung of a hold, and its reason."""

    rung: str
    reason: str


class Footprint(TypedDict):
    """Holds the use by a subsystem's processes; null if it has none, or the figures are old."""

    memory_bytes: int | None
    memory_max_bytes: int
    cpu_seconds: float | None
    cpu_cores: float | None
    processes: int | None


class Confinement(TypedDict):
    """Holds the profile that a subsystem's process is confined by, or will be: `open` is not confined.

    `missing` are walls that it has to do without, each with the reason; `trouble` is why its doors are closed.
    """

    profile: str
    missing: Mapping[str, str]
    trouble: str


class Subsystem(Footprint):
    """Holds one subsystem: its state, its processes, and its use."""

    name: str
    kind: str
    state: str
    essential: bool
    background: NotRequired[bool]
    depends_on: Sequence[str]
    pid: int | None
    restarts: int
    state_seconds: float | None
    hung: bool
    status: str
    progress: Progress | None
    vram_wanted_bytes: int | None
    tokens: Tokens
    spent_microusd: int
    budget: Mapping[str, Use]
    hold: Hold
    sentence: NotRequired[Sentence | None]
    log: str
    embedded: bool
    confine: NotRequired[Confinement | None]


class Probe(TypedDict):
    """A probe, and whether its last look succeeded."""

    name: str
    success: bool
    age_seconds: float | None
    note: str


class Gpu(TypedDict):
    """A GPU as it was last read; its history is pairs of an age in seconds and the bytes used then."""

    gpu: str
    vendor: str
    name: str
    uuid: str
    age_seconds: float
    fresh: bool
    total_bytes: int
    used_bytes: int
    reserved_bytes: int
    ratio: float
    subsystems: Mapping[str, int]
    foreign_bytes: int
    unattributed_bytes: int | None
    bytes_per_second: float | None
    exhaustion_seconds: float | None
    history: Sequence[Sequence[float]]
    xids: Mapping[str, str]


class Pressure(TypedDict):
    """The share of time in which some, or all, tasks waited for a resource."""

    some: float
    full: float


class Host(TypedDict):
    """The machine itself; null where the figures are old."""

    fresh: bool
    pressure: Mapping[str, Pressure]
    memory_bytes: int | None
    available_bytes: int | None
    disk_free_bytes: int | None
    disk_total_bytes: int | None
    free_inodes: int | None
    lag_seconds: float


class Upstream(TypedDict):
    """A model server as the gateway sees it."""

    name: str
    url: str
    healthy: bool
    reason: str
    state: str
    breaker: str
    seconds: float
    retry_seconds: float
    server: str


class ServedUpstream(Upstream):
    """A model server, and the subsystem that serves it."""

    served_by: str


class Checkpoint(TypedDict):
    """The newest checkpoint."""

    id: str
    verified: bool
    faults: Sequence[str]


class Place(TypedDict):
    """Holds the address of a listener; empty if it is off."""

    url: str


class Ledger(TypedDict):
    """Holds the result of the ledger's last check."""

    records: int
    verdict: str
    detail: str
    unchecked: int


class Status(TypedDict):
    """Holds everything, as of now."""

    version: str
    pid: int
    state_directory: str
    config_file: str
    phase: str
    phase_number: int
    phase_since: str
    phase_seconds: float
    sentence: str
    sentences: NotRequired[Sequence[Sentence]]
    uptime_seconds: float
    anomalies: Sequence[Anomaly]
    incidents: Sequence[Incident]
    subsystems: Sequence[Subsystem]
    probes: Sequence[Probe]
    gpus: Sequence[Gpu]
    host: Host
    engine: str
    gateway: Place
    upstreams: Sequence[ServedUpstream]
    budgets: Mapping[str, Mapping[str, Use]]
    checkpoint: Checkpoint | None
    metrics: Place
    web: Place
    ledger: Ledger
    notices: Sequence[str]
    tools: NotRequired[Sequence[ToolCategory]]
