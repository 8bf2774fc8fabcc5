"""The state of everything as one JSON value."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import msgspec
import pytest
import structlog
from blank_answer import blank
from epad_house import configured
from epad_story import Story
from msgspec import structs

from epad import __version__
from epad.answers import status
from epad.answers.status import Subsystem
from epad.configuration.confine_schema import ConfineConfig
from epad.configuration.directories import Directories
from epad.configuration.embedded_default import NOTICE
from epad.configuration.schema import Config, SubsystemConfig, UpstreamConfig
from epad.confinement.cells import Confinement
from epad.confinement.host_questions import HostQuestions, HostSubject
from epad.ledger.integrity import LedgerStatus
from epad.operations.status import DaemonStatus
from epad.probing.loops import ProbeLoops
from probes.cascade import CascadeIncident
from probes.memory import Footprint
from probes.subsystems import SubsystemSnapshot, SubsystemState
from statemachine.finding import Finding
from statemachine.phase import Phase

SPECS = {
    "model": SubsystemConfig(command=("x",), essential=True, gateway=False),
    "chat": SubsystemConfig(command=("x",)),
}


class Spent:
    def tokens(self, subsystem: str) -> status.Tokens:
        return {"input": 30, "output": 12, "turns": 3}

    def microusd(self, subsystem: str) -> int:
        return 1_230_000 if subsystem == "chat" else 0

    def budget(self, subsystem: str) -> Mapping[str, tuple[int, int]]:
        return {"tokens_per_minute": (1_000, 42)} if subsystem == "chat" else {}

    def budgets(self) -> Mapping[str, Mapping[str, tuple[int, int]]]:
        return {"global": {"usd_per_day": (5, 1)}}


class NoGpu:
    name, interval_seconds, notice = "vram", 1.0, "no NVIDIA driver: not watched"

    async def sample(self) -> Sequence[Finding]:
        return []


def with_upstreams(**upstreams: bool) -> Config:
    config = configured(**SPECS)
    fields = {name: getattr(config, name) for name in config.__struct_fields__}
    made = {
        name: UpstreamConfig(url="http://127.0.0.1:1", dialects=("openai",), embedded=embedded)
        for name, embedded in upstreams.items()
    }
    return Config(**{**fields, "upstreams": made})


HOST = blank(status.Host)


class Bench:
    def __init__(self, config: Config | None = None) -> None:
        self.story = Story()
        self.incidents: list[CascadeIncident] = []
        self.approvals = HostQuestions(self.story.clock)
        self.loops = ProbeLoops(
            [NoGpu()], lambda _: None, self.story.clock, self.story.events, self.story.metrics
        )
        self.daemon_status = DaemonStatus(
            config=config or configured(**SPECS),
            directories=Directories(Path("/state"), Path("/run/epad"), Path("/srv/mine.toml")),
            clock=self.story.clock,
            started_at=self.story.clock.monotonic(),
            decider=self.story.decider,
            controller=self.story.controller,
            snapshots=self.snapshots,
            spending=Spent(),
            probes=self.loops,
            ledger=lambda: LedgerStatus(42, "ok", ""),
            host=lambda: HOST,
            incidents=lambda: self.incidents,
            questions=self.approvals.open,
        )

    def snapshots(self) -> list[SubsystemSnapshot]:
        since = self.story.clock.monotonic() - 5
        model = SubsystemSnapshot(
            "model", "process", SubsystemState.RUNNING, essential=True, since=since, pid=7
        )
        chat = SubsystemSnapshot(
            "chat",
            "process",
            SubsystemState.QUARANTINED,
            essential=False,
            since=since,
            restarts=2,
            progress_done=0,
            progress_total=100,
            last_exit="exit 1",
            vram_wanted_bytes=5 << 30,
        )
        return [model, chat]


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    with structlog.testing.capture_logs():
        yield


def test_it_is_json_and_says_who_and_where_it_is() -> None:
    """URLs once the doors are open."""
    bench = Bench()
    bench.daemon_status.gateway_url = "http://127.0.0.1:8700"
    bench.story.clock.advance(9)
    told = json.loads(json.dumps(bench.daemon_status.render()))
    assert (told["version"], told["pid"]) == (__version__, os.getpid())
    assert (told["phase"], told["phase_number"], told["uptime_seconds"]) == ("NORMAL", 0, 9.0)
    assert (told["state_directory"], told["config_file"]) == ("/state", "/srv/mine.toml")
    assert told["gateway"] == {"url": "http://127.0.0.1:8700"}
    assert told["ledger"] == {"records": 42, "verdict": "ok", "detail": "", "unchecked": 0}
    assert told["anomalies"] == []


def test_it_has_the_shape_that_the_api_describes() -> None:
    """With something of everything in it: no key is missing, of another type, or one too many."""
    bench = Bench(with_upstreams(embedded=True))
    bench.story.find("chat")
    bench.incidents.append(
        CascadeIncident("model", 0.0, "it hangs", ("chat",), settled=False, told=True, flapping=False)
    )
    bench.daemon_status.footprints = lambda: {"chat": Footprint(3 << 30, 12.345, 2, cpu_cores=0.25)}
    told = json.loads(json.dumps(bench.daemon_status.render()))
    assert msgspec.convert(told, status.Status) == told


def test_phase_sentence_anomalies_and_holds_are_the_deciders() -> None:
    """As of its last decision, with ages as of now."""
    bench = Bench()
    bench.story.find("chat")
    bench.story.clock.advance(7)
    told = bench.daemon_status.render()
    assert told["phase"] == Phase.QUARANTINE
    assert told["phase_seconds"] == 7.0
    assert told["phase_since"] == "2026-01-01T00:00:00+00:00"
    assert told["sentence"] == told["sentences"][0]["line"]
    assert told["sentence"].startswith("chat is frozen since ")
    assert told["sentence"].endswith(", or now: epactl release chat --reason TEXT")
    assert told["anomalies"] == [
        {
            "id": "token_burn/chat",
            "probe": "token_burn",
            "subsystem": "chat",
            "severity": "anomaly",
            "reason": "token_burn of chat",
            "age_seconds": 7.0,
        }
    ]
    sentences = {row["name"]: row["sentence"] for row in told["subsystems"]}
    assert sentences == {"model": None, "chat": told["sentences"][0]}
    holds = {row["name"]: row["hold"] for row in told["subsystems"]}
    assert holds == {
        "model": {"rung": "open", "reason": ""},
        "chat": {"rung": "freeze", "reason": "token_burn of chat"},
    }


def test_an_incident_is_shown_with_its_victims_and_its_age() -> None:
    """As the cascade probe sees it now."""
    bench = Bench()
    since = bench.story.clock.monotonic()
    incident = CascadeIncident(
        "model", since, "it hangs", ("chat",), settled=False, told=True, flapping=False
    )
    bench.incidents.append(incident)
    bench.story.clock.advance(2)
    assert bench.daemon_status.render()["incidents"] == [
        {
            "root": "model",
            "reason": "it hangs",
            "age_seconds": 2.0,
            "victims": ["chat"],
            "settled": False,
            "flapping": False,
        }
    ]


def test_a_subsystem_is_shown_with_what_it_does_and_has_used() -> None:
    """No progress reported is not progress 0; what ended tells how."""
    model, chat = Bench().daemon_status.render()["subsystems"]
    assert (model["state"], model["pid"], model["progress"], model["budget"]) == ("running", 7, None, {})
    assert chat["progress"] == {"done": 0, "total": 100}
    assert (model["vram_wanted_bytes"], chat["vram_wanted_bytes"]) == (None, 5 << 30)
    assert chat["budget"] == {"tokens_per_minute": {"limit": 1_000, "used": 42}}
    assert chat["tokens"] == {"input": 30, "output": 12, "turns": 3}
    assert (chat["restarts"], chat["status"]) == (2, "exit 1")


def test_a_process_is_shown_as_it_is_confined_and_not_as_it_is_configured() -> None:
    """What runs without a cell is open, though a reload has confined it since; what does not run is as it will be."""
    confined = {name: structs.replace(spec, confine=ConfineConfig()) for name, spec in SPECS.items()}
    bench = Bench(configured(**confined))
    model, chat = bench.daemon_status.render()["subsystems"]
    assert model["confine"] == {"profile": "open", "missing": {}, "trouble": ""}
    assert chat["confine"] == {"profile": "workspace", "missing": {}, "trouble": ""}
    bench.daemon_status.confinement = lambda _: Confinement("sealed", {"files": "a"}, "closed")
    model, _ = bench.daemon_status.render()["subsystems"]
    assert model["confine"] == {"profile": "sealed", "missing": {"files": "a"}, "trouble": "closed"}


def test_memory_and_cpu_are_shown_where_they_are_known() -> None:
    """And are none, not 0, where there are no processes, or nobody has looked yet."""
    bench = Bench()
    bench.daemon_status.footprints = lambda: {"chat": Footprint(3 << 30, 12.345, 2, cpu_cores=0.25)}
    model, chat = bench.daemon_status.render()["subsystems"]

    def figures(one: Subsystem) -> list[float | None]:
        return [one["memory_bytes"], one["cpu_seconds"], one["cpu_cores"], one["processes"]]

    assert figures(model) == [None] * 4
    assert figures(chat) == [3 << 30, 12.35, 0.25, 2]
    assert chat["memory_max_bytes"] == 0


@pytest.mark.parametrize(
    ("config", "embedded"),
    [
        (with_upstreams, {"model": False, "chat": False}),
        (lambda: with_upstreams(embedded=True), {"model": False, "chat": True}),
        (lambda: with_upstreams(embedded=True, vllm=False), {"model": False, "chat": False}),
    ],
)
def test_what_only_embedded_models_answer_is_marked(
    config: Callable[[], Config], embedded: dict[str, bool]
) -> None:
    """Nobody may take it for an LLM's result; with a real upstream beside it, it is not known whose it was."""
    daemon_status = Bench(config()).daemon_status
    assert {row["name"]: row["embedded"] for row in daemon_status.render()["subsystems"]} == embedded
    assert (NOTICE in daemon_status.notices()) == any(u.embedded for u in config().upstreams.values())


async def test_notices_hold_what_a_probe_has_to_say() -> None:
    """No GPU is one line."""
    bench = Bench()
    assert bench.daemon_status.notices() == []
    await bench.loops._look(bench.loops._probes[0])
    assert bench.daemon_status.notices() == ["no NVIDIA driver: not watched"]


def test_notices_hold_who_asks_for_a_host() -> None:
    """With how it is answered, for as long as it waits."""
    bench = Bench()
    bench.approvals.ask(HostSubject("chat", "a.example", 443), 1)
    assert bench.daemon_status.notices() == [
        "chat asks for a.example:443: `epactl approve 1` or `epactl deny 1`"
    ]
    bench.approvals.deny(1)
    assert bench.daemon_status.notices() == []
