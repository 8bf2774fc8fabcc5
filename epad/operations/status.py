"""The state of everything as one JSON value, read from memory: asking never waits for anything."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, timedelta
from typing import Any, Protocol

from epad import __version__
from epad.answers import status as answer
from epad.answers.agents import SpawnedAgent
from epad.answers.orders import Limit
from epad.answers.tools import ToolCategory
from epad.configuration.confining import confine_of
from epad.configuration.directories import Directories
from epad.configuration.embedded_default import NOTICE
from epad.configuration.schema import Config
from epad.configuration.sizes import size_bytes
from epad.confinement.approvals import OpenQuestion
from epad.confinement.cells import Confinement
from epad.control_loop.decider import Decider
from epad.control_loop.loop import Controller
from epad.incidents.look import IncidentLook
from epad.incidents.report import IncidentReport
from epad.ledger.integrity import LedgerStatus
from epad.probing.loops import ProbeLoops
from epad.response.preservation import NewestCheckpoint
from probes.cascade import CascadeIncident
from probes.memory import Footprint
from probes.subsystems import Snapshots, SubsystemSnapshot
from statemachine.clock import Clock
from statemachine.containment import Hold, Rung


class Spending(Protocol):
    """Gives the gateway's knowledge about a subsystem's use."""

    def tokens(self, subsystem: str) -> answer.Tokens:
        """Input and output tokens and turns so far."""
        ...

    def microusd(self, subsystem: str) -> int:
        """Return the cost so far, in millionths of a dollar."""
        ...

    def budget(self, subsystem: str) -> Mapping[str, tuple[int, int]]:
        """Limit and use, by window."""
        ...

    def budgets(self) -> Mapping[str, Mapping[str, tuple[int, int]]]:
        """Return the same for every scope: all together, the groups, the subsystems."""
        ...


class ToolView(Protocol):
    """Gives the tools, where the daemon has any."""

    def targets(self) -> frozenset[str]:
        """Return every tool and category as a target of holds."""
        ...

    def categories(self, holds: Mapping[str, Hold], line_of: Callable[[str], str]) -> list[ToolCategory]:
        """Return the categories as people see them."""
        ...

    @property
    def limits(self) -> Callable[[], list[Limit]]:
        """Return the limits on tools, each with its use."""
        ...

    @property
    def agents(self) -> Callable[[], list[SpawnedAgent]]:
        """Return the living agents that agents have spawned."""
        ...


class NoTools:
    """For a daemon without tools."""

    def targets(self) -> frozenset[str]:
        return frozenset()

    def categories(self, _: Mapping[str, Hold], __: Callable[[str], str]) -> list[ToolCategory]:
        return []

    @property
    def limits(self) -> Callable[[], list[Limit]]:
        return list

    @property
    def agents(self) -> Callable[[], list[SpawnedAgent]]:
        return list


@dataclass(slots=True)
class DaemonStatus:
    """Assembles everything `epactl status` shows. The URLs are known once the listeners are open."""

    config: Config
    directories: Directories
    clock: Clock
    started_at: float
    decider: Decider
    controller: Controller
    snapshots: Snapshots
    spending: Spending
    probes: ProbeLoops
    ledger: Callable[[], LedgerStatus]
    host: Callable[[], answer.Host]
    upstreams: Callable[[], list[answer.Upstream]] = list
    incidents: Callable[[], list[CascadeIncident]] = list
    gpus: Callable[[], list[answer.Gpu]] = list
    footprints: Callable[[], Mapping[str, Footprint]] = dict
    newest_checkpoint: Callable[[], NewestCheckpoint | None] = lambda: None
    shut: Callable[[], str] = str
    confinement: Callable[[str], Confinement | None] = lambda _: None
    questions: Callable[[], Iterable[OpenQuestion]] = tuple
    tools: ToolView = field(default_factory=NoTools)
    engine: str = ""
    gateway_url: str = ""
    metrics_url: str = ""
    web_url: str = ""

    @property
    def report(self) -> IncidentReport:
        """Return the troubles and holds as sentences."""
        return IncidentReport(self.decider, self.clock, self.upstreams)

    def render(self) -> answer.Status:
        """Return the JSON of `GET /v1/status`."""
        now, phase = self.clock.monotonic(), self.decider.phase
        since = self.clock.utc() - timedelta(seconds=self.decider.phase_seconds)
        ledger, report = self.ledger(), self.report.look()
        return {
            "version": __version__,
            "pid": os.getpid(),
            "state_directory": str(self.directories.state),
            "config_file": str(self.directories.config_file or ""),
            "phase": phase,
            "phase_number": phase.number,
            "phase_since": since.astimezone(UTC).isoformat(timespec="seconds"),
            "phase_seconds": round(self.decider.phase_seconds, 3),
            "sentence": report.headline(),
            "sentences": [sentence.as_json() for sentence in report.current()],
            "uptime_seconds": round(now - self.started_at, 3),
            "anomalies": self._anomalies(now),
            "incidents": [_incident(incident, now) for incident in self.incidents()],
            "subsystems": [self._subsystem(snapshot, now, report) for snapshot in self.snapshots()],
            "probes": self.probes.snapshot(),
            "gpus": self.gpus(),
            "host": self.host(),
            "engine": self.engine,
            "gateway": {"url": self.gateway_url},
            "upstreams": [{**u, "served_by": self._served_by(u["name"])} for u in self.upstreams()],
            "budgets": {
                scope: {name: {"limit": limit, "used": used} for name, (limit, used) in limits.items()}
                for scope, limits in self.spending.budgets().items()
            },
            "checkpoint": self._checkpoint(),
            "metrics": {"url": self.metrics_url},
            "web": {"url": self.web_url},
            "ledger": {
                "records": ledger.records,
                "verdict": ledger.verdict,
                "detail": ledger.detail,
                "unchecked": ledger.unchecked,
            },
            "notices": self.notices(),
            "tools": self.tools.categories(self.decider.holds, report.line_of),
        }

    def facts(self) -> dict[str, Any]:
        """Return the facts of the moment that a checkpoint records."""
        ledger = self.ledger()
        return {
            "phase": self.decider.phase,
            "sentence": self.controller.sentence,
            "anomalies": [f"{a.key}: {a.finding.reason}" for a in self.decider.assessor.active],
            "ledger_records": ledger.records,
            "ledger_verdict": ledger.verdict,
        }

    def _checkpoint(self) -> answer.Checkpoint | None:
        newest = self.newest_checkpoint()
        if newest is None:
            return None
        return {"id": newest.id, "verified": newest.ok, "faults": list(newest.faults)}

    def _anomalies(self, now: float) -> list[answer.Anomaly]:
        return [
            {
                "id": str(anomaly.key),
                "probe": anomaly.key.probe,
                "subsystem": anomaly.key.subsystem,
                "severity": anomaly.severity.label,
                "reason": anomaly.finding.reason,
                "age_seconds": round(now - anomaly.raised_at, 3),
            }
            for anomaly in self.decider.assessor.active
        ]

    def _subsystem(self, snapshot: SubsystemSnapshot, now: float, report: IncidentLook) -> answer.Subsystem:
        hold = self.decider.holds.get(snapshot.name, Hold(Rung.OPEN))
        progress: answer.Progress | None = None
        if snapshot.progress_done is not None:
            progress = {"done": snapshot.progress_done, "total": snapshot.progress_total}
        windows = self.spending.budget(snapshot.name)
        sentence = report.of(snapshot.name)
        return {
            "name": snapshot.name,
            "kind": snapshot.kind,
            "state": snapshot.state,
            "essential": snapshot.essential,
            "background": self._is_background(snapshot.name),
            "depends_on": self._depends_on(snapshot.name),
            "pid": snapshot.pid,
            "restarts": snapshot.restarts,
            "state_seconds": round(now - snapshot.since, 3),
            "hung": snapshot.hung,
            "status": snapshot.hung_reason or snapshot.status_text or snapshot.last_exit,
            "progress": progress,
            "vram_wanted_bytes": snapshot.vram_wanted_bytes,
            **self._footprint(snapshot.name),
            "tokens": self.spending.tokens(snapshot.name),
            "spent_microusd": self.spending.microusd(snapshot.name),
            "budget": {window: {"limit": limit, "used": used} for window, (limit, used) in windows.items()},
            "hold": {"rung": hold.rung.label, "reason": hold.reason},
            "sentence": None if sentence is None else sentence.as_json(),
            "log": str(self.directories.log(snapshot.name)) if snapshot.kind == "process" else "",
            "embedded": self._uses_embedded_models(snapshot.name),
            "confine": self._confinement(snapshot),
        }

    def confinements(self) -> dict[str, Confinement]:
        """Say of each subsystem with a process of ours how that is confined."""
        found = {snapshot.name: self._confined(snapshot) for snapshot in self.snapshots()}
        return {name: confined for name, confined in found.items() if confined is not None}

    def _confined(self, snapshot: SubsystemSnapshot) -> Confinement | None:
        """Say how its process is confined, or will be when it is started; None if it is none of ours."""
        if snapshot.kind != "process" or snapshot.name not in self.config.subsystems:
            return None
        cell = self.confinement(snapshot.name)
        if cell is not None:
            return cell
        # What runs without a cell has no walls, whatever is configured by now.
        return Confinement("open" if snapshot.pid else confine_of(snapshot.name, self.config).profile)

    def _confinement(self, snapshot: SubsystemSnapshot) -> answer.Confinement | None:
        found = self._confined(snapshot)
        if found is None:
            return None
        return {"profile": found.profile, "missing": dict(found.missing), "trouble": found.trouble}

    def _footprint(self, name: str) -> answer.Footprint:
        """Return the use by its processes; without figures if it has none, or they are old."""
        spec, footprint = self.config.subsystems.get(name), self.footprints().get(name)
        cores = footprint.cpu_cores if footprint else None
        return {
            "memory_bytes": footprint.memory_bytes if footprint else None,
            "memory_max_bytes": size_bytes(spec.memory_max) if spec else 0,
            "cpu_seconds": round(footprint.cpu_seconds, 2) if footprint else None,
            "cpu_cores": None if cores is None else round(cores, 3),
            "processes": footprint.processes if footprint else None,
        }

    def _depends_on(self, name: str) -> list[str]:
        spec = self.config.subsystems.get(name)
        return list(spec.depends_on) if spec else []

    def _is_background(self, name: str) -> bool:
        spec = self.config.subsystems.get(name)
        return spec is not None and spec.background

    def _served_by(self, upstream: str) -> str:
        spec = self.config.upstreams.get(upstream)
        return spec.served_by if spec else ""

    def _uses_embedded_models(self, name: str) -> bool:
        upstreams = self.config.upstreams.values()
        spec = self.config.subsystems.get(name)
        return bool(spec and spec.gateway and upstreams) and all(u.embedded for u in upstreams)

    def notices(self) -> list[str]:
        """Return the notes for a person beside the state, one plain line each."""
        notices = [NOTICE] if any(u.embedded for u in self.config.upstreams.values()) else []
        shut = self.shut()
        if shut:
            notices.append(f"the gateway is shut: {shut}")
        newest = self.newest_checkpoint()
        if newest is not None and not newest.ok:
            notices.append(f"checkpoint {newest.sentence}")
        for one in self.questions():
            answers = f"`epactl approve {one.number}` or `epactl deny {one.number}`"
            notices.append(f"{one.subsystem} asks for {one.line}: {answers}")
        return notices + [str(p["note"]) for p in self.probes.snapshot() if p["note"]]


def _incident(incident: CascadeIncident, now: float) -> answer.Incident:
    return {
        "root": incident.root,
        "reason": incident.reason,
        "age_seconds": round(now - incident.since, 3),
        "victims": list(incident.victims),
        "settled": incident.settled,
        "flapping": incident.flapping,
    }
