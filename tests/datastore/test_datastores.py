"""Who is looked at next, and what is remembered."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
from datastore_world import Store

from epad.configuration.schema import DatastoreConfig
from epad.copying.child import ChildError
from epad.copying.errors import CheckpointError
from epad.datastore import datastores as module
from epad.datastore.datastores import Datastores, RestoreOrder
from epad.datastore.restore import Answer, Restored
from epad.inspection.inspect import Look
from epad.metrics.registry import Metrics
from probes.datastore import DatastoreSettings
from statemachine.clock import ManualClock
from statemachine.containment import Rung

NOW = datetime(2026, 11, 23, 4, tzinfo=UTC)
FAULT = (("flip", "a bit"),)


class Bench:
    """Two stores whose looks are scripted."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, home: Path) -> None:
        self.clock = ManualClock()
        self.asked: list[str] = []
        self.answers: dict[str, Look | ChildError] = {
            "/a": Look("copy", cpu_seconds=30.0),
            "/b": Look("at rest"),
        }
        monkeypatch.setattr(module, "ask_child", self._ask)
        config = DatastoreSettings(interval_seconds=60.0, core_share=0.03, deadline_seconds=9.0)
        self.restore = Answer()
        self.order = RestoreOrder("key", home / "checkpoints", self._stop)
        stores = {"a": DatastoreConfig("/a"), "b": DatastoreConfig("/b", subsystem="chat", restore=True)}
        self.metrics = Metrics()
        self.stores = Datastores(stores, home, config, self.clock, self.metrics)

    async def _ask(self, module: str, path: str, *arguments: str, **__: object) -> Look | Answer:
        if module == "epad.datastore.restore":
            self.asked.append(f"restore {path}")
            return self.restore
        self.asked.append(" ".join([path, *arguments[3:]]))
        answer = self.answers[path]
        if isinstance(answer, ChildError):
            raise answer
        return answer

    async def _stop(self, writer: str) -> None:
        self.asked.append(f"stop {writer}")

    async def tick(self, seconds: float = 0.0) -> None:
        self.clock.advance(seconds)
        await self.stores.check()
        await self.stores.settle()


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Bench:
    return Bench(monkeypatch, tmp_path)


async def test_one_store_at_a_time_and_no_more_than_its_share_of_a_core(bench: Bench) -> None:
    """Half a minute of processor time at 3 % is a thousand seconds of rest."""
    for _ in range(4):
        await bench.tick()
    assert bench.asked == ["/a", "/b"]
    await bench.tick(60.0)
    await bench.tick(900.0)
    assert bench.asked == ["/a", "/b", "/b", "/b"]
    await bench.tick(41.0)
    assert bench.asked[-1] == "/a"


async def test_what_is_damaged_stays_so_until_a_look_finds_it_sound(bench: Bench) -> None:
    """A look that could not see has not healed anything."""
    bench.answers["/b"] = Look("copy", FAULT)
    await bench.tick()
    await bench.tick()
    assert bench.stores.doubts() == ["datastore b: flip: a bit"]
    bench.answers["/b"] = ChildError("not done within 9.0 s")
    await bench.tick(61.0)
    assert bench.stores.doubts()
    bench.answers["/b"] = Look("copy")
    await bench.tick(61.0)
    assert bench.stores.doubts() == []
    checks = {check.name: check for check in await bench.stores.check()}
    assert (checks["a"].subsystem, checks["b"].subsystem) == ("host", "chat")
    assert bench.metrics.registry.get_sample_value("epad_datastore_sound", {"datastore": "b"}) == 1


async def test_an_acceptance_goes_with_the_next_look_at_once(bench: Bench) -> None:
    """And only with that one."""
    await bench.tick()
    await bench.tick()
    bench.stores.accept("a")
    await bench.tick(1.0)
    await bench.tick(2_000.0)
    await bench.tick()
    assert bench.asked[2:] == ["/a --accept", "/b", "/a"]


RESTORED = Restored(
    "key", NOW, "/b", "/b.damaged", "the last sound copy", NOW.replace(hour=3), rows=5, sha256="0" * 64
)


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("rot", True),
        ("flip", True),
        ("structure", True),
        ("rule", False),
        ("shrink", False),
        ("schema", False),
        ("missing", False),
    ],
)
async def test_only_what_no_program_has_done_is_undone(bench: Bench, kind: str, expected: bool) -> None:
    """Rows taken out, another schema, a file moved away may be meant; and nothing is, where nobody asks for it."""
    bench.answers |= {path: Look("copy", ((kind, "where"),)) for path in ("/a", "/b")}
    await bench.tick()
    await bench.tick()
    assert bench.stores.to_restore() == ({"b": "chat"} if expected else {})
    bench.answers["/b"] = Look(error="database is locked")
    await bench.tick(61.0)
    assert bench.stores.to_restore() == ({"b": "chat"} if expected else {})


