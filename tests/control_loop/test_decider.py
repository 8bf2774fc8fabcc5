"""Whole incidents, from the first finding to NORMAL or LIFEBOAT, as the journal and the holds show them."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator

import pytest
import structlog
from epad_story import BEGINNINGS, BOOT, NAMES, SUBSYSTEMS, Story, attempt_fails, into_recovery

from epad.control_loop.incident import INCIDENT_NOTE
from epad.control_loop.plans import LEDGER, Target
from epad.control_loop.step import Lane, StepName, StepState
from epad.control_loop.stimulus import Paused, Resumed
from statemachine.containment import Containable, Rung
from statemachine.finding import HOST, Severity
from statemachine.phase import Phase
from statemachine.situation import Order, Persist

DWELL = 30.0
OPEN = dict.fromkeys(NAMES, Rung.OPEN)

REPLAY = (StepName.REPLAY, HOST)


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    with structlog.testing.capture_logs():
        yield


@pytest.fixture
def story() -> Story:
    return Story()


def test_one_anomaly_is_quarantined_and_lets_go_by_itself_once_quiet(story: Story) -> None:
    """Only the subsystem to blame is held, and the way back needs nobody."""
    assert story.find("chat") is Phase.QUARANTINE
    assert story.rungs() == {**OPEN, "chat": Rung.FREEZE}
    assert story.held("chat").reason == "token_burn of chat"
    assert story.steps(Lane.CONTAINMENT) == [(StepName.HOLD, "chat")]
    assert story.wait(115) is Phase.QUARANTINE
    assert story.wait(10) is Phase.NORMAL
    assert story.rungs() == OPEN
    assert story.path() == ["QUARANTINE", "NORMAL"]


def test_a_warning_and_a_single_soft_finding_change_nothing(story: Story) -> None:
    """Hysteresis stands between a finding and a phase."""
    assert story.find("chat", severity=Severity.WARNING) is Phase.NORMAL
    assert story.find("chat", hard=False) is Phase.NORMAL
    assert story.path() == []


def test_two_anomalies_preserve_before_anything_else(story: Story) -> None:
    """A checkpoint is journalled in its own lane; what can be spared is paused, the essential runs on."""
    story.find("chat")
    assert story.find("game", "cascade") is Phase.PRESERVATION
    assert story.decider.incident.persist is Persist.RUNNING
    assert story.steps() == [(StepName.CHECKPOINT, HOST)]
    assert story.rungs() == {
        "model": Rung.OPEN,
        "chat": Rung.FREEZE,
        "game": Rung.STOP,
        "guest": Rung.BLOCK,
    }
    assert not story.held("chat").paused
    assert story.held("guest").paused


def test_several_that_are_only_throttled_are_each_contained_and_need_no_checkpoint(story: Story) -> None:
    """Nobody else is touched; one hard trouble beside them is one, and two are several."""
    for name in ("chat", "game", "guest"):
        assert story.find(name, "token_rate", hard=False) is Phase.QUARANTINE
    assert story.rungs() == {**dict.fromkeys(NAMES, Rung.THROTTLE), "model": Rung.OPEN}
    assert story.find("chat") is Phase.QUARANTINE
    assert story.steps() == []
    assert story.find("game") is Phase.PRESERVATION


def test_a_throttle_that_outlasts_the_quarantine_preserves(story: Story) -> None:
    """It goes on for a quarter of an hour: it does not go away by itself."""
    for _ in range(181):
        story.find("chat", "token_rate", hard=False)
        story.wait(5)
    assert story.phase is Phase.PRESERVATION


def test_much_found_of_one_subsystem_is_one_trouble(story: Story) -> None:
    """It is held as firmly as the firmest asks; nobody pays for it beside it."""
    for probe in ("token_burn", "progress", "cascade", "conversation", "vram"):
        assert story.find("chat", probe) is Phase.QUARANTINE
    assert story.rungs() == {**OPEN, "chat": Rung.STOP}


def test_a_bystander_is_not_touched_by_a_preservation(story: Story) -> None:
    """No step is about one that is in no trouble and says not of itself that it may be cut; essential or not."""
    story.world.subsystems = [*SUBSYSTEMS, Containable("sleep", essential=False, has_process=True)]
    story.find("chat")
    assert story.find("game") is Phase.PRESERVATION
    assert story.held("sleep").rung is Rung.OPEN
    assert {target for name, target, _ in story.journalled_steps() if name == StepName.HOLD} == {
        "chat",
        "game",
        "guest",
    }


def test_a_preservation_ends_once_throttles_are_all_that_is_left(story: Story) -> None:
    """They are a quarantine's, however many."""
    for name in ("chat", "game", "guest"):
        story.find(name, "token_rate", hard=False)
    story.find("model", "vram", Severity.CRITICAL)
    story.end()
    story.release("model")
    for _ in range(7):
        for name in ("chat", "game", "guest"):
            story.find(name, "token_rate", hard=False)
        story.wait(5)
    assert story.phase is Phase.QUARANTINE


