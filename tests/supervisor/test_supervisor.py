"""Subsystems as the daemon sees them, with real processes."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
from collections.abc import Container
from functools import partial

import msgspec
import pytest
from structlog.testing import capture_logs
from supervisor_world import READY, SLEEP, World, program, snapshot, until

from epad.configuration.schema import RestartConfig, SubsystemConfig
from epad.supervisor.errors import SupervisorError
from epad.supervisor.intent import Settings
from epad.supervisor.restart import SUCCEEDED
from epad.supervisor.supervisor import Supervisor
from probes.subsystems import SubsystemExited, SubsystemState
from statemachine.containment import Rung

TALKER = f"""{READY}
import time
tell("STATUS=round 4\\nX_EPAD_PROGRESS=4/1000\\nX_EPAD_VRAM_WANTED=5368709120")
tell("READY=1")
time.sleep(600)
"""
NEVER = RestartConfig(policy="never")
AGAIN = "`epactl release it` and `epactl restart it`"


def is_in(supervisor: Supervisor, state: SubsystemState, name: str = "it") -> bool:
    return snapshot(supervisor, name).state is state


def pid_of(supervisor: Supervisor, name: str = "it") -> int:
    pid = snapshot(supervisor, name).pid
    assert pid is not None
    return pid


def proc_state(world: World, pid: int) -> str:
    stat = world.table.stat(pid)
    return stat.state if stat else "gone"


def _is_one_of(world: World, pid: int, states: Container[str]) -> bool:
    return proc_state(world, pid) in states


async def test_a_subsystem_starts_becomes_ready_and_tells(world: World) -> None:
    """Readiness, status, progress and the VRAM it wants come by sd_notify, and are shown."""
    supervisor = world.supervisor({"it": program(TALKER, notifies=True, essential=True)})
    await supervisor.start()
    await until(lambda: is_in(supervisor, SubsystemState.RUNNING))
    seen = snapshot(supervisor)
    assert (seen.status_text, seen.progress_done, seen.progress_total) == ("round 4", 4, 1000)
    assert seen.progressed_at is not None
    assert seen.vram_wanted_bytes == 5 << 30
    assert (seen.kind, seen.essential, seen.restarts, seen.hung) == ("process", True, 0, False)
    await supervisor.stop_all()
    assert is_in(supervisor, SubsystemState.STOPPED)
    assert snapshot(supervisor).vram_wanted_bytes is None
    assert [(event.wanted, event.will_restart) for event in world.exits] == [(True, False)]


async def test_a_child_is_given_what_it_needs_and_no_more(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The daemon's secrets stay with it; epad's own variables cannot be overridden."""
    monkeypatch.setenv("OPENAI_API_KEY", "sk-upstream")
    monkeypatch.setenv("NOTIFY_SOCKET", "/of/the/daemon")
    source = "import os\nfor k, v in sorted(os.environ.items()): print(f'{k}={v}')\nprint(os.getcwd())"
    own = {"MINE": "1", "EPAD_SUBSYSTEM": "other", "EPAD_GATEWAY_KEY": "mine"}
    supervisor = world.supervisor({"it": program(source, environment=own, restart=NEVER)})
    await supervisor.start()
    await until(lambda: len(world.exits) == 1)
    lines = world.read("it").splitlines()
    expected = {
        "EPAD_SUBSYSTEM=it",
        f"EPAD_STATE={world.directories.state}",
        f"NOTIFY_SOCKET={world.directories.notify_socket('it')}",
        "WATCHDOG_USEC=5000000",
        "PYTHONUNBUFFERED=1",
        "EPAD_GATEWAY_KEY=mine",
        "MINE=1",
        str(world.directories.work("it")),
    }
    assert expected <= set(lines)
    assert not [line for line in lines if "OPENAI" in line]
    await supervisor.stop_all()


async def test_a_crash_is_reported_and_restarted(world: World) -> None:
    """A new process, counted, and the old one's status kept."""
    supervisor = world.supervisor({"it": program(SLEEP)})
    await supervisor.start()
    first = pid_of(supervisor)
    os.kill(first, signal.SIGKILL)
    await until(lambda: snapshot(supervisor).pid not in {None, first})
    seen = snapshot(supervisor)
    assert (seen.state, seen.restarts, seen.last_exit) == (SubsystemState.RUNNING, 1, "signal SIGKILL")
    event = world.exits[0]
    assert (event.status, event.wanted, event.will_restart) == ("signal SIGKILL", False, True)
    await until(lambda: world.living() == {seen.pid})
    await supervisor.stop_all()


