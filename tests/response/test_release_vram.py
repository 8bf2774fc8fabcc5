"""The ladder that gets VRAM back, against servers that answer as Ollama and vLLM do, or do not."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from hypothesis import given
from hypothesis import strategies as st

from epad.response.release_vram import ModelServer, ReleaseLimits, ReleaseRung, VramRelease
from probes.vram.probe import HeldVram
from statemachine.clock import ManualClock

MIB = 1 << 20


@dataclass
class Machine:
    """A GPU that one subsystem fills; what is done to it shows in its figures."""

    held: int | None = 8_000 * MIB
    ghosts: int = 100 * MIB
    obeys_term: bool = True
    dies: bool = True
    leaves_ghosts: bool = False
    late_reads: int = 0
    done: list[str] = field(default_factory=list)
    reads: int = 0
    clock: ManualClock = field(default_factory=ManualClock)
    _coming: int | None = None

    async def measure(self, subsystem: str) -> HeldVram:
        assert subsystem == "server"
        self.reads += 1
        if self._coming is not None and self.late_reads:
            self.late_reads -= 1
        elif self._coming is not None:
            self.held, self._coming = self._coming, None
        return HeldVram(self.held, None if self.held is None else self.ghosts)

    def free_to(self, size: int) -> None:
        if self.held is not None:
            self._coming = size

    async def terminate(self, subsystem: str) -> bool:
        self.done.append("TERM")
        if self.obeys_term:
            self._end()
        return self.obeys_term

    async def kill(self, subsystem: str) -> bool:
        self.done.append("KILL")
        if self.dies:
            self._end()
        return self.dies

    def _end(self) -> None:
        if self.held is None:
            return
        if self.leaves_ghosts:
            self.ghosts += self.held
        self._coming = 0

    async def pause(self, seconds: float) -> None:
        self.clock.advance(seconds)


Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@dataclass
class Bench:
    machine: Machine
    asked: list[tuple[str, Any]] = field(default_factory=list)
    key: str = ""
    server: TestServer | None = None

    async def serve(self, **routes: Handler) -> None:
        """Answer these routes, named by their path with `_` for `/`; anything else is a 404."""
        app = web.Application()

        async def note(request: web.Request) -> web.StreamResponse:
            text = await request.text()
            self.asked.append((f"{request.method} {request.path_qs}", json.loads(text) if text else None))
            self.key = request.headers.get("Authorization", "")
            handler = routes.get(request.path.strip("/").replace("/", "_"))
            return (
                web.json_response({"detail": "Not Found"}, status=404)
                if handler is None
                else await handler(request)
            )

        app.router.add_route("*", "/{path:.*}", note)
        self.server = TestServer(app)
        await self.server.start_server()

    def release(self, suffix: str = "", **limits: Any) -> VramRelease:
        url = "" if self.server is None else str(self.server.make_url("/")).rstrip("/") + suffix
        server = ModelServer(url, "secret") if url else None
        return VramRelease(
            ReleaseLimits(**limits),
            server_of=lambda _: server,
            measure=self.machine.measure,
            processes=self.machine,
            clock=self.machine.clock,
            pause=self.machine.pause,
        )


@pytest.fixture
async def bench() -> AsyncIterator[Bench]:
    one = Bench(Machine())
    yield one
    if one.server is not None:
        await one.server.close()


def answering(value: Any, status: int = 200) -> Handler:
    async def handler(_: web.Request) -> web.Response:
        return web.json_response(value, status=status)

    return handler


def rungs(released: Any) -> list[str]:
    return [rung.rung.value for rung in released.rungs]


async def test_ollama_unloads_each_of_its_models(bench: Bench) -> None:
    """`keep_alive: 0` for what /api/ps lists; the process lives on."""

    async def unload(request: web.Request) -> web.Response:
        bench.machine.free_to(0 if len(bench.asked) == 3 else 4_000 * MIB)
        return web.json_response({"done": True, "done_reason": "unload"})

    loaded = {"models": [{"name": "llama3.2:3b", "size_vram": 1}, {"name": "nomic-embed-text"}]}
    await bench.serve(api_ps=answering(loaded), api_generate=unload)
    released = await bench.release().release("server")
    assert bench.asked == [
        ("GET /api/ps", None),
        ("POST /api/generate", {"model": "llama3.2:3b", "keep_alive": 0, "stream": False}),
        ("POST /api/generate", {"model": "nomic-embed-text", "keep_alive": 0, "stream": False}),
    ]
    assert (released.released, rungs(released), bench.machine.done) == (True, ["unload"], [])
    assert (released.rungs[0].before_bytes, released.rungs[0].after_bytes) == (8_000 * MIB, 0)
    assert released.sentence == (
        "VRAM released: 8000 MiB before, 0 MiB after (unload: asked to unload llama3.2:3b, nomic-embed-text)"
    )


async def test_vllm_sleeps_where_it_has_the_route(bench: Bench) -> None:
    """Level as configured; a base that ends in /v1 is cut, and the key goes along."""

    async def sleep(_: web.Request) -> web.Response:
        bench.machine.free_to(900 * MIB)
        return web.Response()

    await bench.serve(sleep=sleep)
    released = await bench.release("/v1", sleep_level=2).release("server")
    assert [path for path, _ in bench.asked] == ["GET /api/ps", "POST /sleep?level=2"]
    assert bench.key == "Bearer secret"
    assert (released.released, rungs(released), bench.machine.done) == (True, ["sleep"], [])


async def test_vllm_without_its_development_mode_is_asked_to_end(bench: Bench) -> None:
    """404 is no attempt: the next rung is TERM."""
    await bench.serve()
    released = await bench.release().release("server")
    assert (released.released, rungs(released), bench.machine.done) == (True, ["terminate"], ["TERM"])


async def test_a_server_that_says_unloaded_and_is_not_is_not_believed(bench: Bench) -> None:
    """ollama#4443: VRAM decides, not the answer."""
    loaded = {"models": [{"name": "m"}]}
    await bench.serve(api_ps=answering(loaded), api_generate=answering({"done": True}))
    released = await bench.release().release("server")
    assert (rungs(released), released.released) == (["unload", "terminate"], True)
    assert [(r.before_bytes, r.after_bytes) for r in released.rungs] == [
        (8_000 * MIB, 8_000 * MIB),
        (8_000 * MIB, 0),
    ]