def test_what_is_critical_preserves_at_once(story: Story) -> None:
    """From NORMAL, without a detour."""
    assert story.find(HOST, "ledger_integrity", Severity.CRITICAL) is Phase.PRESERVATION
    assert story.path() == ["PRESERVATION"]


def test_the_ledger_is_repaired_in_recovery(story: Story) -> None:
    """What is damaged of epad's own is a target of its own kind, with no subsystem of that name."""
    story.world.damage.add(LEDGER)
    story.find(HOST, "ledger_integrity", Severity.CRITICAL)
    assert story.end() is Phase.RECOVERY
    assert story.steps() == [(StepName.REPAIR_LEDGER, "ledger"), REPLAY]
    story.world.damage.clear()
    story.end()
    story.wait_until(Phase.NORMAL, 60)


def test_a_damaged_store_is_restored_in_recovery_and_its_writer_stays_held_until_then(story: Story) -> None:
    """No step opens to the writer in between: its restart does, once the store is whole."""
    store = Target.datastore("memory", "chat")
    story.world.damage.add(store)
    story.find("chat", "datastore", Severity.CRITICAL)
    assert story.end() is Phase.RECOVERY
    assert story.steps() == [(StepName.RESTORE_DATASTORE, "memory"), (StepName.RESTART, "chat"), REPLAY]
    opened = {r.step.target for o in story.operations(Lane.CONTAINMENT)[1:] for r in o.steps}
    assert "chat" not in opened
    story.world.damage.clear()
    story.end()
    story.wait_until(Phase.NORMAL, 60)


@pytest.mark.parametrize("spare", [Paused("chat", "lunch"), None], ids=["paused", "quarantined"])
def test_no_store_is_restored_under_one_that_a_person_holds(story: Story, spare: Paused | None) -> None:
    """What they wanted to look at would be gone; once they let go, it is."""
    story.world.damage.add(Target.datastore("memory", "chat"))
    story.tell(spare) if spare else story.quarantine("chat")
    story.find("chat", "datastore", Severity.CRITICAL)
    assert story.end() is Phase.PRESERVATION
    story.tell(Resumed("chat")) if spare else story.release("chat")
    story.find("chat", "datastore", Severity.CRITICAL)
    story.wait(5)
    assert (StepName.RESTORE_DATASTORE, "memory") in story.steps()


def test_persisted_and_broken_is_recovered_verified_and_normal(story: Story) -> None:
    """RECOVERY restarts what failed and what is in trouble, waits for quiet, and returns."""
    into_recovery(story, "model")
    assert story.steps() == [*((StepName.RESTART, name) for name in ("model", "chat", "game")), REPLAY]
    assert story.rungs() == OPEN
    # A loop that is thawed before it is restarted would run on: the restart is what opens to it.
    assert [r.step.target for r in story.operations(Lane.CONTAINMENT)[-1].steps] == ["guest"]
    story.world.broken.clear()
    story.end()
    assert story.wait(DWELL - 5) is Phase.RECOVERY
    assert story.wait(10) is Phase.NORMAL
    assert story.path() == ["QUARANTINE", "PRESERVATION", "RECOVERY", "NORMAL"]
    assert story.decider.incident.attempts == 0


