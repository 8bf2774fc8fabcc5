"""Lost messages, asked again at a gateway that is real enough: HTTP, keys, answers kept under a key."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path

import pytest
from aiohttp import web
from epad_house import BOOT
from msgspec import structs

from epad.configuration.load import load
from epad.configuration.schema import LedgerConfig, RecoveryConfig
from epad.control_loop.step import Lane, Operation, Step, StepFailedError, StepName
from epad.gateway.turn import TURN_HEADER
from epad.ledger.entry import CloseTurn, OpenTurn
from epad.ledger.errors import LedgerUnavailableError
from epad.ledger.store import Ledger
from epad.response.replay import REPLAY_SCHEMA, Asking, LostState, Replay
from epad.storage.database import Database
from statemachine.clock import ManualClock

STEP, OPERATION = Step(StepName.REPLAY, "host"), Operation(1, "key", Lane.PHASE, "a test", ())
CONFIG = RecoveryConfig(replay_attempts=2, replay_seconds=30.0, ready_seconds=30.0)


@dataclass
class Scene:
    """The gateway's side, and the ledger that outlives its daemon."""

    directory: Path
    clock: ManualClock = field(default_factory=ManualClock)
    asked: list[tuple[str, str, str]] = field(default_factory=list)
    answers: Callable[[str], int] = lambda _: 200
    closed: list[str] = field(default_factory=list)
    lent: list[str] = field(default_factory=list)
    shut: dict[str, str] = field(default_factory=dict)
    kept: dict[str, str] = field(default_factory=dict)  # key -> the turn whose answer is kept under it
    url: str = ""

    async def handle(self, request: web.Request) -> web.Response:
        key = request.headers["Idempotency-Key"]
        self.asked.append((request.path, key, (await request.read()).decode()))
        assert request.headers["Authorization"] == f"Bearer {self.lent[-1]}"
        status = self.answers(key)
        return web.Response(
            status=status, text="{}", headers={TURN_HEADER.decode(): self.kept.get(key, f"new-{key}")}
        )

    def lend(self, subsystem: str) -> str:
        self.lent.append(f"key-{subsystem}-{len(self.lent)}")
        return self.lent[-1]

    def take_back(self, key: str) -> None:
        assert self.lent[-1] == key

    async def close(self, turn: str, charged_microusd: int) -> None:
        self.closed.append(turn)

    async def life(self) -> tuple[Ledger, Database, Replay]:
        """One life of the daemon."""
        config: LedgerConfig = load().ledger
        ledger = await Ledger.open(self.directory / "ledger.db", config, self.clock, BOOT)
        database = Database(self.directory / "state.db", REPLAY_SCHEMA)
        await database.open()
        asking = Asking(
            ledger=ledger,
            database=database,
            keyring=self,
            costs=self,
            clock=self.clock,
            url=lambda: self.url,
            shut=lambda name: self.shut.get(name, ""),
            ready=lambda: True,
        )
        return ledger, database, Replay(CONFIG, asking)


@pytest.fixture
async def scene(tmp_path: Path) -> AsyncIterator[Scene]:
    scene = Scene(tmp_path)
    app = web.Application()
    app.router.add_post("/{path:.*}", scene.handle)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    scene.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    yield scene
    await runner.cleanup()


def opened(number: int, key: str | None, subsystem: str = "chat") -> OpenTurn:
    body = f'{{"number": {number}}}'.encode()
    return OpenTurn(
        turn=f"{number:032x}",
        subsystem=subsystem,
        dialect="openai",
        model="embedded",
        prompt_bound=40,
        output_cap=60,
        reserved_tokens=100,
        request_sha256=sha256(body).digest(),
        idempotency_key=key,
        payload=body,
        path="/v1/chat/completions",
    )


def replayed(number: int, key: str) -> OpenTurn:
    """The same message as turn 1, under another number."""
    return structs.replace(opened(1, key), turn=f"{number:032x}")


async def lose(scene: Scene, *turns: OpenTurn) -> tuple[Ledger, Database, Replay]:
    """Open turns in one life; the next finds them lost."""
    ledger, database, _ = await scene.life()
    for turn in turns:
        await ledger.open_turn(turn)
    await ledger.close()
    await database.close()
    return await scene.life()


async def test_lost_turns_are_asked_again_oldest_first_and_closed_at_no_charge(scene: Scene) -> None:
    """The charge is that of the turn that answered; their requests are forgotten with them."""
    ledger, _, replay = await lose(scene, opened(1, "a"), opened(2, "b"))
    assert await replay.replay(STEP, OPERATION) == "2 lost turn(s) answered, 0 left"
    assert scene.asked == [
        ("/v1/chat/completions", key, f'{{"number": {n}}}') for n, key in ((1, "a"), (2, "b"))
    ]
    assert await ledger.lost_turns() == []
    assert (await ledger.totals())["chat"].charged_tokens == 0
    assert scene.closed == [f"{1:032x}", f"{2:032x}"]
    assert await ledger.payload(opened(1, "a").request_sha256) is None
    assert await replay.replay(STEP, OPERATION) == "no turn was lost"


