"""Declare every Prometheus series that epad exports, in one place.

Names follow the Prometheus conventions: one prefix, base units, `_total` for counters, states as one 0/1
series per state. Label values are subsystem, probe, model and GPU names from the configuration, and closed
enums: nothing that a client can make up, so the number of series is bounded by the configuration.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from prometheus_client import CollectorRegistry, Counter, Gauge, Metric, generate_latest
from prometheus_client.registry import Collector

from epad.metrics.durations import Durations
from probes.memory import Footprint
from probes.subsystems import SubsystemSnapshot, SubsystemState
from statemachine.finding import Finding
from statemachine.table import TABLE

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

# Seconds. The lower end resolves what the gateway adds (under a millisecond), the upper a slow model.
_GATEWAY_BUCKETS = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 1.0)
_TURN_BUCKETS = (0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0)

TOKEN_KINDS = ("input", "output", "forfeited")


class _Gathered(Collector):
    """Collects the sums that others keep before anything else is read; a registry reads in order."""

    def __init__(self) -> None:
        self.add_up: list[Callable[[], None]] = []

    def collect(self) -> Iterable[Metric]:
        for add_up in self.add_up:
            add_up()
        return ()


class Metrics:
    """The series, on a registry of their own."""

    def __init__(self, version: str, subsystems: Iterable[str] = ()) -> None:
        self.registry = CollectorRegistry()
        self._gathered = _Gathered()
        self.registry.register(self._gathered)
        self._cpu_shown: dict[str, float] = {}
        self.upstream_states: tuple[str, ...] = ()  # all that one can be in, as the gateway says
        self._begun: dict[Counter, tuple[str, ...]] = {}
        self._subsystems: tuple[str, ...] = ()
        self._declare_daemon(version)
        self._declare_gateway()
        self._declare_subsystems()
        self._declare_probes()
        self._declare_gpus()
        self._declare_host()
        self._begin()
        self.configure(subsystems)

    def _gauge(self, name: str, help_text: str, *labels: str) -> Gauge:
        return Gauge(name, help_text, labels, registry=self.registry)

    def _counter(self, name: str, help_text: str, *labels: str) -> Counter:
        return Counter(name, help_text, labels, registry=self.registry)

    def _declare_daemon(self, version: str) -> None:
        self._gauge("epad_build_info", "Always 1; the labels say what runs.", "version").labels(version).set(
            1
        )
        self.phase = self._gauge("epad_phase", "1 for the phase the daemon is in.", "phase")
        self.phase_entered = self._gauge(
            "epad_phase_entered_timestamp_seconds", "When the phase was entered."
        )
        self.transitions = self._counter(
            "epad_phase_transitions_total", "Phase transitions.", "source", "destination", "trigger"
        )
        self.anomalies = self._gauge("epad_anomaly_active", "1 while an anomaly holds.", "probe", "subsystem")
        self.steps = self._counter("epad_response_steps_total", "Response steps.", "step", "result")
        self.drill_ok = self._gauge("epad_restore_drill_ok", "1 if the last restore drill succeeded.")
        self.drill_at = self._gauge(
            "epad_restore_drill_timestamp_seconds", "When the last restore drill ran."
        )
        self.checkpoint_verified = self._gauge(
            "epad_checkpoint_last_verified_timestamp_seconds", "When the newest verified checkpoint was made."
        )
        self.checkpoint_ok = self._gauge(
            "epad_checkpoint_ok",
            "0 if the newest checkpoint lacks something or does not read back as it was made.",
        )
        self.checkpoint_ok.set(1)

    def _declare_gateway(self) -> None:
        self.tokens = self._counter("epad_tokens_total", "Tokens charged.", "subsystem", "kind")
        self.cost = self._counter(
            "epad_cost_microusd_total",
            "Money charged by the price table, in millionths of a dollar.",
            "subsystem",
        )
        self.turns = self._counter("epad_turns_total", "Turns closed.", "subsystem", "outcome")
        self.refusals = self._counter("epad_refusals_total", "Requests turned away.", "subsystem", "code")
        self.in_flight = self._gauge("epad_turns_in_flight", "Turns open now.", "subsystem")
        self.upstream_state = self._gauge(
            "epad_upstream_state", "1 for the state an upstream is in.", "name", "state"
        )
        self.budget_limit = self._gauge(
            "epad_token_budget_limit_tokens", "The budget.", "subsystem", "window"
        )
        self.budget_used = self._gauge(
            "epad_token_budget_used_tokens", "Spent and reserved within the window.", "subsystem", "window"
        )
        self.gateway_seconds = Durations(
            "epad_gateway_added_seconds",
            "Time from a request's arrival to its forwarding: what the gateway adds.",
            _GATEWAY_BUCKETS,
            self.registry,
        )
        self.turn_seconds = Durations(
            "epad_turn_duration_seconds",
            "Time from a request's arrival to the end of its answer.",
            _TURN_BUCKETS,
            self.registry,
            ("subsystem",),
        )

    def _declare_subsystems(self) -> None:
        self.subsystem_state = self._gauge(
            "epad_subsystem_state", "1 for the state a subsystem is in.", "subsystem", "state"
        )
        self.hold = self._gauge(
            "epad_subsystem_hold",
            "1 for the rung a subsystem is held at, and why.",
            "subsystem",
            "state",
            "kind",
        )
        self.hold_ends = self._gauge(
            "epad_subsystem_hold_ends_timestamp_seconds",
            "When the hold ends by itself if it stays quiet; absent where only a person ends it.",
            "subsystem",
        )
        self.restarts = self._counter("epad_subsystem_restarts_total", "Restarts after an exit.", "subsystem")
        self.exits = self._counter("epad_subsystem_exits_total", "Exits nobody asked for.", "subsystem")
        self.subsystem_memory = self._gauge(
            "epad_subsystem_memory_bytes",
            "Anonymous and shared memory of a subsystem's processes, in RAM or in the swap.",
            "subsystem",
        )
        self.subsystem_cpu = self._counter(
            "epad_subsystem_cpu_seconds_total", "CPU time of a subsystem's processes.", "subsystem"
        )
        self.progress = self._gauge(
            "epad_subsystem_progress_done", "X_EPAD_PROGRESS as reported.", "subsystem"
        )

    def _declare_probes(self) -> None:
        self.probe_success = self._gauge("epad_probe_success", "1 if the probe could see.", "probe")
        self.probe_duration = self._gauge("epad_probe_duration_seconds", "How long it looked.", "probe")
        self.probe_last = self._gauge(
            "epad_probe_last_success_timestamp_seconds", "When the probe last could see.", "probe"
        )
        self.token_burn = self._gauge(
            "epad_token_burn_ratio", "Tokens charged and reserved in the window, of the budget.", "subsystem"
        )
        self.ledger_entries = self._gauge("epad_ledger_entries", "Records in the ledger.")
        self.ledger_intact = self._gauge("epad_ledger_intact", "1 while every record checked is intact.")
        self.ledger_verified = self._gauge(
            "epad_ledger_last_verified_timestamp_seconds", "When the tail was last verified."
        )
        self.datastore_sound = self._gauge(
            "epad_datastore_sound", "1 while the last look at the store found it sound.", "datastore"
        )
        self.datastore_seen = self._gauge(
            "epad_datastore_last_sound_timestamp_seconds", "When a look last found it sound.", "datastore"
        )

    def _declare_gpus(self) -> None:
        self.gpu_info = self._gauge(
            "epad_gpu_info", "Always 1; what card it is.", "gpu", "uuid", "vendor", "name"
        )
        self.gpu_read = self._gauge(
            "epad_gpu_last_read_timestamp_seconds", "When the card could last be read.", "gpu"
        )
        self.gpu_memory_used = self._gauge("epad_gpu_memory_used_bytes", "VRAM in use.", "gpu")
        self.gpu_memory_total = self._gauge("epad_gpu_memory_total_bytes", "VRAM of the card.", "gpu")
        self.gpu_memory_reserved = self._gauge(
            "epad_gpu_memory_reserved_bytes", "VRAM that the driver keeps for itself.", "gpu"
        )
        self.gpu_memory_unattributed = self._gauge(
            "epad_gpu_unattributed_memory_bytes", "VRAM in use that no process owns to.", "gpu"
        )
        self.gpu_memory_subsystem = self._gauge(
            "epad_gpu_subsystem_memory_bytes", "VRAM that a subsystem's processes hold.", "gpu", "subsystem"
        )
        self.gpu_exhaustion = self._gauge(
            "epad_gpu_memory_exhaustion_seconds",
            "Time until no VRAM is left, while it grows steadily.",
            "gpu",
        )
        self.gpu_xid = self._gauge(
            "epad_gpu_xid_last_timestamp_seconds", "When the driver last reported this error.", "gpu", "xid"
        )

    def _declare_host(self) -> None:
        self.pressure = self._gauge(
            "epad_host_pressure_ratio", "PSI: the share of the last 10 s lost to waiting.", "resource", "kind"
        )
        self.disk_free = self._gauge(
            "epad_state_filesystem_free_bytes", "Room on the state directory's file system."
        )
        self.disk_size = self._gauge("epad_state_filesystem_size_bytes", "Size of that file system.")
        self.inodes_free = self._gauge("epad_state_filesystem_free_inodes", "Inodes left on it.")
        self.loop_lag = self._gauge("epad_loop_lag_seconds", "How late the event loop was at worst lately.")
        self.loop_lags = self._counter("epad_loop_lags_total", "Times the event loop stood still.")
        self.clock_jumps = self._counter("epad_clock_jumps_total", "Times the wall clock was set.")

    def gathers(self, *add_up: Callable[[], None]) -> None:
        """Call these functions whenever the series are read; they count every turn by themselves meanwhile."""
        self._gathered.add_up += add_up

    # A counter that is born at 1 has not increased: Prometheus would never see the first of its events. So those
    # that a rule or the dashboard asks the increase of are there from the start, at 0.

    def _begin(self) -> None:
        for row in TABLE:
            self.transitions.labels(row.source, row.destination, row.trigger)

    def begins(self, counter: Counter, values: Iterable[str]) -> None:
        """Have a counter's series of each subsystem and value there, now and of whatever is configured later."""
        self._begun[counter] = tuple(values)
        self.configure(self._subsystems)

    def configure(self, subsystems: Iterable[str]) -> None:
        """Make the counters of these subsystems exist; their counts stay."""
        self._subsystems = tuple(subsystems)
        for name in self._subsystems:
            for counter in (self.restarts, self.exits, self.cost, self.subsystem_cpu):
                counter.labels(name)
            for kind in TOKEN_KINDS:
                self.tokens.labels(name, kind)
            for counter, values in self._begun.items():
                for value in values:
                    counter.labels(name, value)

    def record(self, finding: Finding) -> None:
        """Show the number a finding was made from, under the series of its probe."""
        if finding.value is None:
            return
        # A detector's finding has a number of its own; the scheduled one is the burn against the budget.
        burn = (
            finding.probe == "token_burn" and finding.unit == "tokens" and "detector" not in finding.evidence
        )
        if burn and finding.limit:
            self.token_burn.labels(finding.subsystem).set(finding.value / finding.limit)

    def show(self, subsystems: Iterable[SubsystemSnapshot]) -> None:
        """Bring the series of the subsystems up to date."""
        for snapshot in subsystems:
            for state in SubsystemState:
                self.subsystem_state.labels(snapshot.name, state).set(state is snapshot.state)
            if snapshot.progress_done is not None:
                self.progress.labels(snapshot.name).set(snapshot.progress_done)

    def show_upstreams(self, upstreams: Iterable[Mapping[str, object]]) -> None:
        """Bring the series of the upstreams up to date; one that is configured no more has none."""
        self.upstream_state.clear()
        for upstream in upstreams:
            for state in self.upstream_states:
                self.upstream_state.labels(upstream["name"], state).set(state == upstream["state"])

    def show_footprints(self, footprints: Mapping[str, Footprint]) -> None:
        """Bring memory and CPU up to date; a subsystem without processes has no memory."""
        self.subsystem_memory.clear()
        for name, footprint in footprints.items():
            self.subsystem_memory.labels(name).set(footprint.memory_bytes)
            shown = self._cpu_shown.get(name, 0.0)
            self.subsystem_cpu.labels(name).inc(max(0.0, footprint.cpu_seconds - shown))
            self._cpu_shown[name] = max(shown, footprint.cpu_seconds)

    def forget(self, subsystem: str) -> None:
        """Show no more activity of a subsystem that is no longer configured; its counters stay."""
        for gauge in (self.subsystem_state, self.progress, self.token_burn, self.subsystem_memory):
            gauge.remove_by_labels({"subsystem": subsystem})

    def render(self) -> bytes:
        """The Prometheus text of everything."""
        return generate_latest(self.registry)