def test_a_recovery_lets_the_detectors_start_afresh(story: Story) -> None:
    """What was wrong before the restart must be found again to count."""
    into_recovery(story, "game")
    assert {"chat", "game"} <= set(story.world.forgotten)
    assert story.decider.assessor.active == ()


def test_persisted_and_nothing_broken_steps_down(story: Story) -> None:
    """One trouble left is a quarantine's; none is nobody's."""
    story.find("chat")
    story.find("game", "cascade")
    story.end()
    story.find("chat")
    story.wait_until(Phase.QUARANTINE, 120)
    assert story.rungs() == {**OPEN, "chat": Rung.FREEZE}
    story.wait_until(Phase.NORMAL, 200)


def test_a_persist_step_that_failed_is_the_lifeboat(story: Story) -> None:
    """Nothing can be persisted any more: stop while what there is still is."""
    story.find("chat")
    story.find("game")
    assert story.end(state=StepState.FAILED) is Phase.LIFEBOAT
    assert story.decider.incident.persist is Persist.FAILED
    assert set(story.rungs().values()) == {Rung.STOP, Rung.BLOCK}


def test_the_lifeboat_stops_users_before_providers_and_then_writes(story: Story) -> None:
    """One lane: the bundle is written once every process is gone, and everything is told to go."""
    story.find("game", "cascade")
    story.find("chat")
    story.end(state=StepState.FAILED)
    assert story.steps()[-5:] == [
        *((StepName.HOLD, name) for name in ("guest", "game", "chat", "model")),
        (StepName.LIFEBOAT, HOST),
    ]


def test_what_was_still_being_contained_is_stopped_by_the_lifeboat(story: Story) -> None:
    """A stop that a former decision journalled and nobody has done yet is not lost with its operation."""
    story.find("game", "cascade")
    assert story.held("game").rung is Rung.STOP
    story.find("chat")
    story.end(state=StepState.FAILED)
    assert not any(at_open for at_open in story.operations(Lane.CONTAINMENT) if story.is_open(at_open.id))
    assert (StepName.HOLD, "game") in story.steps()


def test_spent_attempts_are_the_lifeboat(story: Story) -> None:
    """An essential subsystem that three attempts do not heal takes the box along, in good order."""
    into_recovery(story, "model")
    attempt_fails(story)
    assert story.decider.incident.attempts == 2
    attempt_fails(story)
    assert story.decider.incident.attempts == 3
    attempt_fails(story)
    assert story.phase is Phase.LIFEBOAT
    assert story.path() == ["QUARANTINE", "PRESERVATION", *["RECOVERY"] * 3, "LIFEBOAT"]


def test_a_subsystem_that_can_be_spared_is_parked_instead(story: Story) -> None:
    """After two restarts it is stopped for good, its fault no longer counts, and the rest goes on."""
    into_recovery(story, "game")
    attempt_fails(story)
    assert story.steps() == [(StepName.RESTART, "game"), REPLAY]
    attempt_fails(story)
    assert story.steps() == [REPLAY]
    assert story.held("game").rung is Rung.STOP
    assert "epactl release game" in story.held("game").reason
    story.end()
    story.wait_until(Phase.NORMAL, 120)
    assert story.rungs() == {**OPEN, "game": Rung.STOP}
    assert "LIFEBOAT" not in story.path()


def test_what_is_still_found_of_a_parked_subsystem_waits_for_a_person(story: Story) -> None:
    """Its own data are damaged and nobody but a person may mend them: it is held, all else runs, however long."""

    def found_for(seconds: int) -> None:
        for _ in range(0, seconds, 5):
            story.find("game", "datastore", Severity.CRITICAL)
            if story.operations(Lane.PHASE):
                story.end()
            story.wait(5)

    found_for(1_200)
    assert story.path() == ["PRESERVATION", *["RECOVERY"] * 3, "QUARANTINE"]
    found_for(40_000)
    assert story.phase is Phase.QUARANTINE
    assert story.rungs() == {**OPEN, "game": Rung.STOP}
    assert story.decider.incident.attempts == 0
    assert story.find("chat") is Phase.QUARANTINE
    story.release("game")
    assert story.held("game").rung is Rung.OPEN
    assert story.find("game", "datastore", Severity.CRITICAL) is Phase.PRESERVATION


