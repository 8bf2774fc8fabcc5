"""Readiness and health: each way to ask, what counts as ill, and what becomes of a process that hangs."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator

import pytest
from aiohttp import web
from supervisor_world import READY, SLEEP, World, program, snapshot, until

from epad.configuration.schema import HealthConfig, RestartConfig
from epad.supervisor.health import Health, HealthChecker
from probes.subsystems import SubsystemState

SWITCH = (sys.executable, "-S", "-c", "import os, sys; sys.exit(not os.path.exists(sys.argv[1]))")


async def infer(model: str) -> str:
    return "" if model == "small" else f"no upstream serves {model}"


CHECKER = HealthChecker(infer, {"PATH": os.environ["PATH"]})


@pytest.fixture
async def server() -> AsyncIterator[tuple[str, int]]:
    async def answer(request: web.Request) -> web.Response:
        if request.path == "/slow":
            await asyncio.Event().wait()
        return web.Response(status=int(request.path.lstrip("/")))

    runner = web.ServerRunner(web.Server(answer, handler_cancellation=True))  # type: ignore[arg-type]  # takes a coroutine
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    yield runner.addresses[0]
    await runner.cleanup()


@pytest.mark.parametrize(
    ("path", "wrong"),
    [
        ("200", ""),
        ("204", ""),
        ("302", ""),
        ("404", "answered 404"),
        ("503", "answered 503"),
        ("slow", "within"),
    ],
)
async def test_http_is_judged_by_its_status(server: tuple[str, int], path: str, wrong: str) -> None:
    """Below 400 is well; no answer in time is not."""
    url = f"http://{server[0]}:{server[1]}/{path}"
    said = await CHECKER.check(HealthConfig(http=url, timeout_seconds=0.5 if path == "slow" else 10.0))
    assert (wrong in said) if wrong else (said == "")


async def test_tcp_is_judged_by_its_connection(server: tuple[str, int]) -> None:
    """A port that listens is well, one that does not is named."""
    assert await CHECKER.check(HealthConfig(tcp=f"{server[0]}:{server[1]}")) == ""
    assert "Connect call failed" in await CHECKER.check(HealthConfig(tcp="127.0.0.1:1"))


@pytest.mark.parametrize(
    ("command", "said"),
    [
        (("true",), ""),
        (("false",), "false exited with 1"),
        (("sh", "-c", "echo no model >&2; exit 3"), "sh exited with 3: no model"),
        (("sh", "-c", "sleep 60 & wait"), "no answer within 0.5 s"),
        (("sh", "-c", "yes flood >&2"), "no answer within 0.5 s"),
        (("/nowhere/at-all",), "[Errno 2] No such file or directory: '/nowhere/at-all'"),
    ],
)
async def test_a_command_is_judged_by_its_exit(command: tuple[str, ...], said: str) -> None:
    """Its complaint is passed on, its time is bounded, and what is not there is said."""
    patience = 0.5 if "within" in said else 20.0
    assert await CHECKER.check(HealthConfig(command=command, timeout_seconds=patience)) == said


async def test_one_token_is_asked_for_by_the_models_name() -> None:
    """A server that listens and cannot answer is not well."""
    assert await CHECKER.check(HealthConfig(inference="small")) == ""
    assert await CHECKER.check(HealthConfig(inference="huge")) == "no upstream serves huge"


def test_failures_count_in_a_row() -> None:
    """One success is a clean slate."""
    ill = Health(0.0).after("no", 1.0).after("no", 2.0)
    assert (ill.failures, ill.reason, ill.checked_at) == (2, "no", 2.0)
    assert ill.after("", 3.0) == Health(3.0)


async def test_a_check_makes_ready_and_unready(world: World) -> None:
    """STARTING until it passes, RUNNING then, HUNG after so many failures, RUNNING again after one success."""
    switch = world.directories.work("it") / "well"
    health = HealthConfig(
        command=(*SWITCH, str(switch)), interval_seconds=0.01, failures=2, timeout_seconds=20
    )
    supervisor = world.supervisor({"it": program(SLEEP, health=health)})
    started = asyncio.create_task(supervisor.start())
    await until(lambda: snapshot(supervisor).pid is not None)
    assert snapshot(supervisor).state is SubsystemState.STARTING
    switch.touch()
    await until(lambda: snapshot(supervisor).state is SubsystemState.RUNNING)
    await started
    switch.unlink()
    await until(lambda: snapshot(supervisor).state is SubsystemState.HUNG)
    assert "health checks failed" in snapshot(supervisor).hung_reason
    pid = snapshot(supervisor).pid
    switch.touch()
    await until(lambda: snapshot(supervisor).state is SubsystemState.RUNNING)
    assert snapshot(supervisor).pid == pid, "hung_seconds is 0: it is reported and left alone"
    await supervisor.stop_all()


async def test_a_check_that_never_passes_is_a_failed_start(world: World) -> None:
    """The reason has the check's own words and the key to change."""
    health = HealthConfig(command=("sh", "-c", "echo still loading >&2; exit 1"))
    supervisor = world.supervisor({"it": program(SLEEP, health=health, ready_seconds=1.0)})
    await supervisor.start()
    await until(lambda: snapshot(supervisor).state is SubsystemState.FAILED)
    why = snapshot(supervisor).status_text
    assert "did not pass within 1 s (sh exited with 1: still loading)" in why
    assert "subsystems.it.ready_seconds" in why
    await supervisor.stop_all()


@pytest.mark.parametrize("how", ["stopped", "silent"])
async def test_what_hangs_is_replaced_if_so_configured(world: World, how: str) -> None:
    """After `hung_seconds` it is ended, counted as a failure, and started anew, although it exits with 0."""
    polite = "import signal, sys; signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))\n" + SLEEP
    mute = READY + "tell('WATCHDOG=1')\n" + polite
    restart = RestartConfig(backoff_seconds=0.01, hung_seconds=0.2)
    supervisor = world.supervisor({"it": program(mute if how == "silent" else polite, restart=restart)})
    await supervisor.start()
    first = snapshot(supervisor).pid
    assert first is not None
    if how == "stopped":
        os.kill(first, signal.SIGSTOP)
    await until(lambda: snapshot(supervisor).pid not in {first, None})
    seen = snapshot(supervisor)
    assert seen.restarts >= 1
    assert seen.last_exit.startswith("hung: ")
    assert world.exits[0].will_restart
    await supervisor.stop_all()
