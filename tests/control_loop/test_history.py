"""Why: the chain of an incident, as a person reads it."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence

import pytest
import structlog
from epad_story import Story, at_once

from epad.answers.decisions import Kind, Link
from epad.control_loop import history as module
from epad.control_loop.history import History
from epad.control_loop.plans import Target
from epad.control_loop.step import Lane, StepState
from epad.control_loop.stimulus import Forced
from epad.storage.event_log import EventKind
from statemachine.finding import Finding, Severity
from statemachine.phase import Phase
from statemachine.rung import Rung
from statemachine.situation import Order


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    with structlog.testing.capture_logs():
        yield


@pytest.fixture
def story() -> Story:
    return Story()


ORDER: list[Kind] = ["finding", "anomaly", "rule", "step", "result"]


def chain(story: Story, subject: str | None = None) -> Sequence[Link]:
    return at_once(History(story.database).explain(subject))


def kinds(links: Sequence[Link]) -> list[Kind]:
    return [link["kind"] for link in links]


def test_the_chain_is_finding_anomaly_rule_step_result(story: Story) -> None:
    """In this order even where all of it happened in one millisecond, each link with its id."""
    story.find("chat")
    story.end(Lane.CONTAINMENT)
    links = chain(story, "chat")
    assert [(link["kind"], link["id"]) for link in links] == [
        ("finding", "anomaly-1"),
        ("anomaly", "anomaly-1"),
        ("rule", "transition-1"),
        ("step", "step-1"),
        ("result", "step-1"),
    ]
    assert [link["text"] for link in links] == [
        "token_burn/chat: token_burn of chat",
        "token_burn/chat raised as anomaly",
        "NORMAL -> QUARANTINE by isolate [troubled]: one subsystem misbehaves",
        "hold chat freeze",
        "hold chat: done after 0 attempt(s): as the test says",
    ]


def test_the_rung_that_a_finding_names_stands_beside_its_evidence(
    story: Story, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the chain and in the event; a finding that leaves it to its probe has none."""
    told: list[tuple[EventKind, dict[str, object]]] = []
    monkeypatch.setattr(story.events, "emit", lambda kind, _="", **fields: told.append((kind, fields)))
    story.find("chat", rung=Rung.STOP)
    story.find("game")
    [firm], [other] = (
        [link for link in chain(story, n) if link["kind"] == "finding"] for n in ("chat", "game")
    )
    assert firm["fields"] == {"value": None, "limit": None, "unit": "", "rung": "stop", "evidence": {}}
    assert "rung" not in other["fields"]
    raised = [fields for kind, fields in told if kind is EventKind.ANOMALY_RAISED]
    assert [(fields.get("rung"), fields["evidence"]) for fields in raised] == [("stop", {}), (None, {})]


def test_a_victims_chain_begins_with_its_root(story: Story) -> None:
    """It is held for nothing that was found of itself: what was found of the one it waits for is why."""
    story.world.suffering = {"chat": "model"}
    story.find("model")
    links = chain(story, "chat")
    assert (links[0]["kind"], links[0]["text"]) == ("finding", "token_burn/model: token_burn of model")
    held = next(link for link in links if link["text"] == "hold chat freeze")
    assert held["fields"]["arguments"]["root"] == "model"
    assert kinds(chain(story, "guest")) == []


def test_what_names_a_subsystem_as_its_victim_is_in_its_chain(story: Story) -> None:
    """Also where the victim itself runs on, because no more may be paused."""
    now, names = story.clock.monotonic(), {"victims": ["chat"]}
    story.tell(Finding("cascade", "model", Severity.ANOMALY, now, "it fails", evidence=names, hard=True))
    assert "cascade/model raised as anomaly" in [link["text"] for link in chain(story, "chat")]


