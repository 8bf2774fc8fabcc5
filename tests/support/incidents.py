"""Incidents of every kind, each begun on the real decider, and the one line that a person is told of each.

`python tests/support/incidents.py` prints the table and writes it to docs/incidents.md. What the probes find is
worded as they word it; everything after that is the daemon's own.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC
from pathlib import Path

import structlog
from epad_story import Story

from epad.control_loop.plans import LEDGER, Target
from epad.control_loop.step import StepState
from epad.control_loop.stimulus import Paused, Released
from epad.incidents.report import IncidentReport
from epad.incidents.sentence import Sentence
from statemachine.containment import Containable
from statemachine.finding import HOST, OPERATOR, Finding, Severity
from statemachine.phase import Phase
from statemachine.rung import Rung
from statemachine.situation import Order

DOCUMENT = Path(__file__).parents[2] / "docs/incidents.md"
# 17:16:00: the table reads better in the afternoon.
AFTERNOON_SECONDS = 17 * 3_600 + 16 * 60

SUBSYSTEMS = (
    Containable("vllm", essential=True, has_process=True, needed=True),
    Containable("chat", essential=False, has_process=True, layer=1),
    Containable("agent", essential=False, has_process=True, layer=1),
    Containable("laptop", essential=False, has_process=False, layer=1),
    Containable("wargame", essential=False, has_process=True, layer=1, background=True),
)

HAMMERS = "23 times in 60 s it asked again before the time it was told: 11160 tokens with 12000 of 20000 used"
LOOPS = "the same prompt 8 times in a row"
STUCK = "41000 tokens in 62 s and still at 4/1000"
BUSY = "busier than its busy minutes are (900 tokens reserved, give or take 200): 9000 in this minute"
CRASHES = "crashed 3 times in 60 s, last with exit 1"
DISK = "410 MiB are free for epad's state, of 20480"

Upstream = dict[str, object]


def upstream(state: str, reason: str) -> Upstream:
    """A row of the status about a model server that is not well."""
    return {
        "name": "vllm",
        "url": "http://127.0.0.1:8000",
        "healthy": state == "limiting",
        "state": state,
        "reason": reason,
        "seconds": 12.0,
        "retry_seconds": 20.0 if state == "limiting" else 1.5,
    }


@dataclass(frozen=True)
class Incident:
    """One incident; `held` are the subsystems that it holds, `waits` how long it has lasted when it is told of."""

    name: str
    begin: Callable[[Incidents], None]
    held: frozenset[str] = frozenset()
    phase: Phase = Phase.QUARANTINE
    waits: float = 12.0
    upstreams: Sequence[Upstream] = ()

    def happen(self) -> Incidents:
        """Let it happen."""
        scene = Incidents(upstreams=self.upstreams)
        self.begin(scene)
        scene.story.wait(self.waits)
        return scene


@dataclass
class Incidents:
    """A workstation on which one happens."""

    upstreams: Sequence[Upstream] = ()
    story: Story = field(default_factory=Story)

    def __post_init__(self) -> None:
        self.story.clock.jump_wall_clock(AFTERNOON_SECONDS)
        self.story.world.subsystems = SUBSYSTEMS
        self.story.die_and_return()

    @property
    def report(self) -> IncidentReport:
        story = self.story
        return IncidentReport(story.decider, story.clock, lambda: self.upstreams, UTC)

    def find(
        self, subsystem: str, probe: str, reason: str, severity: Severity = Severity.ANOMALY, **more: str
    ) -> None:
        """A probe finds something."""
        unit, label = more.pop("unit", ""), more.pop("rung", "")
        rung = Rung.labelled(label) if label else None
        now = self.story.clock.monotonic()
        self.story.tell(
            Finding(probe, subsystem, severity, now, reason, unit=unit, evidence=more, hard=True, rung=rung)
        )

    def order(self, subsystem: str, reason: str, **how: str) -> None:
        """A person holds a subsystem."""
        self.find(subsystem, OPERATOR, f"held by ada: {reason}", Severity.ANOMALY, **how)

    def runs_away(self, subsystem: str = "chat") -> None:
        self.find(subsystem, "token_burn", HAMMERS, rung="freeze")

    def slows_down(self, *subsystems: str) -> None:
        for name in subsystems:
            self.find(name, "token_rate", BUSY, rung="throttle")

    def persisted(self) -> None:
        self.story.end()

    def parks(self, subsystem: str) -> None:
        """Two recoveries did not heal it."""
        story = self.story
        story.world.broken.add(subsystem)
        self.find(subsystem, "cascade", CRASHES)
        self.runs_away()
        for _ in range(3):
            story.end()
            story.wait(35)
        story.end()
        story.world.broken.clear()
        story.wait_until(Phase.NORMAL, 200)

    def suffers(self) -> None:
        """A model server is found crashing, and its users with it."""
        self.story.world.suffering = {"chat": "vllm", "agent": "vllm"}
        self.find("vllm", "cascade", f"{CRASHES}; chat, agent suffer from it")

    def comes_back(self) -> None:
        """It has been let go three times and is back."""
        for _ in range(3):
            self.runs_away()
            self.story.wait_until(Phase.NORMAL, 3_000)
        self.runs_away()

    def recovers(self) -> None:
        self.story.world.broken.add("vllm")
        self.find("vllm", "liveness", "it has failed: exit 1 six times", Severity.CRITICAL)
        self.persisted()

    def loses_everything(self) -> None:
        self.runs_away()
        self.runs_away("agent")
        self.story.end(state=StepState.FAILED)


def _mends_the_ledger(scene: Incidents) -> None:
    scene.story.world.damage.add(LEDGER)
    scene.find(HOST, "ledger_integrity", "record 7 does not hash to what the chain has", Severity.CRITICAL)
    scene.persisted()


def _blind(scene: Incidents) -> None:
    scene.find("agent", "vram", "GPU 0 (H200) is 98.0% full: 137000 of 139800 MiB")
    scene.story.world.blind.add("vram")


def _two(scene: Incidents, first: str, second: str, *, persisted: bool = False) -> None:
    scene.runs_away(first)
    scene.find(second, "cascade", CRASHES)
    if persisted:
        scene.persisted()


def _released_in_preservation(scene: Incidents) -> None:
    _two(scene, "chat", "wargame", persisted=True)
    scene.story.tell(Released("wargame", "looked at (ada)"))


def _ordered_out(scene: Incidents) -> None:
    scene.story.order(Order.LIFEBOAT)
    scene.persisted()


def _released(scene: Incidents) -> None:
    scene.runs_away()
    scene.story.tell(Released("chat", "looked at (ada)"))


def _paused(scene: Incidents) -> None:
    scene.story.tell(Paused("chat", "paused by ada: lunch"))


def _store(scene: Incidents) -> None:
    scene.story.world.damage.add(Target.datastore("memory", "agent"))
    reason = "datastore memory: shrunk: 600 rows are gone; the last verified checkpoint is 0007"
    scene.find("agent", "datastore", reason)


INCIDENTS: tuple[Incident, ...] = (
    Incident("a client hammers against its budget", lambda s: s.runs_away(), frozenset({"chat"})),
    Incident(
        "an agent asks the same again and again",
        lambda s: s.find("agent", "token_rate", LOOPS, rung="throttle"),
        frozenset({"agent"}),
    ),
    Incident(
        "a client is much busier than usual",
        lambda s: s.slows_down("chat"),
        frozenset({"chat"}),
    ),
    Incident(
        "four clients are slowed down, each for itself",
        lambda s: s.slows_down("chat", "agent", "laptop", "wargame"),
        frozenset({"chat", "agent", "laptop", "wargame"}),
    ),
    Incident(
        "an agent spends and gets nowhere",
        lambda s: s.find("agent", "progress", STUCK, rung="throttle"),
        frozenset({"agent"}),
    ),
    Incident(
        "a program crashes again and again",
        lambda s: s.find("agent", "cascade", CRASHES),
        frozenset({"agent"}),
    ),
    Incident(
        "a model server crashes, and two users suffer from it",
        lambda s: s.suffers(),
        frozenset({"vllm", "chat", "agent"}),
    ),
    Incident(
        "a process hangs",
        lambda s: s.find("agent", "liveness", "it hangs: silent for 31 s, its watchdog is 30 s"),
        waits=5.0,
    ),
    Incident(
        "a GPU is filled by one subsystem",
        lambda s: s.find("agent", "vram", "GPU 0 (H200) is 98.0% full: 137000 of 139800 MiB"),
        frozenset({"agent"}),
    ),
    Incident("the same, and then the driver cannot be asked", _blind, frozenset({"agent"})),
    Incident(
        "a key is used by another user of the machine",
        lambda s: s.find("laptop", "identity", "its key came from a process of uid 1004"),
        frozenset({"laptop"}),
    ),
    Incident("a datastore has lost rows", _store, frozenset({"agent"}), waits=5.0),
    Incident(
        "an alert of Prometheus names a subsystem",
        lambda s: s.find("chat", "alerts", "ChatSlow fires: the chat answers slowly"),
        frozenset({"chat"}),
    ),
    Incident("a person holds one", lambda s: s.order("chat", "it looks odd"), frozenset({"chat"})),
    Incident(
        "a person stops one", lambda s: s.order("chat", "not tonight", rung="stop"), frozenset({"chat"})
    ),
    Incident(
        "a person lets one rest",
        _paused,
        frozenset({"chat"}),
        Phase.NORMAL,
    ),
    Incident(
        "one is parked after two recoveries", lambda s: s.parks("agent"), frozenset({"agent"}), Phase.NORMAL
    ),
    Incident("one that comes back each time it is let go", lambda s: s.comes_back(), frozenset({"chat"})),
    Incident(
        "two independent troubles; the checkpoint is being made",
        lambda s: _two(s, "chat", "agent"),
        frozenset({"chat", "agent", "wargame"}),
        Phase.PRESERVATION,
    ),
    Incident(
        "the same; the checkpoint is made",
        lambda s: _two(s, "chat", "agent", persisted=True),
        frozenset({"chat", "agent", "wargame"}),
        Phase.PRESERVATION,
    ),
    Incident(
        "one of two is released, and is in the background",
        _released_in_preservation,
        frozenset({"chat", "wargame"}),
        Phase.PRESERVATION,
    ),
    Incident(
        "the disk is nearly full",
        lambda s: s.find(HOST, "host", DISK, Severity.CRITICAL, unit="bytes"),
        frozenset({"chat", "agent", "laptop", "wargame"}),
        Phase.PRESERVATION,
    ),
    Incident(
        "a record of the ledger is damaged",
        _mends_the_ledger,
        frozenset(),
        Phase.RECOVERY,
    ),
    Incident(
        "an essential server has failed and is being restarted",
        lambda s: s.recovers(),
        frozenset(),
        Phase.RECOVERY,
    ),
    Incident(
        "no checkpoint can be written",
        lambda s: s.find(HOST, "checkpoint", "no checkpoint could be written: Permission denied"),
    ),
    Incident(
        "a GPU has fallen off the bus",
        lambda s: s.find(
            HOST,
            "vram",
            "GPU 0 reported Xid 79: it has fallen off the bus and needs a reboot",
            Severity.CRITICAL,
            unit="xid",
        ),
        frozenset({"wargame"}),
        Phase.PRESERVATION,
    ),
    Incident(
        "nothing can be saved any more",
        lambda s: s.loses_everything(),
        frozenset({"vllm", "chat", "agent", "laptop", "wargame"}),
        Phase.LIFEBOAT,
    ),
    Incident(
        "a person orders the lifeboat",
        _ordered_out,
        frozenset({"vllm", "chat", "agent", "laptop", "wargame"}),
        Phase.LIFEBOAT,
    ),
    Incident(
        "a trouble was released and the phase waits out its shortest stay",
        _released,
    ),
    Incident(
        "a model server is gone",
        lambda _: None,
        phase=Phase.NORMAL,
        upstreams=[upstream("gone", "connection refused")],
    ),
    Incident(
        "a model server does not take epad's key",
        lambda _: None,
        phase=Phase.NORMAL,
        upstreams=[upstream("rejecting", "HTTP 401")],
    ),
    Incident(
        "a model server loads its model",
        lambda _: None,
        phase=Phase.NORMAL,
        upstreams=[upstream("loading", "HTTP 503: loading model")],
    ),
    Incident(
        "a model server limits epad",
        lambda _: None,
        phase=Phase.NORMAL,
        upstreams=[upstream("limiting", "HTTP 429, Retry-After 20 s")],
    ),
)


def markdown() -> str:
    """The table of docs/incidents.md."""
    lines = ["| incident | phase | who | why | until when | what to do |", "|---|---|---|---|---|---|"]
    for incident in INCIDENTS:
        scene = incident.happen()
        phase, report = scene.story.phase, scene.report
        own = [report.phase(), *report.current()]
        for number, one in enumerate(sentence for sentence in own if sentence is not None):
            lines.append(_row(incident.name if not number else "", phase if not number else "", one))
    return "\n".join(lines) + "\n"


def _row(name: str, phase: str, one: Sentence) -> str:
    who = " ".join(part for part in (one.who, one.what, one.since and f"since {one.since}") if part)
    do = f"`{one.do}`" if one.do.startswith("epactl ") else one.do
    return f"| {name} | {phase} | {who} | {one.why} | {one.until} | {do} |"


if __name__ == "__main__":
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    table = markdown()
    above = DOCUMENT.read_text().partition("| incident |")[0]
    DOCUMENT.write_text(above + table)
    print(table, end="")
