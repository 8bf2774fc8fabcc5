"""Every kind of incident is told in one line, and what the line promises is true."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from datetime import date, datetime, time

import pytest
import structlog
from epad_story import Story
from incidents import DOCUMENT, INCIDENTS, Incident, Incidents, markdown
from prometheus_client.samples import Sample

from epad.control_loop.stimulus import Forced, Released, Resumed
from epad.epactl.command_line import make_parser
from epad.incidents.metrics import HOLD
from epad.incidents.report import CALM, IncidentReport
from epad.incidents.sentence import NOT_BY_ITSELF
from epad.metrics.registry import Metrics
from statemachine.containment import Rung
from statemachine.finding import HOST
from statemachine.phase import Phase
from statemachine.situation import Order

TIME = re.compile(r"at (?:(\d{4}-\d\d-\d\d) )?(\d\d):(\d\d):(\d\d)")

every_incident = pytest.mark.parametrize("incident", INCIDENTS, ids=lambda incident: incident.name)


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    with structlog.testing.capture_logs():
        yield


def held(scene: Incidents) -> set[str]:
    return {name for name, hold in scene.story.decider.holds.items() if hold.rung is not Rung.OPEN}


def seconds_until(scene: Incidents, text: str) -> float | None:
    """How far away the time is that a clause names; None where it names none."""
    found = TIME.search(text)
    if found is None:
        return None
    now = scene.story.clock.utc()
    hour, minute, second = map(int, found.groups()[1:])
    day = date.fromisoformat(found[1].strip()) if found[1] else now.date()
    there = datetime.combine(day, time(hour, minute, second), now.tzinfo)
    return (there - now).total_seconds()


def test_the_document_is_what_the_daemon_says() -> None:
    """`python tests/support/incidents.py` writes it."""
    assert DOCUMENT.read_text().endswith("\n\n" + markdown())
    assert len(INCIDENTS) >= 30


@every_incident
def test_an_incident_holds_whom_it_is_about_and_those_who_may_be_cut(incident: Incident) -> None:
    """And the phase is the one that it calls for."""
    scene = incident.happen()
    assert (scene.story.phase, held(scene)) == (incident.phase, incident.held)


@every_incident
def test_everyone_who_is_held_is_named_with_the_reason_an_end_and_a_way_out(incident: Incident) -> None:
    """In a sentence of its own, and in the headline; no clause of that stands twice."""
    scene = incident.happen()
    headline = scene.report.headline()
    for name in held(scene):
        sentence = scene.report.of(name)
        assert sentence is not None
        assert sentence.who == name
        assert sentence.why
        assert sentence.until
        assert sentence.do
        assert name in headline or scene.story.phase is Phase.LIFEBOAT
    clauses = [clause for part in headline.split(". ") for clause in part.split("; ")]
    assert len(clauses) == len(set(clauses)), clauses
    assert (headline == CALM) is (
        not held(scene) and not incident.upstreams and incident.phase is Phase.NORMAL
    )


@every_incident
def test_it_ends_by_itself_when_it_is_said_to(incident: Incident) -> None:
    """Not before, and not much later; what does not end by itself still stands after days."""
    for name in sorted(incident.held):
        scene = incident.happen()
        sentence = scene.report.of(name)
        assert sentence is not None
        seconds = seconds_until(scene, sentence.until)
        if sentence.until == NOT_BY_ITSELF:
            scene.story.wait(600)
            scene.story.clock.advance(2 * 86_400)
            scene.story.tell()
            assert name in held(scene)
        elif seconds is not None and "takes" not in sentence.until:
            scene.story.wait(seconds - 1)
            assert scene.report.of(name) is not None, sentence.line
            scene.story.wait(7)
            assert name not in held(scene), sentence.line


@every_incident
def test_the_command_that_is_named_does_end_it(incident: Incident) -> None:
    """A release, a resume or a forced phase lets go at once."""
    for name in sorted(incident.held):
        scene = incident.happen()
        sentence = scene.report.of(name)
        assert sentence is not None
        story, do = scene.story, sentence.do
        if do.startswith("epactl explain"):
            continue
        if do.startswith("epactl release"):
            story.tell(Released(name, "looked at"))
        elif do.startswith("epactl resume"):
            story.tell(Resumed(name))
        elif do.startswith("epactl phase --force"):
            story.tell(Forced(Phase(do.split()[3]), "looked at"))
        else:
            assert do == "epactl lifeboat relaunch --reason TEXT"
            story.order(Order.RELAUNCH)
        assert name not in held(scene), sentence.line


@every_incident
def test_a_daemon_that_died_tells_the_same(incident: Incident) -> None:
    """The sentences are made of what is in the journal; of a recovery under way, only the details are gone."""
    scene = incident.happen()
    before = {name: scene.report.line_of(name) for name in held(scene)}
    scene.story.die_and_return()
    after = {name: scene.report.line_of(name) for name in held(scene)}
    for name, line in before.items():
        # Since when it has been quiet is not in the journal: the time starts anew.
        assert TIME.sub("", after[name]) == TIME.sub("", line) or "takes" in line


def test_nothing_wrong_is_said_in_three_words() -> None:
    """And nobody has a sentence."""
    story = Story()
    report = IncidentReport(story.decider, story.clock)
    assert (report.headline(), report.current(), report.of("chat"), report.line_of("chat")) == (
        CALM,
        [],
        None,
        "",
    )


@every_incident
def test_the_series_name_who_is_held_how_and_until_when(incident: Incident) -> None:
    """An alert joins them, so that whoever is woken reads the name, the rung and the time; nothing stays behind."""
    scene, metrics = incident.happen(), Metrics()
    metrics.of(HOLD).labels("gone", "freeze", "found").set(1)
    scene.report.observe(metrics)
    held_series = {sample.labels["subsystem"] for sample in _samples(metrics, "epad_subsystem_hold")}
    assert held_series == held(scene)
    now = scene.story.clock.utc().timestamp()
    for sample in _samples(metrics, "epad_subsystem_hold_ends_timestamp_seconds"):
        scene = incident.happen()
        scene.story.wait(sample.value - now + 6)
        assert sample.labels["subsystem"] not in held(scene)


def _samples(metrics: Metrics, name: str) -> list[Sample]:
    return [s for family in metrics.registry.collect() for s in family.samples if s.name == name]


@every_incident
def test_every_command_that_is_named_can_be_typed_as_it_stands(incident: Incident) -> None:
    """TEXT is the only thing to fill in: no option is missing that the command line asks for."""
    report, parser = incident.happen().report, make_parser()
    commands = {one.do for one in report.about(None) + report.about(HOST)}
    for command in (part for do in commands for part in do.split("; ") if part.startswith("epactl ")):
        parser.parse_args(shlex.split(command)[1:])


def test_a_reason_without_end_is_cut() -> None:
    """It may quote what a program or a server has said; the journal has all of it."""
    scene = Incidents()
    scene.find("chat", "token_burn", "x" * 5_000, rung="freeze")
    assert len(scene.report.line_of("chat")) < 500
    assert scene.report.line_of("chat").endswith("epactl release chat --reason TEXT")


def test_a_report_says_how_things_are_whenever_it_is_asked() -> None:
    """Whoever keeps one, as the notifier and the gateway do, is never told of what is over."""
    scene = Incidents()
    report = scene.report
    assert report.headline() == CALM
    scene.runs_away()
    assert report.line_of("chat")
    scene.story.tell(Released("chat", "looked at"))
    assert report.line_of("chat") == ""