def test_a_restore_is_told_of_the_store_and_of_who_writes_it(story: Story) -> None:
    """Damaged together with another's, it was restored before a finding of its own; the rule and the step tell."""
    story.world.damage |= {Target.datastore("memory", "chat"), Target.datastore("maps", "game")}
    evidence = {"datastores": ["maps"]}
    now = story.clock.monotonic()
    story.tell(
        Finding("datastore", "game", Severity.CRITICAL, now, "maps: rot", evidence=evidence, hard=True)
    )
    assert story.end() is Phase.RECOVERY
    for subject in ("chat", "memory"):
        texts = [str(link["text"]) for link in chain(story, subject)]
        assert "restore_datastore memory" in texts
        assert "restore_datastore maps" not in texts
        assert any("-> RECOVERY by recover [degraded]" in text for text in texts)
    assert "restart chat" in [link["text"] for link in chain(story, "chat")]
    assert chain(story, "maps")[0]["text"] == "datastore/game: maps: rot"


def test_within_one_millisecond_causes_stand_before_effects(story: Story) -> None:
    """Whatever there was of each."""
    story.find("chat")
    story.find("game")
    story.end(Lane.CONTAINMENT)
    shown = kinds(chain(story))
    assert shown == sorted(shown, key=ORDER.index)
    assert shown.count("finding") == shown.count("rule") == 2
    assert shown.count("step") == shown.count("result") > 2


def test_what_comes_later_stands_later(story: Story) -> None:
    """Cleared, released and back in NORMAL: after the quarantine, and with the time."""
    story.find("chat")
    story.wait(130)
    links = chain(story, "chat")
    assert [link["at"] for link in links] == sorted(str(link["at"]) for link in links)
    texts = [str(link["text"]) for link in links]
    assert texts.index("token_burn/chat cleared: quiet for 120 s") > texts.index("hold chat freeze")
    assert texts.index("hold chat open") > texts.index("hold chat freeze")
    assert "QUARANTINE -> NORMAL by resume [settled]: the anomaly has cleared" in texts


def test_one_subsystem_is_not_told_of_another(story: Story) -> None:
    """Unless both are part of the same transition."""
    story.find("chat")
    story.wait(150)
    story.find("game")
    assert not any("chat" in str(link["text"]) for link in chain(story, "game"))
    story.find("chat")
    assert any("PRESERVATION" in str(link["text"]) for link in chain(story, "game"))


def test_without_a_subject_it_is_the_last_incident(story: Story) -> None:
    """Everything since NORMAL was last left, and nothing of the one before."""
    story.find("chat")
    story.wait(150)
    story.find("game")
    story.find("model", "vram", Severity.CRITICAL)
    texts = [str(link["text"]) for link in chain(story)]
    assert any("token_burn/game" in text for text in texts)
    assert any("vram/model" in text for text in texts)
    assert not any("token_burn/chat" in text for text in texts)


def test_what_is_active_now_is_explained_first(story: Story) -> None:
    """Though no transition was needed for it: the phase was that already, for what is over by now."""
    story.quarantine("chat")
    story.release("chat")
    story.quarantine("game")
    assert story.path() == ["QUARANTINE"]
    texts = [str(link["text"]) for link in chain(story)]
    assert texts[:3] == [
        "operator/game: operator of game",
        "operator/game raised as anomaly",
        "hold game freeze",
    ]
    assert texts.index("operator/chat: operator of chat") > 2
    told = [(link["id"], link["text"]) for link in chain(story)]
    assert len(told) == len(set(told))


def test_a_forced_move_says_who_and_why(story: Story) -> None:
    """In the chain of its phase, beside the guard that held once the waiting was over."""
    story.find("chat")
    story.wait(1)
    assert story.tell(Forced(Phase.PRESERVATION, "forced by uid 7: I saw it")) is Phase.PRESERVATION
    texts = [str(link["text"]) for link in chain(story, Phase.PRESERVATION)]
    assert any("[outlasted]" in text and text.endswith(": forced by uid 7: I saw it") for text in texts)


