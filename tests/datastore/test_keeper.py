"""Who is looked at next, and what is remembered."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from datastore_world import Store

from epad.checkpoint.child import ChildError
from epad.config import DatastoreConfig
from epad.config_probes import DatastoreProbeConfig
from epad.datastore import keeper as module
from epad.datastore.keeper import Datastores
from epad.datastore.look import Look
from epad.metrics import Metrics
from statemachine.clock import ManualClock

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
        config = DatastoreProbeConfig(interval_seconds=60.0, core_share=0.03, deadline_seconds=9.0)
        stores = {"a": DatastoreConfig("/a"), "b": DatastoreConfig("/b", subsystem="chat")}
        self.metrics = Metrics("test")
        self.stores = Datastores(stores, home, config, self.clock, self.metrics)

    async def _ask(self, _: str, path: str, *arguments: str, **__: object) -> Look:
        self.asked.append(" ".join([path, *arguments[3:]]))
        answer = self.answers[path]
        if isinstance(answer, ChildError):
            raise answer
        return answer

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


async def test_a_real_look_in_a_real_child(make_store: Callable[..., Store], tmp_path: Path) -> None:
    """Through the process and back."""
    store = make_store()
    config = DatastoreProbeConfig(interval_seconds=60.0, core_share=0.03, deadline_seconds=60.0)
    stores = Datastores(
        {"memory": DatastoreConfig(str(store.path))},
        tmp_path / "homes",
        config,
        ManualClock(),
        Metrics("test"),
    )
    assert not (await stores.check())[0].is_looked_at
    await stores.settle()
    (check,) = await stores.check()
    await stores.close()
    assert (check.is_looked_at, check.rows, check.error) == (True, 600, "")
