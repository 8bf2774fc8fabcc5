"""Orders to undo a turn or a session, by real workers on a real workspace, recorded in the ledger."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import structlog
from ledger_world import open_ledger
from scripted_worker import ScriptedStarter

from epad.gate.tiers import Tier
from epad.gate.tool_profile import Profile
from epad.gateway.access import Access
from epad.ledger.record import ToolClosed, ToolOpened
from epad.ledger.session_trace import turn_named
from epad.ledger.store import Ledger
from epad.operations.protocol import ConflictError, UnknownTurnError
from epad.operations.undo_orders import UndoOrders
from epad.tools.aftermath import tell_of_unknown
from epad.tools.call import CallContext, ToolCalls
from epad.tools.catalogue import load
from epad.tools.rates import CallRates
from epad.tools.sessions import Sessions
from epad.tools.undo_store import UndoStore
from epad.tools.undoing import Undoing
from epad.tools.workers import Workers
from statemachine.clock import ManualClock
from statemachine.phase import Phase

ROOT = Path(__file__).parents[2]


@dataclass
class Scene:
    """A workspace, its calls, and the orders about them."""

    root: Path
    ledger: Ledger
    calls: ToolCalls
    undoing: Undoing
    orders: UndoOrders

    async def write(self, path: str, content: str) -> str:
        arguments = {"path": path, "content": content, "mode": "replace"}
        answer = await self.calls.call(self.calls.caller("chat"), "file_write", arguments, key=None)
        assert not answer.is_error, answer
        return answer.turn

    @property
    def session(self) -> str:
        return self.calls.caller("chat").session


async def make_scene(folder: Path) -> Scene:
    root, store = folder / "work", UndoStore(folder / "undo", lambda _: None)
    root.mkdir(exist_ok=True)
    command = (
        "env", f"PYTHONPATH={ROOT}", sys.executable, "-P", "-m", "runners.tools", "files",
        "--root", str(root), "--undo", store.directory("chat"), "--socket", "0",
    )  # fmt: skip
    ledger, clock, log = await open_ledger(folder / "ledger.db"), ManualClock(), structlog.get_logger()
    workers = Workers(ScriptedStarter(*command), log)
    undoing = Undoing.make(store, workers, ledger, clock.monotonic, log)
    context = CallContext(
        ledger=ledger,
        workers=workers,
        sessions=Sessions(lambda _: "one process", lambda _: Tier.AUTHOR, "run"),
        rates=CallRates(lambda _: 0, clock),
        access=Access(clock),
        phase=lambda: Phase.NORMAL,
        profile=lambda _: Profile(),
        clock=clock,
        log=log,
        undoing=undoing,
    )
    return Scene(root, ledger, ToolCalls(context, await load()), undoing, UndoOrders(ledger, undoing))


@pytest.fixture
async def scene(tmp_path: Path) -> AsyncIterator[Scene]:
    made = await make_scene(tmp_path)
    yield made
    await made.calls.close()
    await made.ledger.close()


async def test_a_turn_is_undone_and_recorded(scene: Scene) -> None:
    """Its record says that it can be; the undo is a turn below it, with who ordered it, why, and the effects."""
    turn = await scene.write("a.txt", "new")
    found = await scene.ledger.read(lambda db: turn_named(db, turn))
    closed = None if found is None else found.closed
    assert isinstance(closed, ToolClosed)
    assert closed.undo == turn
    plan = await scene.orders.plan(turn)
    assert [(one["tool"], one["restored"]) for one in plan["turns"]] == [("file_write", ["a.txt"])]
    assert (scene.root / "a.txt").exists()

    results, is_left = await scene.orders.undo(turn, "it was wrong", "uid 7")

    assert (results, is_left) == ([f"file_write {turn}: put back a.txt"], False)
    assert not (scene.root / "a.txt").exists()
    opened, ended = await records_of_undo(scene)
    assert (opened.parent, opened.row, opened.session) == (turn, "order/undo", scene.session)
    assert (ended.outcome, ended.reason) == ("done", "uid 7: it was wrong")
    assert [(one.target, one.after_sha256) for one in ended.effects] == [("a.txt", None)]


async def records_of_undo(scene: Scene) -> tuple[ToolOpened, ToolClosed]:
    def find(connection: object) -> list[str]:
        rows = connection.execute("SELECT turn FROM record WHERE kind = 6 ORDER BY seq DESC")  # type: ignore[attr-defined]
        return [turn for (turn,) in rows]

    [newest, *_] = await scene.ledger.read(find)
    found = await scene.ledger.read(lambda db: turn_named(db, newest))
    assert found is not None
    assert isinstance(found.opened, ToolOpened)
    assert isinstance(found.closed, ToolClosed)
    return found.opened, found.closed


async def test_a_session_is_undone_from_its_newest_turn_back(scene: Scene) -> None:
    """Each finds the file as it left it, since those after it are undone before."""
    (scene.root / "a.txt").write_text("at first")
    turns = [await scene.write("a.txt", f"{number}") for number in range(3)]
    results, is_left = await scene.orders.undo(scene.session, "all of it", "uid 7")
    assert [line.split()[1].rstrip(":") for line in results] == turns[::-1]
    assert not is_left
    assert (scene.root / "a.txt").read_text() == "at first"
    results, is_left = await scene.orders.undo(scene.session, "again", "uid 7")
    assert not is_left or "changed since" in " ".join(results)


async def test_a_file_that_was_changed_since_is_told_and_left(scene: Scene) -> None:
    """The order has then not done all that was asked."""
    turn = await scene.write("a.txt", "new")
    (scene.root / "a.txt").write_text("a person's")
    results, is_left = await scene.orders.undo(turn, "why", "uid 7")
    assert results == [f"file_write {turn}: left alone, changed since: a.txt"]
    assert is_left
    assert (scene.root / "a.txt").read_text() == "a person's"


async def test_what_has_changed_nothing_cannot_be_undone(scene: Scene) -> None:
    """A reading call, a turn that there is none of, and a daemon without tools."""
    answer = await scene.calls.call(scene.calls.caller("chat"), "file_list", {}, key=None)
    with pytest.raises(ConflictError, match="to undo"):
        await scene.orders.plan(answer.turn)
    with pytest.raises(UnknownTurnError):
        await scene.orders.undo("f" * 32, "why", "uid 7")
    with pytest.raises(ConflictError, match="no tools"):
        await UndoOrders(scene.ledger, None).plan("f" * 32)


async def test_a_call_that_the_daemon_died_in_is_looked_at_and_told(tmp_path: Path) -> None:
    """By the next daemon: which changes were made, and the temporary file is gone; then it can be undone."""
    first = await make_scene(tmp_path)
    turn = await first.write("a.txt", "new")
    store = tmp_path / "undo/chat" / f"{first.session[:16]}.{turn}"
    (tmp_path / "work/.epad-7-0123abcd.tmp").write_text("half")
    with (store / "temporaries").open("a") as file:
        file.write('".epad-7-0123abcd.tmp"\n')
    await first.ledger.read(lambda db: None)
    await first.calls.close()
    await first.ledger.close()
    await _forget_the_end_of(tmp_path / "ledger.db", turn)

    second = await make_scene(tmp_path)
    with structlog.testing.capture_logs() as logs:
        await tell_of_unknown(second.undoing, await second.ledger.unclosed_tools(), structlog.get_logger())
    [told] = [line for line in logs if line["event"] == "tool.end_unknown"]
    assert (told["turn"], told["made"], told["not_made"]) == (turn, ["a.txt"], [])
    assert not list((tmp_path / "work").glob(".epad-*"))
    results, _ = await second.orders.undo(turn, "it is not wanted", "uid 7")
    assert results == [f"file_write {turn}: put back a.txt"]
    await second.calls.close()
    await second.ledger.close()


async def _forget_the_end_of(path: Path, turn: str) -> None:
    import apsw  # noqa: PLC0415

    def forget() -> None:
        connection = apsw.Connection(str(path))
        connection.execute("DELETE FROM record WHERE turn = ? AND kind = 7", (turn,))
        connection.close()

    await asyncio.to_thread(forget)