async def test_vram_that_comes_back_late_is_waited_for(bench: Bench) -> None:
    """llama-swap#97: the driver cleans up after the process is gone."""
    bench.machine.late_reads = 8
    released = await bench.release().release("server")
    assert (released.released, bench.machine.done) == (True, ["TERM"])
    assert released.rungs[0].seconds >= 2


async def test_one_that_ignores_term_is_killed_last_and_with_a_note(bench: Bench) -> None:
    """All that was tried is in the record."""
    bench.machine.obeys_term = False
    released = await bench.release().release("server")
    assert (released.released, bench.machine.done) == (True, ["TERM", "KILL"])
    assert "SIGKILL can wedge" in released.sentence
    assert [r["result"] for r in released.evidence()["rungs"]] == [
        "it did not end within its grace",
        "it was killed",
    ]


async def test_one_that_does_not_even_die_is_said_to_be_stuck(bench: Bench) -> None:
    """Nothing is left to try (vllm#25127): a person is told so."""
    bench.machine.obeys_term = bench.machine.dies = False
    released = await bench.release().release("server")
    assert released.released is False
    assert released.sentence.startswith("VRAM not released: 8000 MiB before, 8000 MiB after")
    assert "stuck in the driver" in released.sentence


async def test_memory_that_outlives_its_process_is_not_called_released(bench: Bench) -> None:
    """Nobody holds it, and it is used: there is nobody left to kill for it either."""
    bench.machine.leaves_ghosts = True
    released = await bench.release().release("server")
    assert (released.released, bench.machine.done) == (False, ["TERM"])
    assert "8000 MiB are in use by no process now" in released.sentence


async def test_what_holds_nothing_is_left_alone(bench: Bench) -> None:
    """A step that is done again after a crash finds its work done."""
    bench.machine.held = 0
    await bench.serve()
    released = await bench.release().release("server")
    assert (released.released, released.rungs, bench.asked, bench.machine.done) == (True, (), [], [])
    assert released.sentence == "it held no VRAM"


async def test_without_figures_only_the_end_of_the_process_counts(bench: Bench) -> None:
    """No driver that names processes: nothing is called released that was not seen to be."""
    bench.machine.held = None
    await bench.serve(api_ps=answering({"models": []}))
    released = await bench.release(settle_seconds=1.0).release("server")
    assert (released.released, rungs(released), bench.machine.done) == (
        None,
        ["unload", "terminate"],
        ["TERM"],
    )
    assert released.sentence.startswith("VRAM cannot be read: unknown before, unknown after")


@pytest.mark.parametrize("answer", [[], {"models": 7}, "garbage", None, {"models": [{"size": 1}, 7]}])
async def test_a_server_that_talks_nonsense_leads_to_the_next_rung(bench: Bench, answer: Any) -> None:
    """Never to an error of ours."""
    await bench.serve(api_ps=answering(answer), sleep=answering({}, status=500))
    released = await bench.release(settle_seconds=0.5).release("server")
    assert (released.released, bench.machine.done) == (True, ["TERM"])
    assert ("sleep", "answered 500") in [(r.rung.value, r.result) for r in released.rungs]


async def test_a_server_that_is_gone_or_silent_does_not_hold_up_the_ladder(bench: Bench) -> None:
    """Its limit is short, and what was tried is told."""
    await bench.serve()
    assert bench.server is not None
    release = bench.release(settle_seconds=0.5)
    await bench.server.close()
    released = await release.release("server")
    assert rungs(released) == ["unload", "sleep", "terminate"]
    assert "no answer" in released.rungs[0].result


@given(st.booleans(), st.booleans(), st.booleans(), st.integers(0, 30))
async def test_whatever_happens_it_ends_and_says_what_is_so(
    obeys: bool, dies: bool, ghosts: bool, late: int
) -> None:
    """The rungs come in their order, none twice; released is what the last reading shows."""
    machine = Machine(obeys_term=obeys, dies=dies, leaves_ghosts=ghosts, late_reads=late)
    release = VramRelease(
        ReleaseLimits(),
        server_of=lambda _: None,
        measure=machine.measure,
        processes=machine,
        clock=machine.clock,
        pause=machine.pause,
    )
    released = await release.release("server")
    order = [list(ReleaseRung).index(rung.rung) for rung in released.rungs]
    assert order == sorted(set(order))
    assert ("KILL" in machine.done) == (not obeys)
    gone = (obeys or dies) and machine.held == 0
    assert released.released == (gone and not ghosts)
    assert released.after_bytes == machine.held


def test_the_ladder_is_in_the_order_of_gentleness() -> None:
    """KILL is last."""
    names: Sequence[str] = [rung.value for rung in ReleaseRung]
    assert names == ["unload", "sleep", "terminate", "kill"]
