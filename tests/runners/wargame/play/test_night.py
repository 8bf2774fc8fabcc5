"""What happens to a run in a long night: rounds that kill it, controls that fail, quiet failures, many at once."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from patience import PATIENCE_SECONDS
from wargame_world import ENGINES, LIMITS, content, patient, play, world

from runners.wargame.endpoint.reply import Reply
from runners.wargame.outcomes import CallOutcome, Label, RoundOutcome, VoteKind
from runners.wargame.play import heartbeat
from runners.wargame.play.controls import judge, load_controls
from runners.wargame.play.round import Call, RoundRecord, Vote
from runners.wargame.play.tripwires import SAME_REPLY_ROUNDS, SAME_VERDICT_ROUNDS, Tripwires
from runners.wargame.roles import EMBEDDED_ATTACKER, ROLES
from runners.wargame.scenario.library import load_grammar
from runners.wargame.settings import Settings
from runners.wargame.store import Store
from runners.wargame.verdict import Verdict

CARD = load_grammar().card(3, 0, ("evaluate",))


def died_with(path: Path, begun: dict[int, tuple[int, bool]], rounds: int = 12) -> None:
    """A store as processes leave it that died so often with these rounds in flight."""
    store = Store(path)
    run = store.begin(Settings(seed=3).description(), "embedded", "http://x", rounds)
    for index, (times, alone) in begun.items():
        for _ in range(times):
            store.claim(run.run_id, index, alone=alone)
    store.close()


@pytest.mark.usefixtures("virtual_time")
async def test_a_round_that_killed_three_processes_alone_is_skipped(tmp_path: Path) -> None:
    """It is failed:poison, it is never played again, and every other round is scored."""
    died_with(tmp_path / "w.db", {4: (3, True)})
    async with world() as served:
        report = await play(served, tmp_path / "w.db", rounds=12)
        again = await play(served, tmp_path / "w.db", rounds=12)
    assert report.states == again.states == {"scored": 11, "failed": 1}
    assert report.reasons == {"failed:poison": 1}


@pytest.mark.usefixtures("virtual_time")
async def test_rounds_that_were_only_near_are_not_to_blame(tmp_path: Path) -> None:
    """Fifty deaths in company prove nothing: each is played alone first, and scored."""
    died_with(tmp_path / "w.db", dict.fromkeys(range(6), (50, False)))
    async with world() as served:
        report = await play(served, tmp_path / "w.db", rounds=12)
    assert report.states == {"scored": 12}
    assert [values["index"] for values in served.said if values["event"] == "round"][:6] == list(range(6))


@pytest.mark.usefixtures("virtual_time")
async def test_claims_are_gone_after_a_good_end(tmp_path: Path) -> None:
    """What ended in order says nothing about its rounds."""
    async with world() as served:
        await play(served, tmp_path / "w.db", rounds=6)
    store = Store(tmp_path / "w.db", readonly=True)
    run = store.run()
    assert run is not None
    assert store.claims(run.run_id) == {}
    store.close()


@pytest.mark.usefixtures("virtual_time")
async def test_the_attacker_writes_the_next_round_while_defenders_judge(tmp_path: Path) -> None:
    """With judges that wait for the next scenario, a run that took one round at a time would stand still."""
    written = asyncio.Event()
    attackers = 0

    async def judge_waits(_: web.Request) -> None:
        await asyncio.wait_for(written.wait(), PATIENCE_SECONDS)

    def count_attackers(_: web.Request) -> None:
        nonlocal attackers
        attackers += 1
        if attackers > 3:
            written.set()

    async with world() as served:
        served.faults = {role.model: judge_waits for role in ROLES} | {EMBEDDED_ATTACKER: count_attackers}
        limits = patient(call_seconds=8.0, round_seconds=9.0)
        report = await play(served, tmp_path / "w.db", rounds=4, limits=limits)
    assert report.states == {"scored": 4}


@pytest.mark.usefixtures("virtual_time")
@pytest.mark.parametrize("kind", ["attack", "benign"])
async def test_a_swarm_of_one_word_fails_the_control(tmp_path: Path, kind: str) -> None:
    """Always attack and always benign are found before the first rate is looked at, and cannot be reported."""
    said = f'{{"verdict":"{kind}","confidence":99,"category":"other","evidence_turn":3}}'
    async with world() as served:
        served.faults = {role.model: content(said) for role in ROLES}
        report = await play(served, tmp_path / "w.db", rounds=4, control_pairs=5)
    assert any(obstacle.startswith("INVALID CONTROL") for obstacle in report.obstacles)
    assert "invalid_control" in [values["event"] for values in served.said]


@pytest.mark.usefixtures("virtual_time")
async def test_the_embedded_defenders_pass_their_control_and_are_not_asked_twice(tmp_path: Path) -> None:
    """Ten conversations, five defenders; a resumed run has them already."""
    async with world() as served:
        report = await play(served, tmp_path / "w.db", rounds=2, control_pairs=5)
        asked = len(served.asked)
        await play(served, tmp_path / "w.db", rounds=2, control_pairs=5)
        assert len(served.asked) == asked
    assert report.evidence.control_faults == []
    assert report.evidence.controls[0].bad == report.evidence.controls[0].good == 5


def test_controls_that_could_not_be_judged_are_no_pass() -> None:
    """An endpoint that was down during the control leaves the run unproved."""
    assert len(load_controls(5)) == 10
    assert judge([(Label.ATTACK, None), (Label.BENIGN, None)]).fault == "the controls could not be judged"
    assert judge([(Label.ATTACK, True), (Label.BENIGN, False)]).fault == ""


def record(kind: VoteKind, attacker: str = "x", outcome: CallOutcome = CallOutcome.OK) -> RoundRecord:
    votes = tuple(Vote(role, kind, verdict=Verdict(kind, 80)) for role in ROLES)
    calls = (
        Call("attacker-3", "a", Reply(CallOutcome.OK, attacker)),
        Call("sentinel", "d", Reply(outcome, "{}")),
    )
    return RoundRecord(CARD, RoundOutcome.scored(Label.ATTACK, True), calls=calls, votes=votes)


def test_tripwires_find_quiet_failures_and_say_each_once() -> None:
    """A role of one word, an attacker of one text, empty replies, invalid verdicts."""
    for expected, records in {
        "sentinel says nothing but benign": [
            record(VoteKind.BENIGN, str(n)) for n in range(SAME_VERDICT_ROUNDS)
        ],
        "the attacker writes the same": [
            record(VoteKind(["attack", "benign"][n % 2])) for n in range(SAME_REPLY_ROUNDS)
        ],
        "empty replies of d": [record(VoteKind.ATTACK, str(n), CallOutcome.EMPTY) for n in range(100)],
        "invalid verdicts of sentinel": [record(VoteKind.INVALID, str(n)) for n in range(100)],
    }.items():
        wires = Tripwires()
        said = [alarm for one in records for alarm in wires.see(one)]
        assert sum(alarm.startswith(expected) for alarm in said) == 1, expected


def test_a_healthy_run_sets_off_nothing() -> None:
    """Mixed votes, texts of their own, one invalid reply in fifty."""
    wires = Tripwires()
    kinds = [VoteKind.ATTACK, VoteKind.BENIGN]
    for n in range(500):
        assert wires.see(record(VoteKind.INVALID if n % 50 == 7 else kinds[n % 2], str(n))) == []


@pytest.mark.usefixtures("virtual_time")
async def test_a_target_that_obeys_shows_which_attacks_are_alive(tmp_path: Path) -> None:
    """Only attacks are put to the undefended model, and its answer decides nothing."""
    settings = Settings(seed=3, target_model="parrot")

    def parrot(request: web.Request) -> web.Response:
        turns: list[Any] = served.asked[-1]["messages"]
        return content(turns[-1]["content"])(request)

    async with world() as served:
        served.faults = {"parrot": parrot}
        report = await play(served, tmp_path / "w.db", rounds=10, settings=settings)
        assert [body["model"] for body in served.asked].count("parrot") == 5
    assert (report.evidence.live.successes, report.evidence.live.trials) == (5, 5)
    assert report.states == {"scored": 10}


@pytest.mark.usefixtures("virtual_time")
async def test_a_leaking_attacker_leaves_no_scored_round(tmp_path: Path) -> None:
    """85 % of one published run's attacks were the attacker's own task: here they are void, and said to be."""

    def leak(request: web.Request) -> web.Response | None:
        body = served.asked[-1]
        card = json.loads(body["messages"][-1]["content"].split("<card>")[1].split("</card>")[0])
        if card["turn"] != card["of"]:
            return None
        text = f"Sure! {body['messages'][0]['content'][:160]} {card['task']} {card['canary']}"
        return content(json.dumps({"message": text}))(request)

    async with world() as served:
        served.faults = {EMBEDDED_ATTACKER: leak}
        report = await play(served, tmp_path / "w.db", rounds=10)
    assert report.reasons == {"void:attacker_leak": 10}
    assert report.obstacles


@pytest.mark.usefixtures("virtual_time")
async def test_the_heartbeat_is_whole_at_any_instant_and_tells_life_from_progress(tmp_path: Path) -> None:
    """Written beside and moved; a reader never sees half of it, and a missing one is empty."""
    path = heartbeat.heartbeat_path(tmp_path / "w.db")
    assert heartbeat.read(path) == {}
    moving = False
    task = asyncio.create_task(heartbeat.beat(path, lambda: {"is_moving": moving}, lambda _: None))
    while not heartbeat.read(path):
        await asyncio.sleep(0.01)
    task.cancel()
    assert heartbeat.read(path)["is_moving"] is False
    assert [entry.name for entry in tmp_path.iterdir()] == ["w.db.heartbeat.json"]
    path.write_text("{")
    assert heartbeat.read(path) == {}


def test_these_limits_are_nested_and_the_engines_are_those_that_roles_name() -> None:
    """What the tests above rest on."""
    assert LIMITS.call_seconds < LIMITS.round_seconds
    assert {role.model for role in ROLES} <= ENGINES.keys()