def test_what_can_be_repaired_of_a_parked_subsystem_does_not_wait(story: Story) -> None:
    """Its store may be restored without it, and is."""
    into_recovery(story, "game")
    attempt_fails(story)
    attempt_fails(story)
    story.end()
    story.wait_until(Phase.NORMAL, 120)
    store = Target.datastore("memory", "game")
    story.world.damage.add(store)
    assert story.find("game", "datastore", Severity.CRITICAL) is Phase.PRESERVATION
    assert story.end() is Phase.RECOVERY
    assert (StepName.RESTORE_DATASTORE, "memory") in story.steps()


def test_a_long_attempt_is_no_verification(story: Story) -> None:
    """What was dismissed when it began must stay away once it has ended; slow starts too make a crash loop."""
    into_recovery(story, "model")
    story.world.broken.clear()
    story.wait(600)
    assert story.end() is Phase.RECOVERY
    story.wait(10)
    story.world.broken.add("model")
    story.wait(25)
    assert story.decider.incident.attempts == 2


def test_killed_before_it_heard_of_the_end_of_an_attempt_it_waits_for_the_verdict_all_the_same(
    story: Story,
) -> None:
    """The server is starting: what is not up yet a second later is no failed attempt."""
    into_recovery(story, "model")
    story.wait(60)
    story.end_unheard(Lane.PHASE, StepState.DONE)
    story.die_and_return()
    story.tell()
    assert story.decider.situation().since_attempt_seconds < 1
    assert story.decider.incident.attempts == 1


def test_a_parked_subsystem_is_let_go_by_a_person(story: Story) -> None:
    """Its slate is clean: it has its two restarts again."""
    into_recovery(story, "game")
    attempt_fails(story)
    attempt_fails(story)
    story.world.broken.clear()
    story.release("game")
    assert story.held("game").rung is Rung.OPEN
    assert "game" not in story.decider.incident.tried


def test_an_attempt_without_a_verdict_in_time_is_the_lifeboat() -> None:
    """The phase has a longest stay, however many attempts are left."""
    story = Story(recovery_limit_seconds=50.0)
    into_recovery(story, "model")
    attempt_fails(story)
    attempt_fails(story)
    assert story.phase is Phase.LIFEBOAT
    assert story.decider.incident.attempts == 2


def test_recoveries_that_succeed_too_often_are_one_crash_loop() -> None:
    """Each one verified, and still: the seventh within the hour does not get a second attempt."""
    story = Story(recoveries_per_hour=2)
    for number in range(3):
        into_recovery(story, "model")
        if number < 2:
            story.world.broken.clear()
            story.end()
            story.wait_until(Phase.NORMAL, 120)
    attempt_fails(story)
    assert story.phase is Phase.LIFEBOAT
    assert story.decider.incident.attempts == 1


def test_an_hour_without_a_recovery_is_a_clean_slate(story: Story) -> None:
    """Neither the recoveries nor the restarts per subsystem are held against anyone for ever."""
    into_recovery(story, "game")
    story.world.broken.clear()
    story.end()
    story.wait_until(Phase.NORMAL, 120)
    assert story.decider.incident.tried["game"] == 1
    story.clock.advance(3_600)
    into_recovery(story, "game")
    assert story.decider.situation().recent_recoveries == 1
    assert story.decider.incident.tried["game"] == 1


def test_an_operators_lifeboat_goes_through_the_persist_step(story: Story) -> None:
    """From NORMAL too: there is no lifeboat without something in it."""
    assert story.order(Order.LIFEBOAT) is Phase.PRESERVATION
    assert story.steps() == [(StepName.CHECKPOINT, HOST)]
    assert story.end() is Phase.LIFEBOAT
    assert story.decider.incident.persist is Persist.DONE