async def test_who_writes_a_store_is_stopped_until_it_is_sound(bench: Bench) -> None:
    """Nobody looks at it meanwhile; a restore that fails lets nobody at it, a look that finds it sound does."""
    bench.answers["/b"] = Look("copy", FAULT)
    await bench.tick()
    await bench.tick()
    assert bench.stores.hold_on("chat") is None
    bench.restore = Answer(error="/b is damaged and there is no good copy")
    with pytest.raises(CheckpointError, match="datastore b: /b is damaged and there is no good copy"):
        await bench.stores.restore("b", bench.order)
    assert bench.asked[-2:] == ["stop chat", "restore /b"]
    held = bench.stores.hold_on("chat")
    assert held is not None
    assert (held.rung, "datastore b" in held.reason) == (Rung.STOP, True)
    bench.restore = Answer(RESTORED, Look("copy", rows=5))
    said = await bench.stores.restore("b", bench.order)
    assert said == (
        "flip: a bit; chat stopped; restored 5 rows as of 2026-11-23 03:00:00Z from the last sound copy; "
        "what was written since is in /b.damaged"
    )
    assert (bench.stores.hold_on("chat"), bench.stores.to_restore(), bench.stores.doubts()) == (None, {}, [])


async def test_what_a_former_life_has_begun_is_gone_on_with(bench: Bench) -> None:
    """No look in this life says otherwise: what its writer wrote when it was stopped may hide the damage."""
    assert (bench.stores.hold_writer("b"), bench.stores.hold_writer("a")) == ("chat", "")
    await bench.tick()
    await bench.tick()
    assert bench.asked == ["/a"]
    checks = {check.name: check for check in await bench.stores.check()}
    assert not checks["b"].is_looked_at
    bench.restore = Answer(RESTORED, Look("copy", rows=5))
    assert "restored 5 rows" in await bench.stores.restore("b", replace(bench.order, was_begun=True))
    assert bench.asked[1:] == ["stop chat", "restore /b"]


async def test_what_is_sound_by_now_is_left_alone(bench: Bench) -> None:
    """A person was faster, or this life has not looked yet; and what no restore undoes is not touched."""
    assert "found sound by now" in await bench.stores.restore("b", bench.order)
    assert bench.stores.hold_on("chat") is None
    assert bench.asked == ["/b"]
    bench.answers["/b"] = Look("copy", (("shrink", "it had 900 rows"),))
    await bench.tick(61.0)
    await bench.tick()
    with pytest.raises(CheckpointError, match=r"shrink: it had 900 rows; .* a person must look"):
        await bench.stores.restore("b", bench.order)
    with pytest.raises(CheckpointError, match=r"datastores.a.restore is not true any more"):
        await bench.stores.restore("a", bench.order)


async def test_what_is_forgotten_must_be_found_again_and_is_doubted_until_then(bench: Bench) -> None:
    """A recovery begins: the old finding must not hold who is about to be started, and no copy is promoted."""
    bench.answers["/b"] = Look("copy", FAULT)
    await bench.tick()
    await bench.tick()
    bench.stores.forget("chat")
    checks = {check.name: check for check in await bench.stores.check()}
    assert (checks["a"].is_looked_at, checks["b"].is_looked_at) == (True, False)
    assert bench.stores.doubts() == ["datastore b: flip: a bit"]
    asked = len(bench.asked)
    await bench.tick()
    assert bench.asked[asked:] == ["/b"]  # at once: what is not looked at must not pass for sound
    assert (await bench.stores.check())[1].faults == FAULT


async def test_what_was_restored_is_said_as_long_as_the_damaged_file_is_there(
    make_store: Callable[..., Store], tmp_path: Path
) -> None:
    """Through the real children; also by the next life, until somebody has taken the file away."""
    store, homes = make_store(), tmp_path / "homes"
    config = DatastoreSettings(interval_seconds=60.0, core_share=0.03, deadline_seconds=60.0)
    specs = {"memory": DatastoreConfig(str(store.path), subsystem="chat", restore=True)}

    async def another_life() -> Datastores:
        stores = Datastores(specs, homes, config, ManualClock(), Metrics())
        await stores.check()
        await stores.settle()
        return stores

    async def nobody(_: str) -> None:
        return

    store.rest()
    await another_life()
    store.flip(8 * 5000)
    stores = await another_life()
    said = await stores.restore("memory", RestoreOrder("key", tmp_path / "checkpoints", nobody))
    (check,) = await stores.check()
    assert said.startswith("rot: ")
    assert (said.partition("; ")[2], check.faults, check.rows) == (f"chat stopped; {check.note}", (), 600)
    (check,) = await (await another_life()).check()
    assert said.endswith(f"; chat stopped; {check.note}")
    next(tmp_path.glob("memory.db.damaged-*")).unlink()
    (check,) = await stores.check()
    assert check.note == ""


async def test_a_real_look_in_a_real_child(make_store: Callable[..., Store], tmp_path: Path) -> None:
    """Through the process and back."""
    store = make_store()
    config = DatastoreSettings(interval_seconds=60.0, core_share=0.03, deadline_seconds=60.0)
    stores = Datastores(
        {"memory": DatastoreConfig(str(store.path))},
        tmp_path / "homes",
        config,
        ManualClock(),
        Metrics(),
    )
    assert not (await stores.check())[0].is_looked_at
    await stores.settle()
    (check,) = await stores.check()
    await stores.close()
    assert (check.is_looked_at, check.rows, check.error) == (True, 600, "")
