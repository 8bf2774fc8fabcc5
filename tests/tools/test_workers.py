"""Workers: started at the first call, shared, ended when idle; and the real program at the other end of the socket."""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path

import pytest
import structlog
from scripted_worker import ScriptedStarter

from epad.tools.catalogue import ROOT
from epad.tools.worker import Worker, WorkerAnswer, WorkerLostError
from epad.tools.workers import Workers


def real(root: Path) -> ScriptedStarter:
    """Starts the real program, without a cell."""
    code = f"import sys; sys.path.insert(0, {str(ROOT)!r}); sys.argv[0] = 'tools'\n"
    code += "from runners.tools.__main__ import main; main()"
    return ScriptedStarter(sys.executable, "-P", "-c", code, "files", "--root", str(root))


def pool(starter: ScriptedStarter, idle_seconds: float = 300.0) -> Workers:
    return Workers(starter, structlog.get_logger(), idle_seconds)


async def ask(worker: Worker, tool: str, timeout: float = 20.0, **arguments: object) -> WorkerAnswer:
    return await worker.ask(tool, arguments, timeout, 65_536).answer


async def gone(pid: int) -> None:
    """Wait until a process is reaped."""
    async with asyncio.timeout(30):
        while Path(f"/proc/{pid}").exists():
            await asyncio.sleep(0.005)


async def test_the_real_worker_speaks_as_the_scripted_one(tmp_path: Path) -> None:
    """A result with its effect, an error with its hint, and a cancelled call that is answered once."""
    os.mkfifo(tmp_path / "never")
    workers = pool(real(tmp_path))
    worker = await workers.lend("chat", "files")
    wrote = await ask(worker, "file_write", path="a.txt", content="hello")
    read = await ask(worker, "file_read", path="a.txt")
    failed = await ask(worker, "file_read", path="nothing")
    asked = worker.ask("file_wc", {"path": "a.txt"}, 20, 65_536)
    worker.cancel(asked)
    cancelled = await asked.answer
    await workers.close()

    assert wrote.result is not None
    assert wrote.effects == (("a.txt", None, wrote.result["sha256"]),)
    assert (read.result or {})["text"] == "hello"
    assert (failed.result, failed.ended) == (None, "error")
    assert failed.error
    assert cancelled.ended == "cancelled" or cancelled.result is not None
    await gone(worker.pid)


async def test_one_worker_serves_a_category_of_a_subsystem() -> None:
    """Those who ask at once wait for one start; another subsystem has its own."""
    starter = ScriptedStarter()
    workers = pool(starter)
    lent = await asyncio.gather(*(workers.lend("chat", "files") for _ in range(10)))
    other = await workers.lend("other", "files")
    answers = await asyncio.gather(*(ask(worker, "echo", number=n) for n, worker in enumerate(lent)))
    await workers.close()

    assert starter.started == [("chat", "files"), ("other", "files")]
    assert len(set(map(id, lent))) == 1
    assert other is not lent[0]
    assert [(one.result or {})["number"] for one in answers] == list(range(10))


async def test_an_idle_worker_is_ended_and_a_busy_one_is_not() -> None:
    """The next call starts another."""
    starter = ScriptedStarter()
    workers = pool(starter, idle_seconds=0.0)
    worker = await workers.lend("chat", "files")
    again = await workers.lend("chat", "files")
    workers.give_back("chat", "files", again)
    assert not worker.is_lost
    workers.give_back("chat", "files", worker)
    await gone(worker.pid)
    assert not (await ask(await workers.lend("chat", "files"), "echo")).error
    await workers.close()

    assert len(starter.started) == 2


async def test_a_killed_worker_fails_its_calls() -> None:
    """And takes none any more."""
    workers = pool(ScriptedStarter())
    worker = await workers.lend("chat", "files")
    asked = worker.ask("hang", {}, 20, 1)
    worker.kill()
    with pytest.raises(WorkerLostError, match="during the call"):
        await asked.answer
    with pytest.raises(WorkerLostError, match="has ended"):
        worker.ask("echo", {}, 20, 1)
    await gone(worker.pid)
    await workers.close()


async def test_a_worker_with_former_settings_is_ended_with_its_calls() -> None:
    """A reload has given its subsystem another workspace: what runs could still reach the old one."""
    starter = ScriptedStarter()
    workers = pool(starter)
    former = await workers.lend("chat", "files")
    asked = former.ask("hang", {}, 20, 1)
    assert await workers.lend("chat", "files") is former
    starter.now["chat"] = "another workspace"
    later = await workers.lend("chat", "files")
    with pytest.raises(WorkerLostError, match="during the call"):
        await asked.answer
    workers.give_back("chat", "files", former)
    assert not (await ask(later, "echo")).error
    assert await workers.lend("chat", "files") is later
    await gone(former.pid)
    await workers.close()


async def test_an_answer_that_is_none_ends_the_worker() -> None:
    """Bytes that no worker sends are not guessed at."""
    script = (
        "import socket, os; socket.socket(fileno=0).sendall(b'\\0\\0\\0\\3abc'); import time; time.sleep(60)"
    )
    workers = pool(ScriptedStarter(sys.executable, "-I", "-S", "-c", script))
    worker = await workers.lend("chat", "files")
    with pytest.raises(WorkerLostError):
        await ask(worker, "echo")
    worker.kill()
    await workers.close()


async def test_a_closed_pool_starts_nothing() -> None:
    """The daemon is stopping."""
    workers = pool(ScriptedStarter())
    await workers.close()
    with pytest.raises(WorkerLostError, match="is stopping"):
        await workers.lend("chat", "files")


async def test_too_many_workers_make_room_of_idle_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    """And a call is refused where all are busy."""
    monkeypatch.setattr("epad.tools.workers.MOST_WORKERS", 1)
    workers = pool(ScriptedStarter())
    first = await workers.lend("a", "files")
    with pytest.raises(WorkerLostError, match="all busy"):
        await workers.lend("b", "files")
    workers.give_back("a", "files", first)
    await workers.lend("b", "files")
    await workers.close()

    assert first.is_lost