def test_an_operators_lifeboat_out_of_recovery_is_at_once(story: Story) -> None:
    """Its persist step has run in this incident."""
    into_recovery(story, "game")
    assert story.order(Order.LIFEBOAT) is Phase.LIFEBOAT


def test_only_a_relaunch_leaves_the_lifeboat_and_it_starts_clean(story: Story) -> None:
    """Time and calm do not; afterwards nothing of the incident is left."""
    into_recovery(story, "model")
    story.order(Order.LIFEBOAT)
    story.end()
    story.world.broken.clear()
    assert story.wait(7_200) is Phase.LIFEBOAT
    assert story.order(Order.RELAUNCH) is Phase.NORMAL
    assert story.rungs() == OPEN
    assert story.decider.incident.recoveries == ()
    assert story.decider.incident.persist is Persist.NOT_TRIED


def test_a_relaunch_calls_off_what_the_lifeboat_had_not_done(story: Story) -> None:
    """Else the lifeboat's lane would stop, one after another, what the relaunch has just opened."""
    story.order(Order.LIFEBOAT)
    story.end()
    lifeboat = story.operations(Lane.PHASE)[-1]
    story.order(Order.RELAUNCH)
    assert not story.is_open(lifeboat.id)
    assert story.journalled_holds() == dict.fromkeys(NAMES, ("open", ""))


def test_the_end_of_another_operation_is_not_the_end_of_the_persist_step(story: Story) -> None:
    """A lifeboat's bundle that is finished late says nothing of the checkpoint of the next incident."""
    story.order(Order.LIFEBOAT)
    story.end()
    late = story.end_unheard(Lane.PHASE, StepState.DONE)
    story.order(Order.RELAUNCH)
    story.find("chat")
    assert story.find("game") is Phase.PRESERVATION
    story.tell(late)
    assert story.decider.incident.persist is Persist.RUNNING


def test_a_persons_hold_never_escalates_and_never_clears(story: Story) -> None:
    """Not by number, not by age, not by quiet: a person's word ends it."""
    for name in ("chat", "game", "guest"):
        assert story.quarantine(name) is Phase.QUARANTINE
    story.clock.advance(3 * 86_400)
    assert story.wait(60) is Phase.QUARANTINE
    assert story.rungs() == {
        "model": Rung.OPEN,
        "chat": Rung.FREEZE,
        "game": Rung.FREEZE,
        "guest": Rung.BLOCK,
    }
    for name in ("chat", "game", "guest"):
        story.release(name)
    assert story.rungs() == OPEN
    assert story.wait(5) is Phase.NORMAL


def test_a_release_clears_what_a_probe_found_too(story: Story) -> None:
    """The person has looked; the detectors begin anew."""
    story.find("chat")
    story.wait(DWELL)
    assert story.release("chat") is Phase.NORMAL
    assert story.held("chat").rung is Rung.OPEN
    assert story.world.forgotten == ["chat"]


def test_a_person_holds_on_through_a_recovery(story: Story) -> None:
    """What a person holds is neither restarted nor opened, though a probe has found it in trouble as well."""
    story.quarantine("chat")
    into_recovery(story, "chat", "model")
    assert (StepName.RESTART, "chat") not in story.steps()
    assert story.held("chat").rung is Rung.FREEZE
    story.world.broken.clear()
    story.end()
    story.wait_until(Phase.QUARANTINE, 120)
    assert story.wait(7_200) is Phase.QUARANTINE


def test_an_old_trouble_of_what_a_person_holds_does_not_escalate(story: Story) -> None:
    """It is contained and nobody may repair it: to freeze everyone else would help nothing."""
    story.quarantine("chat")
    for _ in range(200):
        story.find("chat")
        story.wait(5)
    assert story.phase is Phase.QUARANTINE
    assert story.path() == ["QUARANTINE"]