async def test_a_spent_budget_is_a_failure_until_restart(world: World) -> None:
    """So many crashes and no more: no loop for ever, and an order makes it whole again."""
    rule = RestartConfig(intensity=3, backoff_seconds=0.001, backoff_max_seconds=0.01)
    supervisor = world.supervisor({"it": program("raise SystemExit(1)", restart=rule)})
    await supervisor.start()
    await until(lambda: supervisor.failed() == {"it"})
    assert [event.will_restart for event in world.exits] == [True, True, True, False]
    said = f"exit 1; restart budget spent: 3 in 60 s, lives of about 0 s; mend that, then {AGAIN}"
    assert snapshot(supervisor).status_text == said
    await supervisor.hold("it", Rung.OPEN, "")
    assert supervisor.failed() == {"it"}
    await supervisor.restart("it")
    await until(lambda: len(world.exits) == 8)
    await supervisor.stop_all()


ROW = RestartConfig(
    intensity=99, failures_in_a_row=3, backoff_seconds=0.001, backoff_max_seconds=0.01, policy="always"
)
DIES_OF_MEMORY = (
    "print('torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2 GiB'); raise SystemExit(1)"
)


async def test_a_row_of_failures_is_given_up_and_its_cause_told(world: World) -> None:
    """Ready each time, far below any budget of a period: what its log ends with is recognised, not quoted."""
    supervisor = world.supervisor({"it": program(DIES_OF_MEMORY, restart=ROW)})
    await supervisor.start()
    await until(lambda: supervisor.failed() == {"it"})
    said = snapshot(supervisor).status_text
    assert said.startswith(
        "exit 1 (CUDA out of memory); it never ran healthily: died 4 times in a row, lives of"
    )
    assert said.endswith(f"none was ready for 1800 s; mend that, then {AGAIN}")
    assert "Tried to allocate" not in said
    assert [event.will_restart for event in world.exits] == [True, True, True, False]
    assert all(event.life_seconds > 0 for event in world.exits)
    await supervisor.restart("it", trial=True)
    await until(lambda: len(world.exits) == 5)
    assert not world.exits[-1].will_restart  # the row goes on through a recovery's restart
    await supervisor.restart("it")
    await until(lambda: len(world.exits) == 9)
    assert [event.will_restart for event in world.exits[5:]] == [True, True, True, False]
    await supervisor.stop_all()


async def test_failures_are_told_to_the_next_daemon(world: World) -> None:
    """The row and when it failed are in the record: a restart of epad is no fresh start."""
    rule = msgspec.structs.replace(ROW, backoff_seconds=30.0, backoff_max_seconds=30.0)
    first = world.supervisor({"it": program("raise SystemExit(1)", restart=rule)})
    await first.start()
    await until(lambda: len(world.exits) == 1)
    await asyncio.sleep(0)
    await first.detach()
    world.engine = world.make_engine()
    second = world.supervisor({"it": program("raise SystemExit(1)", restart=ROW)})
    await second.start()
    await until(lambda: second.failed() == {"it"})
    assert [name for name, _ in world.remembered] == ["it"]
    assert len(world.remembered[0][1]) == 1
    assert len(world.exits) == 4
    await second.stop_all()