async def test_a_lost_turn_whose_own_answer_was_kept_is_charged_its_bound(scene: Scene) -> None:
    """It was paid for, and the count of its tokens died with the daemon: nothing else would account for it."""
    ledger, _, replay = await lose(scene, opened(1, "a"))
    scene.kept["a"] = f"{1:032x}"
    assert await replay.replay(STEP, OPERATION) == "1 lost turn(s) answered, 0 left"
    assert (await ledger.totals())["chat"].charged_tokens == 100


async def test_a_message_is_asked_twice_over_all_lives_and_then_left_to_a_person(scene: Scene) -> None:
    """It stays open, and counts with all that was reserved for it."""
    scene.answers = lambda _: 503
    ledger, database, replay = await lose(scene, opened(1, "a"))
    assert (
        await replay.replay(STEP, OPERATION)
        == "0 lost turn(s) answered, 1 left; `epactl recovery` lists them"
    )
    await ledger.close()
    await database.close()
    ledger, _, replay = await scene.life()
    assert "1 left" in await replay.replay(STEP, OPERATION)
    assert len(scene.asked) == 2
    (lost,) = await replay.lost()
    assert (lost.state, lost.attempts) == (LostState.FOR_A_PERSON, 2)
    assert "answered 503" in lost.why
    assert sum(spend.tokens for spend in await ledger.spending_since(0)) == 100


async def test_the_answer_closes_every_lost_turn_of_its_message(scene: Scene) -> None:
    """A replay that was lost itself is another turn of it: no attempt is left for it, and none is needed."""
    ledger, _, replay = await lose(scene, opened(1, "a"), replayed(2, "a"), opened(3, "b"))
    await replay.replay(STEP, OPERATION)
    assert [key for _, key, _ in scene.asked] == ["a", "b"]
    assert await ledger.lost_turns() == []
    assert scene.closed == [f"{n:032x}" for n in (1, 2, 3)]


async def test_a_death_between_the_answer_and_its_settling_costs_no_attempt(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The next life closes what was answered; a later turn under the same key is a message of its own."""

    async def dies(_: CloseTurn) -> int:
        raise LedgerUnavailableError("the disk is gone")

    ledger, database, replay = await lose(scene, opened(1, "a"))
    monkeypatch.setattr(ledger, "close_turn", dies)
    with pytest.raises(StepFailedError):
        await replay.replay(STEP, OPERATION)
    await database.close()
    await ledger.close()
    scene.clock.advance(10.0)
    ledger, _, replay = await lose(scene, replayed(2, "a"))
    assert await replay.replay(STEP, OPERATION) == "1 lost turn(s) answered, 0 left"
    assert [key for _, key, _ in scene.asked] == ["a", "a"]
    assert scene.closed == [f"{1:032x}", f"{2:032x}"]


@pytest.mark.parametrize(
    ("turn", "why"),
    [
        (opened(1, None), "no Idempotency-Key"),
        (
            structs.replace(opened(1, "a"), path=""),
            "older epad",
        ),
        (
            structs.replace(opened(1, "a"), payload=None),
            "not kept",
        ),
    ],
    ids=["no key", "no path", "no request"],
)
async def test_what_cannot_be_asked_again_is_listed_with_the_reason(
    scene: Scene, turn: OpenTurn, why: str
) -> None:
    """Nothing is sent for it."""
    _, __, replay = await lose(scene, turn)
    await replay.replay(STEP, OPERATION)
    (lost,) = await replay.lost()
    assert lost.state is LostState.FOR_A_PERSON
    assert why in lost.why
    assert scene.asked == []


async def test_a_held_subsystem_is_not_asked_for_and_loses_no_attempt(scene: Scene) -> None:
    """Another's turn goes on; its own waits until it is released."""
    scene.shut["chat"] = "it is in quarantine"
    _, __, replay = await lose(scene, opened(1, "a"), opened(2, "b", "game"))
    assert "1 lost turn(s) answered, 1 left" in await replay.replay(STEP, OPERATION)
    (lost,) = await replay.lost()
    assert (lost.state, lost.attempts, lost.why) == (LostState.WAITING, 0, "it is in quarantine")
    scene.shut.clear()
    assert await replay.replay(STEP, OPERATION) == "1 lost turn(s) answered, 0 left"
