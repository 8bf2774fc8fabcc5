"""A recording is decided again: the same with nothing changed, otherwise with something changed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, cast

import apsw
import msgspec
import pytest
from epad_story import BOOT, SUBSYSTEMS, Story, ToyWorld, at_once, shipped
from hypothesis import given, settings
from hypothesis import strategies as st

from epad.configuration.schema import BudgetConfig, SubsystemConfig
from epad.control_loop.loop import Controller
from epad.control_loop.plans import Target
from epad.control_loop.responder import Responder
from epad.control_loop.step import Lane, StepState
from epad.control_loop.stimulus import Forced
from epad.probing.build import configure_assessor
from epad.simulate import settings as changed
from epad.simulate.history import RecordedHistory, RecordingError
from epad.simulate.record import Record
from epad.simulate.recorder import QUIET_FINDINGS, RECORDING_SCHEMA, Recorder
from epad.simulate.replay import Move, Replay, Replayed, Stamped
from epad.simulate.turns import HELD
from probes.turns import TurnAdmitted, TurnFinished, TurnRefused
from statemachine.finding import Severity
from statemachine.phase import Phase
from statemachine.rung import Rung
from statemachine.situation import Order

NAMES = [subsystem.name for subsystem in SUBSYSTEMS]
PROBES = ["token_burn", "vram", "liveness", "token_rate", "cascade"]


class RecordedStory(Story):
    """A story whose daemon keeps a recording."""

    def __init__(self, **limits: float) -> None:
        self.batches: list[tuple[float, float, bool, bytes]] = []
        self.recorder: Recorder | None = None
        self.config = shipped()
        super().__init__(**limits)

    def _begin(self) -> None:
        super()._begin()
        if self.recorder is not None:
            self.batches += self.recorder.take()
        loaded = at_once(self.journal.load())
        self.recorder = Recorder(self.database, self.clock, BOOT)
        self.recorder.started(self.config, loaded)
        self.controller = Controller(
            self.decider, self.journal, self.world, self.clock, self.events, self.metrics, self.recorder
        )
        self.controller.attach(cast("Responder", self.hands), loaded.open_operations)

    def recording(self) -> list[Stamped]:
        assert self.recorder is not None
        self.batches += self.recorder.take()
        return [(utc, at, msgspec.json.decode(body, type=Record)) for utc, at, _, body in self.batches]

    def happened(self) -> list[Move]:
        rows = self.rows("SELECT source, trigger, destination, guard FROM transition ORDER BY id")
        return [Move(0.0, *row) for row in rows]

    def replay(self, *texts: str) -> Replayed:
        return Replay(changed.parse(texts), self.happened()).run(self.recording())


def keys(moves: list[Move]) -> list[tuple[str, ...]]:
    return [move.key for move in moves]


ACTIONS = st.one_of(
    st.tuples(
        st.just("find"),
        st.sampled_from(NAMES),
        st.sampled_from(PROBES),
        st.sampled_from(list(Severity)),
        st.booleans(),
        st.sampled_from([None, *Rung]),
    ),
    st.tuples(
        st.sampled_from(["quarantine", "release", "break", "mend", "suffer", "rot"]), st.sampled_from(NAMES)
    ),
    st.tuples(st.just("wait"), st.sampled_from([0.1, 3.0, 40.0, 130.0, 700.0])),
    st.tuples(st.just("end"), st.sampled_from([StepState.DONE, StepState.FAILED])),
    st.tuples(st.just("order"), st.sampled_from([Order.LIFEBOAT, Order.RELAUNCH])),
    st.tuples(st.just("force"), st.sampled_from(list(Phase))),
    st.tuples(st.sampled_from(["die", "blind", "see", "restored"])),
)


def act(story: RecordedStory, action: tuple[Any, ...]) -> None:
    """One thing that may happen to a daemon."""
    match action:
        case ("find", name, probe, severity, hard, rung):
            story.find(name, probe, severity, hard=hard, rung=rung)
        case ("quarantine", name):
            story.quarantine(name)
        case ("release", name):
            story.release(name)
        case ("break" | "mend" | "suffer" | "rot" as what, name):
            befall(story.world, what, name)
        case ("restored",):
            story.world.damage.clear()
        case ("wait", seconds):
            story.wait(seconds)
        case ("end", state) if story.operations(Lane.PHASE):
            story.end(state=state)
        case ("order", order):
            story.order(order)
        case ("force", phase):
            story.tell(Forced(phase, "forced by a test"))
        case ("die",):
            story.die_and_return()
        case ("blind" | "see" as eyes,):
            story.world.blind = {"token_burn"} if eyes == "blind" else set()


def befall(world: ToyWorld, what: str, name: str) -> None:
    """What is wrong with a subsystem, or with what it writes."""
    match what:
        case "break":
            world.broken.add(name)
        case "mend":
            world.broken.discard(name)
        case "suffer":
            world.suffering = {name: "model"} if name != "model" else {}
        case _:
            world.damage.add(Target.datastore(f"{name}_memory", name))


@settings(max_examples=60, deadline=None)
@given(st.lists(ACTIONS, max_size=40))
def test_with_nothing_changed_the_same_transitions_come_out(actions: list[tuple[Any, ...]]) -> None:
    """Whatever is found, ordered, broken and killed, in whatever order."""
    story = RecordedStory()
    for action in actions:
        act(story, action)
    story.wait(60)
    replayed = story.replay()
    assert keys(replayed.moves) == keys(story.happened())
    assert replayed.diverged_utc is None


@settings(max_examples=60, deadline=None)
@given(st.lists(ACTIONS, max_size=40))
def test_a_recording_of_before_decides_the_same(actions: list[tuple[Any, ...]]) -> None:
    """One that has the rungs in the evidence, those of the anomalies a life began with too."""
    story = RecordedStory()
    for action in actions:
        act(story, action)
    story.wait(60)
    old = [(utc, at, as_before(record)) for utc, at, record in story.recording()]
    assert keys(Replay((), story.happened()).run(old).moves) == keys(story.happened())


def as_before(record: Record) -> Record:
    """Give the record as it was written when a finding's rung was in its evidence."""
    written = json.loads(msgspec.json.encode(record))
    given = written.get("input") or {}
    for found in (given, *(standing["finding"] for standing in written.get("anomalies", ()))):
        if named := found.pop("rung", None):
            found["evidence"] = {**found.get("evidence", {}), "rung": named}
    read: Record = msgspec.json.decode(json.dumps(written).encode(), type=Record)
    return read