def test_a_repeated_offender_is_held_longer_each_time_until_it_is_restarted(story: Story) -> None:
    """120 s, 240, 480, and the fourth outlasts the quarantine's limit: PRESERVATION, RECOVERY, restart."""
    for quiet in (120, 240, 480):
        assert story.find("chat") is Phase.QUARANTINE
        assert story.wait(quiet - 5) is Phase.QUARANTINE
        story.wait_until(Phase.NORMAL, 15)
    story.find("chat")
    assert story.wait(895) is Phase.QUARANTINE
    assert story.wait(5) is Phase.PRESERVATION
    assert story.end() is Phase.RECOVERY
    assert story.steps() == [(StepName.RESTART, "chat"), REPLAY]


def test_a_blind_probe_is_not_a_quiet_one(story: Story) -> None:
    """What cannot be seen is not over."""
    story.find("chat")
    story.world.blind.add("token_burn")
    assert story.wait(600) is Phase.QUARANTINE
    story.world.blind.clear()
    story.wait_until(Phase.NORMAL, 10)


def test_trouble_of_a_subsystem_that_is_configured_no_more_is_dropped(story: Story) -> None:
    """After a change of the configuration nobody could release it, and no step could be done to it."""
    story.quarantine("game")
    story.find("chat")
    story.world.subsystems = SUBSYSTEMS[:2]
    story.die_and_return()
    story.tell()
    assert {a.key.subsystem for a in story.decider.assessor.active} == {"chat"}
    assert story.rows("SELECT cleared_reason FROM anomaly WHERE subsystem = 'game'") == [
        ("it is configured no more",)
    ]
    story.find("stranger", "cascade", Severity.CRITICAL)
    story.world.broken.add("model")
    story.find("model", "cascade")
    assert story.end() is Phase.RECOVERY
    story.world.broken.clear()
    story.end()
    story.wait_until(Phase.NORMAL, 120)


def test_an_order_is_in_the_journal_before_it_is_answered(story: Story) -> None:
    """Given while nothing follows from it yet, it survives kill -9 all the same."""
    story.find("chat")
    story.find("game")
    story.order(Order.LIFEBOAT)
    assert story.phase is Phase.PRESERVATION
    story.die_and_return()
    assert story.decider.incident.order is Order.LIFEBOAT
    assert story.end() is Phase.LIFEBOAT


def test_an_attempts_end_is_in_the_journal(story: Story) -> None:
    """Else a daemon that died before the verdict would pass it at once, on a process just started."""
    into_recovery(story, "model")
    story.end()
    ended_at = story.clock.monotonic()
    story.die_and_return()
    assert story.decider.incident.attempt_ended_at == ended_at
    assert not story.decider.incident.attempt_running


def test_a_persist_step_that_ended_unheard_is_known_after_a_restart(story: Story) -> None:
    """Its operation ended in the journal; the daemon died before it took that in."""
    for state, phase in ((StepState.DONE, Phase.PRESERVATION), (StepState.FAILED, Phase.LIFEBOAT)):
        story = Story()
        story.find("chat")
        story.find("game")
        story.end_unheard(Lane.PHASE, state)
        story.die_and_return()
        assert story.decider.incident.persist == (Persist.DONE if state is StepState.DONE else Persist.FAILED)
        assert story.tell() is phase


@pytest.mark.parametrize("enter", BEGINNINGS)
def test_a_daemon_that_died_comes_back_to_the_same_holds_and_decides_the_same(
    enter: Callable[[Story], None],
) -> None:
    """Phase, holds, what is left to do, and what comes next: all of it is in the journal."""
    lived, died = Story(), Story()
    for story in (lived, died):
        enter(story)
    died.die_and_return()
    assert died.phase is lived.phase
    assert died.decider.holds == lived.decider.holds
    assert died.decider.incident == lived.decider.incident
    still_open = [o.id for o in lived.hands.open if lived.is_open(o.id)]
    assert [o.id for o in died.hands.open] == still_open
    for story in (lived, died):
        story.clock.advance(DWELL)
        if any(story.is_open(o.id) for o in story.operations(Lane.PHASE)):
            while story.operations(Lane.PHASE):
                story.end()
        story.wait(1_000)
    assert died.path() == lived.path()
    assert died.rungs() == lived.rungs()


