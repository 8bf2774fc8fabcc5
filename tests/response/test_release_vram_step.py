"""The release of VRAM over the real supervisor and a server of its own."""

from __future__ import annotations

import tempfile
from collections.abc import AsyncIterator
from pathlib import Path
from typing import cast

import msgspec
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from epad_house import configured
from epad_story import memory_database
from supervisor_world import READY, SLEEP, World, program, snapshot, until

from epad.configuration.schema import ReleaseVramConfig, SubsystemConfig
from epad.control_loop.step import StepFailedError
from epad.gateway.http.pool import Origin
from epad.gateway.upstream import Upstream
from epad.response.release_vram import ReleaseRung, RungTaken, VramRelease, VramReleased
from epad.response.release_vram_step import VramReleaseStep, make_vram_release
from epad.runtime.clock import SystemClock
from epad.storage.event_log import EventLog
from epad.supervisor.supervisor import Supervisor
from probes.subsystems import SubsystemState
from probes.vram.probe import HeldVram
from statemachine.clock import ManualClock

DEAF = f"{READY}\nimport signal, time\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\ntell('READY=1')\ntime.sleep(600)"


class Ollama:
    """A server whose model is loaded until it is told to keep it for no time."""

    name, key = "local", ""

    origin = Origin()

    def __init__(self) -> None:
        self.base = ""
        self.loaded = True
        self.obeys = True

    async def start(self) -> TestServer:
        app = web.Application()
        app.add_routes([web.get("/api/ps", self.ps), web.post("/api/generate", self.generate)])
        server = TestServer(app)
        await server.start_server()
        self.base = str(server.make_url("")).rstrip("/")
        return server

    async def ps(self, _: web.Request) -> web.Response:
        return web.json_response({"models": [{"name": "m"}] if self.loaded else []})

    async def generate(self, request: web.Request) -> web.Response:
        self.loaded = self.loaded and not (self.obeys and (await request.json())["keep_alive"] == 0)
        return web.json_response({"done": True})


class House:
    """A supervised server; what it holds is what its process and its model say."""

    def __init__(self, root: Path, ollama: Ollama) -> None:
        self.world = World(root)
        self.ollama = ollama
        self.supervisor: Supervisor | None = None

    async def run(self, spec: SubsystemConfig) -> None:
        self.supervisor = self.world.supervisor({"it": spec})
        await self.supervisor.start()
        await until(lambda: snapshot(self.held, "it").state is SubsystemState.RUNNING)
        # One that has not begun its program yet is not known by it.
        await until(lambda: bool(self.world.living()))

    @property
    def held(self) -> Supervisor:
        assert self.supervisor is not None
        return self.supervisor

    async def measure(self, _: str) -> HeldVram:
        runs = bool(self.world.living())
        return HeldVram(8 << 30 if runs and self.ollama.loaded else 0, 0)

    async def release(self, spec: SubsystemConfig) -> VramReleased:
        limits = ReleaseVramConfig(request_seconds=10.0, settle_seconds=1.0, keep_ratio=0.25, sleep_level=1)
        # As after a reload that has added it: at the start nothing of this name was configured.
        configs = [msgspec.structs.replace(configured(), release_vram=limits)]
        release = make_vram_release(
            lambda: configs[-1],
            upstreams=lambda: [cast("Upstream", self.ollama)],
            holder=self.held,
            measure=self.measure,
            clock=SystemClock(),
        )
        configs.append(msgspec.structs.replace(configured(it=spec), release_vram=limits))
        return await release.release("it")


@pytest.fixture
async def house() -> AsyncIterator[House]:
    with tempfile.TemporaryDirectory(prefix="epad-") as directory:
        ollama = Ollama()
        server = await ollama.start()
        one = House(Path(directory), ollama)
        await one.world.database.open()
        try:
            yield one
        finally:
            await one.held.stop_all()
            await one.world.database.close()
            await server.close()


def rungs(released: VramReleased) -> list[str]:
    return [rung.rung.value for rung in released.rungs]


async def test_a_server_that_unloads_keeps_its_process(house: House) -> None:
    """The subsystem names its upstream, and is asked there."""
    spec = program(SLEEP, serves="local")
    await house.run(spec)
    released = await house.release(spec)
    assert (released.released, rungs(released)) == (True, ["unload"])
    assert snapshot(house.held).state is SubsystemState.RUNNING


async def test_one_that_names_no_upstream_is_asked_to_end_and_stays_down(house: House) -> None:
    """Its restart policy would load everything anew; the hold at STOP keeps it from that."""
    spec = program(SLEEP)
    await house.run(spec)
    released = await house.release(spec)
    assert (released.released, rungs(released)) == (True, ["terminate"])
    assert snapshot(house.held).pid is None
    assert house.world.living() == set()


async def test_one_that_ignores_term_is_killed_after_its_grace(house: House) -> None:
    """Both rungs are told apart."""
    house.ollama.obeys = False
    spec = program(DEAF, notifies=True, stop_seconds=0.3, serves="local")
    await house.run(spec)
    released = await house.release(spec)
    assert (released.released, rungs(released)) == (True, ["unload", "terminate", "kill"])
    assert [rung.result for rung in released.rungs[1:]] == [
        "it did not end within its grace",
        "it was killed",
    ]
    assert house.world.living() == set()


class Told:
    """A ladder that comes to what the test says."""

    def __init__(self, released: bool | None) -> None:
        rung = RungTaken(ReleaseRung.TERMINATE, "it has ended", 8 << 30, 0, 1.5)
        self.outcome = VramReleased("it", 8 << 30, 0, released, (rung,), "a note")

    async def release(self, _: str) -> VramReleased:
        return self.outcome


@pytest.mark.parametrize("released", [True, None, False])
async def test_every_rung_is_in_an_event_and_only_a_failure_fails_the_step(released: bool | None) -> None:
    """VRAM that cannot be read is no failure: its process has ended."""
    events = EventLog(memory_database(), ManualClock())
    step = VramReleaseStep(cast("VramRelease", Told(released)), events)
    async with events.subscribe() as heard:
        if released is False:
            with pytest.raises(StepFailedError, match="VRAM not released: 8192 MiB before, 0 MiB after"):
                await step.release("it")
        else:
            assert "terminate: it has ended" in await step.release("it")
        await events.flush()
        event = heard.get_nowait()
    assert (event["kind"], event["subsystem"]) == ("vram.released", "it")
    assert event["fields"]["released"] is released
    assert event["fields"]["rungs"] == [
        {
            "rung": "terminate",
            "result": "it has ended",
            "before_bytes": 8 << 30,
            "after_bytes": 0,
            "seconds": 1.5,
        }
    ]