def test_a_recording_with_a_rung_that_there_is_not_is_refused(tmp_path: Path) -> None:
    """And which one; it was taken for the probe's own before."""
    database = apsw.Connection(str(tmp_path / "state.db"))
    database.execute(RECORDING_SCHEMA)
    found = (
        '{"type": "found", "probe": "token_rate", "subsystem": "a", "severity": 2, "at": 1, "evidence": %s}'
    )
    body = f'{{"type": "cycle", "input": {found % json.dumps({"rung": "frezee"})}}}'
    database.execute("INSERT INTO recording(utc, at, began, record) VALUES (1, 1, 1, ?)", (body.encode(),))
    with pytest.raises(RecordingError, match=r"'frezee' is no rung; there are: open, throttle, block"):
        list(RecordedHistory(tmp_path / "state.db").records(0))


def test_a_forced_move_is_recorded_and_comes_out_again() -> None:
    """The dwell that was spared is spared in the replay; where it was not asked for, nothing is spared."""
    story = RecordedStory()
    story.quarantine("chat")
    story.release("chat")
    assert story.tell(Forced(Phase.NORMAL, "forced by a test")) is Phase.NORMAL
    assert keys(story.replay().moves) == keys(story.happened())
    assert len(story.happened()) == 2


def test_a_longer_dwell_is_looked_at_by_the_clock() -> None:
    """Time alone changes what happens: the way back comes later, and is found although nothing was recorded then."""
    story = RecordedStory()
    story.find("chat")
    story.wait(1_300)
    assert story.phase is Phase.NORMAL
    back = story.replay().moves[-1]
    assert back.destination == "NORMAL"
    later = story.replay("policy.dwell_seconds=200").moves[-1]
    assert later.destination == "NORMAL"
    assert 50 < later.utc - back.utc < 100


def test_a_hysteresis_that_asks_for_more_is_never_raised() -> None:
    """Three samples of five do not raise five of five; what happened after is then no longer what would have."""
    story = RecordedStory()
    for _ in range(4):
        story.find("chat", "progress", hard=False)
        story.wait(10)
    story.wait(600)
    assert len(story.happened()) == 2
    loose = story.replay("hysteresis.progress.raise_after=9", "hysteresis.progress.out_of=9")
    assert loose.moves == []


def test_from_where_it_differs_on_operations_are_taken_to_succeed() -> None:
    """A critical finding would have led to PRESERVATION; nobody has recorded how that checkpoint ended."""
    story = RecordedStory(quarantine_limit_seconds=900)
    story.find("chat", "vram")
    story.wait(60)
    story.find("chat", "vram")
    replayed = story.replay("policy.quarantine_limit_seconds=20")
    assert [move.destination for move in replayed.moves][:2] == ["QUARANTINE", "PRESERVATION"]
    assert replayed.moves[-1].destination != "PRESERVATION"


def test_a_probe_that_is_only_looked_at_can_be_tried_afterwards() -> None:
    """It raised nothing that night; what would have come of it is told, and of nothing, nothing."""
    story = RecordedStory()
    watching = changed.apply(story.config, changed.parse(["hysteresis.vram.raise_after=0"]))
    assert story.recorder is not None
    story.recorder.configured(watching)
    configure_assessor(story.decider.assessor, watching.hysteresis)
    story.find("chat", "vram")
    assert story.happened() == []
    tried = story.replay("hysteresis.vram.raise_after=1")
    assert [move.destination for move in tried.moves] == ["QUARANTINE"]
    assert story.replay("hysteresis.vram.raise_after=0").moves == []


