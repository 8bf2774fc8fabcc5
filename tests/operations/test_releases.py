"""`epactl release` in every phase, for every reason: it lets go, or says why not; and a 403 promises what is true."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import fields
from types import SimpleNamespace
from typing import Any

import pytest
import structlog
from epad_story import NAMES, Story, in_lifeboat, in_normal, into_recovery

from epad.answers.orders import Result
from epad.control_loop.step import Lane, OperationEnded, StepState
from epad.control_loop.stimulus import Forced, Ordered, Paused, Resumed, Stimulus
from epad.gateway.access import WORDS_SECONDS, Access
from epad.incidents.report import IncidentReport
from epad.operations.implementation import DaemonOperations
from epad.operations.protocol import ConflictError, UnknownSubsystemError
from epad.operations.status import NoTools
from statemachine.containment import Rung
from statemachine.finding import HOST, Severity
from statemachine.phase import Phase
from statemachine.situation import Order


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    with structlog.testing.capture_logs():
        yield


class Desk:
    """Orders that are carried out on a story at once; stands for the status, the controller and the rest."""

    def __init__(self, begin: Callable[[Story], object]) -> None:
        self.story = Story()
        begin(self.story)
        parts: dict[str, Any] = {field.name: self for field in fields(DaemonOperations)}
        story = {"decider": self.story.decider, "event_log": self.story.events, "clock": self.story.clock}
        self.orders = DaemonOperations(**{**parts, **story})

    tools = NoTools()

    def snapshots(self) -> list[SimpleNamespace]:
        return [SimpleNamespace(name=name) for name in NAMES]

    async def order(self, stimulus: Stimulus, wait_for: Lane = Lane.CONTAINMENT) -> list[OperationEnded]:
        while self.story.operations(Lane.CONTAINMENT):
            self.story.end_unheard(Lane.CONTAINMENT, StepState.DONE)
        self.story.tell(stimulus)
        return [
            self.story.end_unheard(Lane.CONTAINMENT, StepState.DONE)
            for _ in self.story.operations(Lane.CONTAINMENT)
        ]

    async def release(self, name: str) -> Result:
        return await self.orders.release(name, "looked at", "ada")

    async def obey(self, command: str, name: str, phase: str) -> None:
        """Do as a sentence says; what only explains changes nothing."""
        match command:
            case "release":
                await self.release(name)
            case "resume":
                await self.order(Resumed(name))
            case "phase":
                await self.order(Forced(Phase(phase), "looked at"))
            case "lifeboat":
                await self.order(Ordered(Order.RELAUNCH, "looked at"))

    def is_held(self, name: str) -> bool:
        return self.story.held(name).rung is not Rung.OPEN


def preserved(story: Story, *found: str) -> None:
    """PRESERVATION, and the checkpoint is written."""
    for name in found:
        story.find(name)
    story.end()


def in_recovery(story: Story) -> None:
    into_recovery(story, "model")
    story.quarantine("guest")


def in_quarantine(story: Story) -> None:
    in_normal(story)
    story.find("chat")


def suffering(story: Story) -> None:
    story.world.suffering = {"chat": "model"}
    story.find("model", "cascade")


def preserved_and_suffering(story: Story) -> None:
    suffering(story)
    preserved(story, "game")


def short_of_disk(story: Story) -> None:
    story.find(HOST, "host", Severity.CRITICAL)
    story.end()


def held_twice(story: Story) -> None:
    story.tell(Paused("chat", "paused by ada: lunch"))
    story.find("chat")


def held_in_the_background(story: Story) -> None:
    story.quarantine("guest")
    preserved(story, "chat", "game")


# How it comes to be held, whom is asked for, and what the answer must say; empty where it lets go.
LETS_GO: list[tuple[str, Callable[[Story], object], str]] = [
    ("frozen, in QUARANTINE", lambda s: s.find("chat"), "chat"),
    ("throttled, in QUARANTINE", lambda s: s.find("chat", "token_rate"), "chat"),
    ("stopped, in QUARANTINE", lambda s: s.find("chat", "cascade"), "chat"),
    ("by a person", lambda s: s.quarantine("chat"), "chat"),
    ("by a person and by a probe", lambda s: (s.quarantine("chat"), s.find("chat")), "chat"),
    ("frozen, in PRESERVATION", lambda s: preserved(s, "chat", "game"), "chat"),
    ("while the checkpoint is written", lambda s: (s.find("chat"), s.find("game")), "chat"),
    ("by a person, in RECOVERY", in_recovery, "guest"),
    ("parked, in NORMAL", in_normal, "game"),
    ("parked, in QUARANTINE", in_quarantine, "game"),
    ("the root of another's trouble", suffering, "model"),
]
STAYS: list[tuple[str, Callable[[Story], object], str, str]] = [
    (
        "in the background, in PRESERVATION",
        lambda s: preserved(s, "chat", "game"),
        "guest",
        ("a release does not end this: guest is blocked since 00:00: PRESERVATION: background work is paused; "
        "goes on by itself at 00:02:00 if nothing else is found"),
    ),
    (
        "in the background, and found itself too",
        lambda s: preserved(s, "chat", "guest"),
        "guest",
        ("what it was held for itself is over, but guest is blocked since 00:00: PRESERVATION: background work is "
        "paused; goes on by itself at 00:00:30 if nothing else is found, or now: "
        "epactl phase --force QUARANTINE --reason TEXT"),
    ),
    (
        "in the background, while the checkpoint is written",
        lambda s: (s.find("chat"), s.find("game")),
        "guest",
        "goes on by itself once the checkpoint is written and the trouble is over",
    ),
    ("a bystander while the host is short", short_of_disk, "chat", "PRESERVATION: the host is short of room"),
    (
        "a victim",
        suffering,
        "chat",
        ("a release does not end this: chat is frozen: it waits for model, whose victim it is; "
        "goes on by itself once model is well; see epactl explain model"),
    ),
    ("a victim, in PRESERVATION", preserved_and_suffering, "chat", "goes on by itself once model is well"),
    (
        "paused by a person",
        lambda s: s.tell(Paused("chat", "paused by ada: lunch")),
        "chat",
        "chat is frozen: paused by ada: lunch; not by itself: epactl resume chat --reason TEXT",
    ),
    ("by a person, in the background", held_in_the_background, "guest", "but guest is blocked since"),
    ("paused, and found itself too", held_twice, "chat", "what it was held for itself is over, but chat is frozen"),
]  # fmt: skip


@pytest.mark.parametrize(("begin", "name"), [pytest.param(b, n, id=i) for i, b, n in LETS_GO])
async def test_a_release_lets_go(begin: Callable[[Story], object], name: str) -> None:
    """And says how many steps that took."""
    desk = Desk(begin)
    assert desk.is_held(name)
    answer = await desk.release(name)
    assert (answer["failed"], desk.is_held(name)) == (False, False), answer
    assert re.fullmatch(r"\d step\(s\) done", answer["results"][0])


@pytest.mark.parametrize(("begin", "name", "said"), [pytest.param(b, n, s, id=i) for i, b, n, s in STAYS])
async def test_a_release_that_does_not_let_go_has_failed_and_says_why(
    begin: Callable[[Story], object], name: str, said: str
) -> None:
    """With what ends it, when, and the command that does."""
    desk = Desk(begin)
    assert desk.is_held(name)
    answer = await desk.release(name)
    assert (answer["failed"], desk.is_held(name)) == (True, True)
    (result,) = answer["results"]
    # Times are of the machine's zone, which a test leaves as it is.
    assert re.sub(r"\d\d:\d\d", "T", said) in re.sub(r"\d\d:\d\d", "T", result)


async def test_what_loops_on_is_let_go_and_held_again() -> None:
    """The order was obeyed; that it did not last is said too."""
    desk = Desk(lambda s: s.find("chat"))
    obey = desk.order

    async def order(stimulus: Stimulus, wait_for: Lane = Lane.CONTAINMENT) -> list[OperationEnded]:
        ended = await obey(stimulus, wait_for)
        desk.story.find("chat")
        return ended

    desk.order = order  # type: ignore[method-assign]  # what happens meanwhile
    answer = await desk.release("chat")
    assert (answer["failed"], desk.is_held("chat")) == (False, True)
    assert answer["results"][1].startswith("let go, and held again since: chat is frozen since")


async def test_what_is_not_held_was_not_held() -> None:
    """In NORMAL, and of a bystander in PRESERVATION: no failure, and no word of steps."""
    for begin in (lambda _: None, lambda s: preserved(s, "chat", "game")):
        answer = await Desk(begin).release("model")
        assert (answer["failed"], answer["results"]) == (
            False,
            ["nothing to do: it was so already: model was not held"],
        )


async def test_in_the_lifeboat_a_release_is_a_conflict_that_names_the_relaunch() -> None:
    """Nothing is let go of one by one."""
    with pytest.raises(ConflictError, match="epactl lifeboat relaunch"):
        await Desk(in_lifeboat).release("chat")


async def test_an_unknown_name_is_told_with_the_known_ones() -> None:
    """As for every other order."""
    with pytest.raises(UnknownSubsystemError):
        await Desk(lambda _: None).release("chta")


@pytest.mark.parametrize(
    ("begin", "name"),
    [
        *[pytest.param(begin, name, id=how) for how, begin, name in LETS_GO],
        *[pytest.param(begin, name, id=how) for how, begin, name, _ in STAYS],
        pytest.param(in_lifeboat, "chat", id="lifeboat"),
    ],
)
async def test_the_refused_client_is_told_what_does_open_the_door(
    begin: Callable[[Story], object], name: str
) -> None:
    """The promise of the 403 is the sentence; where it says `release`, a release does open it."""
    desk = Desk(begin)
    hold = desk.story.held(name)
    access = Access(desk.story.clock)
    report = IncidentReport(desk.story.decider, desk.story.clock)
    access.tell = report.line_of
    access.hold(name, hold.rung, hold.reason)
    refused = access.check(name) or access.check(name)  # who is throttled may ask once
    assert refused is not None
    assert refused.message == report.line_of(name)
    commands = re.findall(
        r"epactl (release|resume|phase|lifeboat|explain)\b(?: --force (\w+))?", refused.message
    )
    assert commands
    for command, phase in commands:
        await desk.obey(command, name, phase)
    promised = "or now" in refused.message or (
        "not by itself" in refused.message and "still hold" not in refused.message
    )
    assert desk.is_held(name) is not promised, refused.message


def test_a_client_that_hammers_is_told_the_same_for_a_second() -> None:
    """When a hold ends is not worked out a thousand times a second; a new hold is told of at once."""
    story, asked = Story(), []
    access = Access(story.clock)

    def tell(name: str) -> str:
        asked.append(name)
        return f"told {len(asked)} times"

    access.tell = tell
    access.hold("chat", Rung.FREEZE, "it loops")
    said = [access.check("chat") for _ in range(5)]
    assert len(asked) == 1
    assert {refusal.message for refusal in said if refusal} == {"told 1 times"}
    story.clock.advance(WORDS_SECONDS)
    access.check("chat")
    access.hold("chat", Rung.STOP, "it crashes")
    access.check("chat")
    assert len(asked) == 3