async def test_what_is_told_is_recorded_though_the_daemon_lets_go_meanwhile(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The disk is busy when the exit is told, and the daemon leaves before the record has been written."""
    let_go = threading.Event()

    def exited(event: SubsystemExited) -> None:
        world.database._thread.submit(let_go.wait)
        world.exits.append(event)

    monkeypatch.setattr(world, "exited", exited)
    rule = msgspec.structs.replace(ROW, backoff_seconds=30.0, backoff_max_seconds=30.0)
    first = world.supervisor({"it": program("raise SystemExit(1)", restart=rule)})
    await first.start()
    await until(lambda: len(world.exits) == 1)
    await first.detach()
    let_go.set()
    monkeypatch.undo()
    world.engine = world.make_engine()
    second = world.supervisor({"it": program("raise SystemExit(1)", restart=rule)})
    await second.start()
    assert [(name, len(failed_at)) for name, failed_at in world.remembered] == [("it", 1)]
    await second.stop_all()


async def test_an_exit_code_that_is_a_result_is_no_crash(world: World) -> None:
    """A run that ends with 5 because its result is bad would only end with 5 again."""
    spec = program("raise SystemExit(5)")
    spec = msgspec.structs.replace(spec, restart=RestartConfig(success_exit_codes=(0, 5)))
    supervisor = world.supervisor({"it": spec})
    await supervisor.start()
    await until(lambda: is_in(supervisor, SubsystemState.STOPPED))
    assert (world.exits[0].will_restart, world.exits[0].reason) == (False, SUCCEEDED)
    await supervisor.stop_all()


async def test_a_success_is_not_restarted_on_failure(world: World) -> None:
    """Finished work is finished."""
    supervisor = world.supervisor({"it": program("pass")})
    await supervisor.start()
    await until(lambda: is_in(supervisor, SubsystemState.STOPPED))
    assert (world.exits[0].will_restart, snapshot(supervisor).last_exit) == (False, "exit 0")
    await supervisor.hold("it", Rung.OPEN, "")
    assert snapshot(supervisor).pid is None
    await supervisor.stop_all()


@pytest.mark.parametrize("command", ["epad-no-such-command", "/etc/passwd"])
async def test_a_bad_command_fails_with_a_sentence(world: World, command: str) -> None:
    """It names command and key, costs no second try, and hinders no other subsystem (circus#1157)."""
    supervisor = world.supervisor(
        {"bad": SubsystemConfig(command=(command,), notifies=False), "it": program(SLEEP)}
    )
    with capture_logs() as logs:
        await supervisor.start()
    assert supervisor.failed() == {"bad"}
    sentence = snapshot(supervisor, "bad").status_text
    assert command in sentence
    assert "subsystems.bad.command" in sentence
    assert not [log for log in logs if "exc_info" in log]
    assert is_in(supervisor, SubsystemState.RUNNING)
    await supervisor.stop_all()


async def test_one_that_never_becomes_ready_fails(world: World) -> None:
    """It is stopped, and the sentence says what to change."""
    spec = program(SLEEP, notifies=True, ready_seconds=0.3)
    supervisor = world.supervisor({"it": spec})
    await supervisor.start()
    await until(lambda: supervisor.failed() == {"it"})
    assert "ready_seconds" in snapshot(supervisor).status_text
    assert (snapshot(supervisor).pid, world.living()) == (None, set())
    assert [(event.wanted, event.will_restart) for event in world.exits] == [(False, False)]
    await supervisor.stop_all()


async def test_dependents_start_after_what_they_need(world: World) -> None:
    """Order of starting by readiness; order of stopping the reverse."""
    log = world.directories.state / "order"
    tell = f"def note(text): open({str(log)!r}, 'a').write(text + chr(10))"
    ending = "import signal, sys, time\ndef end(*_): note('-' + name); sys.exit(0)\nsignal.signal(signal.SIGTERM, end)"

    def member(name: str, *needs: str) -> SubsystemConfig:
        start = "time.sleep(0.2)\nnote('+' + name)\ntell('READY=1')\ntime.sleep(600)"
        source = f"{READY}\n{tell}\nname = {name!r}\n{ending}\n{start}"
        return program(source, notifies=True, depends_on=needs)

    supervisor = world.supervisor({"c": member("c", "b"), "a": member("a"), "b": member("b", "a")})
    await supervisor.start()
    await until(lambda: all(s.state is SubsystemState.RUNNING for s in supervisor.snapshots()))
    await supervisor.stop_all()
    assert log.read_text().split() == ["+a", "+b", "+c", "-c", "-b", "-a"]


@pytest.mark.parametrize(
    ("needs_of_a", "words"), [(("b",), "circle"), (("nobody",), "no subsystem 'nobody'")]
)
def test_impossible_dependencies_are_refused(world: World, needs_of_a: tuple[str, ...], words: str) -> None:
    """Before anything is started."""
    specs = {"a": program(SLEEP, depends_on=needs_of_a), "b": program(SLEEP, depends_on=("a",))}
    with pytest.raises(SupervisorError, match=words):
        world.supervisor(specs)


async def test_the_ladder_of_holds(world: World) -> None:
    """Each rung, up and down, twice each: the same process frozen and thawed, another after a stop."""
    supervisor = world.supervisor({"it": program(SLEEP)})
    await supervisor.start()
    pid = pid_of(supervisor)
    rungs = [
        (Rung.THROTTLE, SubsystemState.THROTTLED, "SR"),
        (Rung.BLOCK, SubsystemState.QUARANTINED, "SR"),
        (Rung.FREEZE, SubsystemState.QUARANTINED, "T"),
        (Rung.OPEN, SubsystemState.RUNNING, "SR"),
        (Rung.FREEZE, SubsystemState.QUARANTINED, "T"),
        (Rung.STOP, SubsystemState.STOPPED, "gone"),
    ]
    for rung, state, of_process in rungs:
        for _ in range(2):
            await supervisor.hold("it", rung, "a test")
            assert is_in(supervisor, state)
            await until(partial(_is_one_of, world, pid, of_process))
    assert world.living() == set()
    await supervisor.hold("it", Rung.OPEN, "")
    assert pid_of(supervisor) != pid
    assert is_in(supervisor, SubsystemState.RUNNING)
    assert [event.wanted for event in world.exits] == [True]
    await supervisor.stop_all()


async def test_a_pause_is_not_a_quarantine(world: World) -> None:
    """PRESERVATION freezes for everybody's sake, and it shows."""
    supervisor = world.supervisor({"it": program(SLEEP)})
    await supervisor.start()
    await supervisor.hold("it", Rung.FREEZE, "PRESERVATION", paused=True)
    assert is_in(supervisor, SubsystemState.PAUSED)
    await supervisor.stop_all()


async def test_a_hold_before_the_start_is_kept(world: World) -> None:
    """What was quarantined when the daemon died does not run for an instant when it is back."""
    supervisor = world.supervisor({"it": program(SLEEP)})
    await supervisor.hold("it", Rung.STOP, "it was parked")
    await supervisor.start()
    assert (snapshot(supervisor).pid, snapshot(supervisor).state) == (None, SubsystemState.STOPPED)
    await supervisor.hold("it", Rung.OPEN, "")
    assert is_in(supervisor, SubsystemState.RUNNING)
    await supervisor.stop_all()


async def test_a_crash_under_a_hold_waits_for_it(world: World) -> None:
    """A frozen process that is killed is not replaced by a running one."""
    supervisor = world.supervisor({"it": program(SLEEP)})
    await supervisor.start()
    pid = pid_of(supervisor)
    await supervisor.hold("it", Rung.FREEZE, "a test")
    os.kill(pid, signal.SIGKILL)
    await until(lambda: len(world.exits) == 1)
    await asyncio.sleep(0.2)
    assert (snapshot(supervisor).pid, snapshot(supervisor).state) == (None, SubsystemState.QUARANTINED)
    await supervisor.hold("it", Rung.OPEN, "")
    await until(lambda: is_in(supervisor, SubsystemState.RUNNING))
    await supervisor.stop_all()


async def test_who_thaws_what_we_froze_is_overruled(world: World) -> None:
    """A quarantine is not undone by a stray SIGCONT."""
    supervisor = world.supervisor({"it": program(SLEEP)})
    await supervisor.start()
    await supervisor.hold("it", Rung.FREEZE, "a test")
    os.kill(pid_of(supervisor), signal.SIGCONT)
    with capture_logs() as logs:
        await until(lambda: any(log["event"] == "subsystem.ran_though_frozen" for log in logs))
    await until(lambda: proc_state(world, pid_of(supervisor)) == "T")
    await supervisor.stop_all()


async def test_a_child_stopped_by_somebody_else_is_hung(world: World) -> None:
    """It is shown to hang, not to run; frozen by us it is not hung (supervisor and circus say RUNNING)."""
    supervisor = world.supervisor({"it": program(SLEEP)})
    await supervisor.start()
    pid = pid_of(supervisor)
    os.kill(pid, signal.SIGSTOP)
    await until(lambda: snapshot(supervisor).hung)
    os.kill(pid, signal.SIGCONT)
    await until(lambda: not snapshot(supervisor).hung)
    await supervisor.hold("it", Rung.FREEZE, "a test")
    await asyncio.sleep(0.2)
    assert not snapshot(supervisor).hung
    await supervisor.stop_all()


async def test_a_watchdog_that_falls_silent_is_hung(world: World) -> None:
    """Only one that has ever spoken can fall silent; speaking again heals it."""
    source = f"""{READY}
import os, time
tell("READY=1")
tell("WATCHDOG=1")
while not os.path.exists("go"): time.sleep(0.01)
while True:
    tell("WATCHDOG=1")
    time.sleep(0.05)
"""
    settings = Settings(watch_seconds=0.05, watchdog_seconds=1.0)
    supervisor = world.supervisor({"it": program(source, notifies=True), "mute": program(SLEEP)}, settings)
    await supervisor.start()
    await until(lambda: snapshot(supervisor).hung)
    assert not snapshot(supervisor, "mute").hung
    (world.directories.work("it") / "go").touch()
    await until(lambda: not snapshot(supervisor).hung)
    await supervisor.stop_all()


async def test_clients_are_held_without_a_process(world: World) -> None:
    """An identity at the gateway shows what it is held to, and nothing more."""
    supervisor = world.supervisor({"chat": SubsystemConfig(kind="client")})
    await supervisor.start()
    assert is_in(supervisor, SubsystemState.RUNNING, "chat")
    await supervisor.hold("chat", Rung.BLOCK, "a test")
    await supervisor.restart("chat")
    assert is_in(supervisor, SubsystemState.QUARANTINED, "chat")
    await supervisor.hold("chat", Rung.OPEN, "")
    assert is_in(supervisor, SubsystemState.RUNNING, "chat")
    await supervisor.stop_all()


async def test_an_unknown_name_is_answered_with_the_known(world: World) -> None:
    """A typing mistake is told apart from an order that failed."""
    supervisor = world.supervisor({"it": program(SLEEP)})
    with pytest.raises(SupervisorError, match=r"no subsystem 'if'; configured are: it"):
        await supervisor.hold("if", Rung.STOP, "")


async def test_restart_ends_the_old_tree_first(world: World) -> None:
    """Of two generations never more than one lives (vllm#55510: the old one keeps the GPU)."""
    source = f"""
import subprocess, sys, time
subprocess.Popen([sys.executable, "-S", "-c", {SLEEP!r}], start_new_session=True)
time.sleep(600)
"""
    supervisor = world.supervisor({"it": program(source)})
    await supervisor.start()
    await until(lambda: len(world.living()) == 2)
    before = world.living()
    await supervisor.restart("it")
    await until(lambda: len(world.living()) == 2)
    assert not world.living() & before
    os.kill(pid_of(supervisor), signal.SIGKILL)
    await until(lambda: snapshot(supervisor).restarts == 1 and len(world.living()) == 2)
    await supervisor.stop_all()
    assert world.living() == set()


async def test_an_environment_that_cannot_be_had_is_a_failed_start(world: World) -> None:
    """It is tried again within the budget, and then given up with its own words."""

    async def broken(name: str) -> dict[str, str]:
        raise OSError("the key file is gone")

    world.environment = broken  # type: ignore[method-assign]  # the key cannot be had
    rule = RestartConfig(intensity=1, backoff_seconds=0.001)
    supervisor = world.supervisor({"it": program(SLEEP, restart=rule)})
    await supervisor.start()
    await until(lambda: supervisor.failed() == {"it"})
    assert "the key file is gone" in snapshot(supervisor).status_text
    await supervisor.stop_all()


async def test_a_cancelled_order_is_carried_out(world: World) -> None:
    """Whoever gave it may hang up; a stop half done would be neither."""
    supervisor = world.supervisor({"it": program(SLEEP)})
    await supervisor.start()
    order = asyncio.create_task(supervisor.hold("it", Rung.STOP, "a test"))
    await asyncio.sleep(0)
    order.cancel()
    await until(lambda: snapshot(supervisor).pid is None)
    assert world.living() == set()
    await supervisor.stop_all()


async def test_orders_at_once_come_to_one_end(world: World) -> None:
    """Ten contradicting holds leave one process or none, and the last one wins."""
    supervisor = world.supervisor({"it": program(SLEEP)})
    await supervisor.start()
    rungs = [Rung.FREEZE, Rung.STOP, Rung.OPEN, Rung.FREEZE, Rung.OPEN] * 2
    await asyncio.gather(*(supervisor.hold("it", rung, "a test") for rung in rungs))
    await until(lambda: world.living() == {pid_of(supervisor)})
    assert is_in(supervisor, SubsystemState.RUNNING)
    await until(lambda: proc_state(world, pid_of(supervisor)) in "SR")
    await supervisor.stop_all()


async def test_stopping_ends_an_interpreter_that_is_still_starting(world: World) -> None:
    """Start and stop may follow each other at once."""
    specs = {f"n{i}": program(SLEEP) for i in range(5)}
    supervisor = world.supervisor(specs)
    await supervisor.start()
    await supervisor.stop_all()
    assert world.living() == set()


async def test_a_stop_that_broke_is_finished_by_the_next_step(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The engine failed once, in the middle: the record says that it is being stopped, and so it is."""
    supervisor = world.supervisor({"it": program(SLEEP)})
    await supervisor.start()
    await until(lambda: is_in(supervisor, SubsystemState.RUNNING))
    old = pid_of(supervisor)
    with monkeypatch.context() as broken:

        async def breaks(*_: object) -> None:
            raise SupervisorError("the engine is at fault")

        broken.setattr(world.engine, "stop", breaks)
        with pytest.raises(SupervisorError, match="at fault"):
            await supervisor.restart("it")
    assert pid_of(supervisor) == old
    await supervisor.hold("it", Rung.OPEN, "nothing has changed")
    await until(lambda: is_in(supervisor, SubsystemState.RUNNING))
    assert pid_of(supervisor) != old
    assert proc_state(world, old) == "gone"
    await supervisor.stop_all()