def test_what_changes_nothing_is_not_kept() -> None:
    """A night of good findings, and a loop that is found ten thousand times, fit on a page."""
    story = RecordedStory()
    for _ in range(3_000):
        story.find("chat", severity=Severity.OK, hard=False)
    story.find("game")
    for _ in range(3_000):
        story.find("game")
    assert len(story.recording()) < QUIET_FINDINGS + 20
    story.wait(600)
    assert keys(story.replay().moves) == keys(story.happened())


def chatty(limit: int) -> RecordedStory:
    """A client with a budget that asks for 100 tokens every second, and is refused from its tenth on."""
    story = RecordedStory()
    chat = SubsystemConfig(kind="client", budget=BudgetConfig(tokens_per_minute=limit))
    story.config = msgspec.structs.replace(story.config, subsystems={"chat": chat})
    story.die_and_return()
    story.tell()
    assert story.recorder is not None
    for number in range(20):
        story.clock.advance(1.0)
        now, turn, digest = story.clock.monotonic(), f"t{number}", bytes([number])
        if number < 10:
            story.recorder.admitted(TurnAdmitted("chat", now, turn, "m", 100, digest))
            story.recorder.finished(TurnFinished("chat", now, turn, "done", 50, 50, 100))
        else:
            refusal = TurnRefused(
                "chat", now, "budget_exceeded", "tokens_per_minute", limit, 1_000, 100, digest
            )
            story.recorder.refused(refusal)
            story.find("chat", hard=False)
    return story


def test_a_smaller_budget_would_have_refused_more() -> None:
    """Each turn is reserved anew: four fit into 400 tokens a minute, and the detector is told of the others."""
    story = chatty(1_000)
    assert story.replay().refusals == [
        {"subsystem": "chat", "code": "budget_exceeded", "did": 10, "would": 10}
    ]
    tight = story.replay(
        "subsystems.chat.budget.tokens_per_minute=400",
        "subsystems.chat.budget.max_in_flight=1",
        "probes.token_burn.hammering_refusals=1",
        "probes.token_burn.hammering_slots=1",
    )
    would = {row["code"]: row["would"] for row in tight.refusals}
    assert sum(would.values()) == 16
    assert would[HELD] > 0
    assert tight.moves[0].destination == "QUARANTINE"
    assert tight.moves[0].utc < story.replay().moves[0].utc


def test_whoever_would_have_been_held_would_have_been_refused_for_that() -> None:
    """And no more for its budget: the gateway looks at the hold first."""
    story = chatty(1_000)
    rows = {row["code"]: row for row in story.replay("hysteresis.token_burn.raise_after=2").refusals}
    assert (rows["budget_exceeded"]["did"], rows["budget_exceeded"]["would"]) == (10, 2)
    assert (rows[HELD]["did"], rows[HELD]["would"]) == (0, 8)


def test_a_larger_budget_would_have_refused_nothing() -> None:
    """And so nothing would have been quarantined."""
    story = chatty(1_000)
    assert story.happened()
    loose = story.replay("subsystems.chat.budget.tokens_per_minute=100k")
    assert loose.moves == []
    assert [row["would"] for row in loose.refusals] == [0]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("policy.dwell_seconds", "give it as table.key=value"),
        ("policy.dwel_seconds=1", "did you mean dwell_seconds?"),
        ("policy.dwell_seconds=-1", "dwell_seconds"),
        ("policy.dwell_seconds=soon", "dwell_seconds"),
        ("probes.vram.limit_ratio=0.5", "does not hold what this measures"),
        ("probes.cascade.interval_seconds=1", "probes.cascade.blast_ratio"),
        ("subsystems.chat.command=x", "does not hold what this measures"),
        ("budgets.global.usd_per_day=5", "does not hold what this measures"),
        ("probes.token_burn.identical_prompts=1", "one request is no run"),
        ("hysteresis.varm.raise_after=1", "hysteresis.varm is not a known key"),
        ("hysteresis=1", "does not hold what this measures"),
        (
            "hysteresis.default.raise_after=99",
            "hysteresis.default.raise_after: is 99, above out_of, which is 3",
        ),
        ("containment.token_burn=shout", "containment"),
    ],
)
def test_a_setting_that_cannot_be_tried_says_why(text: str, said: str) -> None:
    """By name, with what would be right."""
    with pytest.raises(changed.SettingError) as error:
        changed.apply(shipped(), changed.parse([text]))
    assert said in str(error.value)


@pytest.mark.parametrize(("text", "value"), [("1.5M", 1_500_000), ("20k", 20_000), ("7", 7), ("2m", "2m")])
def test_a_budget_may_be_a_short_amount(text: str, value: object) -> None:
    """As where it is set in earnest; elsewhere k and M mean nothing."""
    for key in ("subsystems.chat.budget.tokens_per_day", "budgets.global.tokens_per_day"):
        assert changed.parse([f"{key}={text}"]) == [(tuple(key.split(".")), value)]
    with pytest.raises(changed.SettingError, match="dwell_seconds"):
        changed.apply(shipped(), changed.parse(["policy.dwell_seconds=20k"]))