def test_a_reboot_forgets_monotonic_times_but_nothing_else(story: Story) -> None:
    """A monotonic stamp of a former boot means nothing in this one."""
    into_recovery(story, "game")
    note = json.loads(story.rows("SELECT value FROM note WHERE key = ?", INCIDENT_NOTE)[0][0])
    assert note["boot_id"] == BOOT
    story.journal._boot_id = story.decider._boot_id = "another-boot"
    incident = type(story.decider.incident).from_json(note, "another-boot")
    assert incident.recoveries == ()
    assert incident.attempts == 1
    assert incident.tried == {"chat": 1, "game": 1}


def test_victims_wait_until_their_root_is_well_and_are_no_anomalies(story: Story) -> None:
    """Paused beside the root's quarantine, whatever their symptoms; and open again by themselves."""
    story.world.suffering = {"chat": "model"}
    story.find("model", "cascade")
    for probe in ("cascade", "progress", "token_rate"):
        assert story.find("chat", probe) is Phase.QUARANTINE
    assert [a.key.subsystem for a in story.decider.assessor.active] == ["model"]
    assert story.rungs() == {**OPEN, "model": Rung.STOP, "chat": Rung.FREEZE}
    assert story.held("chat").paused
    assert story.held("chat").reason == "it waits for model, whose victim it is"
    story.world.suffering = {}
    story.tell()
    assert story.held("chat").rung is Rung.OPEN


def test_a_victims_own_fault_is_not_excused(story: Story) -> None:
    """Spending is no symptom of a dead model server."""
    story.world.suffering = {"chat": "model"}
    story.find("chat", "token_burn")
    assert [a.key.probe for a in story.decider.assessor.active] == ["token_burn"]
    assert story.held("chat").reason == "token_burn of chat"


def test_what_was_found_of_a_victim_before_its_root_showed_itself_is_taken_back(story: Story) -> None:
    """A late root takes over: one trouble is left, and it is the root's."""
    story.find("chat", "progress")
    story.world.suffering = {"chat": "model"}
    story.tell()
    assert story.decider.assessor.active == ()
    query = "SELECT cleared_reason FROM anomaly WHERE subsystem = 'chat'"
    assert story.rows(query) == [("it is a victim of model",)]


def test_a_recovery_restarts_the_root_and_not_its_victims(story: Story) -> None:
    """Failed or not, a victim comes back by itself; one that stays failed is a root of its own by then."""
    story.world.suffering = {"game": "model"}
    into_recovery(story, "model", "game")
    assert story.steps() == [(StepName.RESTART, "model"), (StepName.RESTART, "chat"), REPLAY]
    story.world.suffering = {}
    story.world.broken.discard("model")
    story.end()
    story.wait(DWELL)
    assert (StepName.RESTART, "game") in story.steps()


def test_no_more_than_the_stated_share_is_paused_before_the_state_is_safe(story: Story) -> None:
    """Two of four at 0.67; the one farthest from the root runs on until PRESERVATION."""
    story.world.suffering = {"chat": "model", "game": "model", "guest": "model"}
    story.tell()
    assert story.rungs() == {**OPEN, "chat": Rung.FREEZE, "game": Rung.FREEZE}
    assert story.find(HOST, "cascade", Severity.CRITICAL) is Phase.PRESERVATION
    assert story.held("guest").reason == "it waits for model, whose victim it is"


@pytest.mark.parametrize("probe", ["identity", "overrun", "decoy"])
def test_what_no_recovery_mends_is_not_let_go_by_one(story: Story, probe: str) -> None:
    """A key in strange hands is still there after a restart, whatever else is being recovered."""
    story.find("guest", probe)
    story.wait(2_000)
    assert story.decider.phase is Phase.QUARANTINE
    story.find("chat", "cascade")
    story.find("game", "cascade")
    story.wait(2_000)
    assert story.decider.phase is not Phase.QUARANTINE
    assert story.held("guest").rung is Rung.BLOCK
