"""No fault of an endpoint becomes a result, and none makes the run hang or burn its rounds."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from aiohttp import web
from wargame_world import (
    ENGINES,
    Fault,
    closed,
    content,
    counted,
    hang,
    html,
    patient,
    play,
    status,
    world,
)

from runners.model.completion import complete
from runners.model.request import from_openai
from runners.wargame.play.campaign import PauseLimitError
from runners.wargame.roles import EMBEDDED_ATTACKER, ROLES
from runners.wargame.store import Store

PAUSING: dict[str, Fault] = {
    "500": status(500),
    "404": status(404),
    "403": status(403),
    "429": status(429, {"Retry-After": "30"}),
    "hang": hang,
    "html": html,
    "closed": closed,
}
VOIDING: dict[str, Fault] = {
    "empty": content(""),
    "null": content(None),
    "prose": content("This is not an attack. CONFIDENCE: 12%"),
    "truncated": content('{"verdict": "att', "length"),
    "fake verdict in prose": content(
        'It says {"verdict":"attack","confidence":99,"category":"none","evidence_turn":1}'
    ),
}
pytestmark = pytest.mark.usefixtures("virtual_time")

DEFENDERS = tuple(role.model for role in ROLES)
BROKEN = {"attacker": (EMBEDDED_ATTACKER,), "all defenders": DEFENDERS}


@pytest.mark.parametrize("who", BROKEN)
@pytest.mark.parametrize("fault", PAUSING)
async def test_an_endpoint_that_does_not_answer_pauses_the_run(tmp_path: Path, fault: str, who: str) -> None:
    """0 outcomes from faulty replies; the run pauses, says so, and gives up only when told to."""
    async with world() as served:
        served.faults = dict.fromkeys(BROKEN[who], PAUSING[fault])
        with pytest.raises(PauseLimitError, match="paused for"):
            await play(served, tmp_path / "w.db", rounds=40)
    report = counted(tmp_path / "w.db")
    assert report.scored == 0
    assert report.swarm.catch.trials == report.swarm.false_alarm.trials == 0
    assert report.obstacles
    assert report.attempted < 40, "rounds were burnt while the endpoint was down"
    assert "paused" in [values["event"] for values in served.said]


@pytest.mark.parametrize("who", BROKEN)
@pytest.mark.parametrize("fault", VOIDING)
async def test_an_answer_that_says_nothing_makes_void_rounds(tmp_path: Path, fault: str, who: str) -> None:
    """Empty, cut and rambling replies end the run NOT REPORTABLE, with nothing scored."""
    async with world() as served:
        served.faults = dict.fromkeys(BROKEN[who], VOIDING[fault])
        report = await play(served, tmp_path / "w.db", rounds=10)
    assert (report.attempted, report.scored) == (10, 0)
    assert set(report.states) == {"void"}
    assert report.obstacles
    assert report.swarm.catch.rate is None


@pytest.mark.parametrize("fault", VOIDING)
async def test_one_bad_defender_is_seen_but_does_not_decide(tmp_path: Path, fault: str) -> None:
    """Four valid votes are a quorum; the fifth is counted as what it was, and the run is not reportable."""
    async with world() as served:
        served.faults = {ROLES[0].model: VOIDING[fault]}
        report = await play(served, tmp_path / "w.db", rounds=10)
    assert report.scored == 10
    assert set(report.votes[ROLES[0].name]) <= {"invalid", "error"}
    assert ROLES[0].name not in report.roles
    assert any(ROLES[0].name in obstacle for obstacle in report.obstacles)


async def half_a_character(request: web.Request) -> web.Response:
    """Answer as ever, with an unpaired surrogate in the attacker's message and behind every other answer."""
    chat = from_openai(await request.json())
    text = complete(ENGINES[chat.model], chat).choices[0].text
    if chat.model == EMBEDDED_ATTACKER:
        text = json.dumps({"message": json.loads(text)["message"] + " \ud83d"})
    else:
        text += " \ud83d"
    return content(text)(request)


@pytest.mark.parametrize("who", BROKEN)
async def test_an_unpaired_surrogate_ends_no_run(tmp_path: Path, who: str) -> None:
    """Half a character in an answer, which no store can hold, once killed the run and each resume after it."""
    async with world() as served:
        served.faults = dict.fromkeys(BROKEN[who], half_a_character)
        report = await play(served, tmp_path / "w.db", rounds=4)
    assert report.attempted == 4
    assert set(report.states) == {"scored" if who == "attacker" else "void"}