def test_an_event_is_explained_by_what_it_tells_of(story: Story) -> None:
    """A change of phase by its transition, an anomaly's by the anomaly; one that tells of neither is all there is."""
    story.find("chat")
    story.wait(5)
    story.find("model", "vram", Severity.CRITICAL)
    story.events.emit(EventKind.NOTICE, text="nothing")
    asyncio.run(story.events.flush())
    rows = {kind: number for number, kind in story.rows("SELECT id, kind FROM event ORDER BY id DESC")}
    by_change = chain(story, str(rows[EventKind.PHASE_CHANGED]))
    assert kinds(by_change)[0] == "event"
    assert "NORMAL -> QUARANTINE" in str(next(link for link in by_change if link["kind"] == "rule")["text"])
    raised = chain(story, str(rows[EventKind.ANOMALY_RAISED]))
    assert "token_burn/chat raised as anomaly" in [link["text"] for link in raised]
    assert kinds(chain(story, str(rows[EventKind.NOTICE]))) == ["event"]
    assert chain(story, "9999") == []


def test_a_link_is_explained_by_its_own_id(story: Story) -> None:
    """A transition and a step lead to the same finding."""
    story.find("chat")
    for subject in ("transition-1", "step-1", "anomaly-1"):
        assert "token_burn/chat raised as anomaly" in [link["text"] for link in chain(story, subject)]
    assert chain(story, "step-99") == chain(story, "transition-99") == []


def test_a_phase_is_explained_by_its_latest_entry(story: Story) -> None:
    """With what was found, and what was done."""
    story.find("chat")
    story.find("game", "cascade")
    story.end(state=StepState.FAILED)
    texts = [str(link["text"]) for link in chain(story, Phase.LIFEBOAT)]
    assert any("-> LIFEBOAT by abandon [hopeless]" in text for text in texts)
    assert any(text.startswith("lifeboat host") for text in texts)


def test_a_phase_that_was_ordered_is_explained_without_an_anomaly(story: Story) -> None:
    """Only its latest entry, and what was done then."""
    for _ in range(2):
        story.order(Order.LIFEBOAT)
        story.end()
        story.order(Order.RELAUNCH)
    links = chain(story, Phase.PRESERVATION)
    assert kinds(links).count("rule") == 1
    assert [str(link["text"]) for link in links if link["kind"] == "step"][-1] == "checkpoint host"
    assert kinds(links).count("step") == 2  # the one in the background, and the checkpoint


def test_an_anomaly_is_explained_by_its_id(story: Story) -> None:
    """As events and log lines name it."""
    story.find("chat")
    story.wait(150)
    story.find("game")
    assert {link["id"] for link in chain(story, "anomaly-2") if link["kind"] == "finding"} == {"anomaly-2"}
    assert chain(story, "anomaly-99") == []


def test_a_comeback_is_counted(story: Story) -> None:
    """A repeated offender is told from a new one."""
    for _ in range(2):
        story.find("chat")
        story.wait(150)
    assert any("raised as anomaly, 2 times by now" in str(link["text"]) for link in chain(story, "chat"))


def test_nothing_happened_is_an_empty_chain(story: Story) -> None:
    """Not an error."""
    assert chain(story) == []
    assert chain(story, "chat") == []
    assert at_once(History(story.database).transitions()) == []


def test_a_long_chain_shows_its_newest_links(story: Story, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is happening now is what one asks about."""
    story.find("chat")
    story.wait(150)
    whole = chain(story, "chat")
    monkeypatch.setattr(module, "MAX_LINKS", 3)
    assert chain(story, "chat") == whole[-3:]
    story.find("game")
    story.end(Lane.CONTAINMENT)
    assert len(chain(story)) == 3
    assert {link["id"] for link in chain(story)} <= {link["id"] for link in chain(story, "game")}


def test_transitions_are_told_oldest_first_with_their_facts(story: Story) -> None:
    """The newest ones, if there are more than asked for."""
    story.find("chat")
    story.find("game")
    history = History(story.database)
    both = at_once(history.transitions())
    assert [(t["source"], t["destination"], t["guard"]) for t in both] == [
        ("NORMAL", "QUARANTINE", "troubled"),
        ("QUARANTINE", "PRESERVATION", "grave"),
    ]
    assert both[1]["cause"]["situation"]["anomalies"] == 2
    assert at_once(history.transitions(limit=1)) == both[1:]