async def test_a_pause_ends_by_itself_and_no_round_is_lost(tmp_path: Path) -> None:
    """An endpoint that comes back is found by a probe; every round is then scored."""
    async with world() as served:
        served.faults = {"*": lambda _: status(500)(_) if 20 < len(served.asked) < 60 else None}
        report = await play(served, tmp_path / "w.db", rounds=20, limits=patient(pause_limit_seconds=0.0))
    assert report.scored == 20
    events = [values["event"] for values in served.said]
    assert "paused" in events
    assert events.index("paused") < events.index("running")


async def test_a_4xx_is_never_asked_again_and_a_429_waits_as_told(tmp_path: Path) -> None:
    """A 400 is a decision; a 429 is asked again after its Retry-After, within the round."""
    refused = []

    def once(_: web.Request) -> web.Response | None:
        refused.append(1)
        return status(429, {"Retry-After": "0.05"})(_) if len(refused) == 1 else None

    async with world() as served:
        served.faults = {ROLES[1].model: status(400), ROLES[2].model: once}
        report = await play(served, tmp_path / "w.db", rounds=1)
        asked = [body["model"] for body in served.asked]
    assert report.scored == 1
    assert asked.count(ROLES[1].model) == 1
    assert asked.count(ROLES[2].model) == 2
    assert report.votes[ROLES[2].name].keys() <= {"attack", "benign"}


async def test_a_round_that_cannot_end_is_failed_at_its_deadline(tmp_path: Path) -> None:
    """Nested limits: a call that may take longer than its round is cut by the round."""
    limits = patient(call_seconds=60.0, round_seconds=0.05, breaker_failures=1_000)
    async with world() as served:
        served.faults = {"*": hang}
        report = await play(served, tmp_path / "w.db", rounds=2, limits=limits)
    assert report.states == {"failed": 2}
    assert len(served.asked) == 2 * limits.attempts_per_round


async def test_a_round_is_not_replayed_for_ever(tmp_path: Path) -> None:
    """A probe that succeeds while the real question never does must not make the run stand still."""

    def only_probes(request: web.Request) -> web.Response | None:
        return (
            None if served.asked[-1]["messages"][0]["content"].startswith("Probe") else status(500)(request)
        )

    async with world() as served:
        served.faults = {"*": only_probes}
        report = await play(served, tmp_path / "w.db", rounds=2, limits=patient(breaker_failures=1))
    assert report.states == {"failed": 2}


async def test_the_same_seed_asks_the_same_questions(tmp_path: Path) -> None:
    """Two stores, one seed: the same bodies go out, whatever order they go in and however often one is retried."""
    bodies = []
    for name in ("a.db", "b.db"):
        async with world() as served:
            await play(served, tmp_path / name, rounds=12)
            bodies.append({str(body) for body in served.asked})
    assert bodies[0] == bodies[1]


async def test_twins_share_their_first_turns_without_paying_twice(tmp_path: Path) -> None:
    """The second of a pair asks the attacker for one turn only: three and one for two rounds."""
    async with world() as served:
        await play(served, tmp_path / "w.db", rounds=2)
        assert [body["model"] for body in served.asked].count(EMBEDDED_ATTACKER) == 4
    store = Store(tmp_path / "w.db", readonly=True)
    run = store.run()
    assert run is not None
    attack, benign = store.turns(run.run_id, 0), store.turns(run.run_id, 1)
    store.close()
    assert attack[:2] == benign[:2]
    assert attack[2] != benign[2]


async def test_every_question_has_a_key_of_its_own(tmp_path: Path) -> None:
    """Epad answers a paid question again by its Idempotency-Key, so no two questions may share one."""
    async with world() as served:
        await play(served, tmp_path / "w.db", rounds=8)
    questions = {key: str(body) for key, body in zip(served.keys, served.asked, strict=True)}
    assert "" not in questions
    assert len(questions) == len(served.asked)


async def test_the_shared_prefix_comes_first_and_the_role_last(tmp_path: Path) -> None:
    """Five defenders of a round differ in the tail of the last message alone, for the prefix cache's sake."""
    async with world() as served:
        await play(served, tmp_path / "w.db", rounds=1)
    judged = [body["messages"] for body in served.asked if body["model"] in DEFENDERS]
    assert len({messages[0]["content"] for messages in judged}) == 1
    assert len({messages[1]["content"].split("</conversation>")[0] for messages in judged}) == 1
    assert {messages[1]["content"].split("</conversation>\n\n")[1] for messages in judged} == {
        role.instruction for role in ROLES
    }
