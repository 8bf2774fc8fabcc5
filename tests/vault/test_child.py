"""The child that keeps the store: nothing acknowledged is lost, whoever is killed; and it reaches nothing else."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import structlog
from patience import until
from vault_desk import A, Desk

from epad.tools.own import OwnToolError
from epad.vault.child import VaultChild

WRITERS, EACH = 8, 125


@pytest.fixture
async def child(tmp_path: Path) -> AsyncIterator[VaultChild]:
    made = VaultChild(tmp_path / "vault", structlog.get_logger())
    yield made
    await made.close()


def request(name: str, content: str = "") -> dict[str, object]:
    by = {"author": "chat", "session": A, "tier": 2, "taint": 0, "turn": "t"}
    return {"by": by, "arguments": {"name": name, "content": content or f"the text of {name}"}}


async def kept(child: VaultChild) -> set[str]:
    """The names that the next life of the child has."""
    names, cursor = set[str](), ""
    while True:
        arguments = {"cursor": cursor, "limit": 200}
        page = await child.ask("memory_list", {**request("x"), "arguments": arguments})
        names |= {one["name"] for one in page["entities"]}
        if not (cursor := page["next"]):
            return names


async def kill(child: VaultChild) -> None:
    for pid in child.pids:
        os.kill(pid, signal.SIGKILL)


async def test_nothing_acknowledged_is_lost_to_kills(child: VaultChild) -> None:
    """Of 1,000 writes by 8 writers at once, while the child is killed again and again."""
    acknowledged: set[str] = set()
    failed = 0

    async def write(writer: int) -> None:
        nonlocal failed
        for number in range(EACH):
            name = f"w{writer}-{number}"
            try:
                await child.ask("memory_store", request(name))
                acknowledged.add(name)
            except OwnToolError:
                failed += 1
            if number % 40 == 39:
                await kill(child)

    await asyncio.gather(*map(write, range(WRITERS)))
    there = await kept(child)

    assert acknowledged <= there
    assert len(acknowledged) + failed == WRITERS * EACH
    assert len(acknowledged) > WRITERS * EACH // 2
    assert failed
    assert (await child.ask("verify", {"heads": []}))["faults"] == []


async def test_parallel_writes_without_a_kill_are_all_there(child: VaultChild) -> None:
    """The twin: 1,000 acknowledged, 1,000 there."""
    names = {f"n{number}" for number in range(400)}
    await asyncio.gather(*(child.ask("memory_store", request(name)) for name in names))
    assert await kept(child) == names


async def test_a_request_under_way_when_the_child_dies_says_that_nobody_knows(child: VaultChild) -> None:
    """And the next one has another child."""
    await child.ask("memory_store", request("a"))
    [pid] = child.pids
    os.kill(pid, signal.SIGSTOP)
    asked = asyncio.create_task(child.ask("memory_store", request("b")))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    os.kill(pid, signal.SIGKILL)
    with pytest.raises(OwnToolError, match=r"process has ended: whether memory_store was done is unknown"):
        await asked
    assert "a" in await kept(child)
    assert child.pids != {pid}


async def test_a_refusal_comes_with_its_hint(child: VaultChild) -> None:
    """As the tool's own error."""
    with pytest.raises(OwnToolError, match="no memory named 'nope'") as refused:
        await child.ask("memory_get", {**request("x"), "arguments": {"name": "nope"}})
    assert "memory_list" in refused.value.hint


async def test_a_place_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    """Each request is answered; no child is left."""
    (tmp_path / "vault").write_text("a file")
    child = VaultChild(tmp_path / "vault", structlog.get_logger())
    with pytest.raises(OwnToolError, match="process has ended"):
        await child.ask("memory_store", request("a"))
    await child.close()
    assert child.pids == frozenset()


async def test_after_the_end_of_the_daemon_there_is_no_child(child: VaultChild) -> None:
    """It is asked no more, and starts none."""
    await child.ask("memory_store", request("a"))
    await child.close()
    assert child.pids == frozenset()
    with pytest.raises(OwnToolError, match="stopping"):
        await child.ask("memory_store", request("b"))


def _has_ended(pid: int) -> bool:
    """Also as a zombie: this process may have become the parent of orphans, and reaps none."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True


async def test_a_child_whose_daemon_was_killed_ends_and_has_all_that_was_acknowledged(tmp_path: Path) -> None:
    """`kill -9` of the process that asked."""
    code = (
        "import asyncio, os, signal, structlog, sys, pathlib\n"
        "from epad.vault.child import VaultChild\n"
        "async def main():\n"
        "    child = VaultChild(pathlib.Path(sys.argv[1]), structlog.get_logger())\n"
        "    for n in range(50):\n"
        "        by = {'author': 'chat', 'session': 'a' * 32}\n"
        "        arguments = {'name': f'n{n}', 'content': f'text number {n}'}\n"
        "        await child.ask('memory_store', {'by': by, 'arguments': arguments})\n"
        "        print(n, *child.pids, flush=True)\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
        "asyncio.run(main())\n"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "vault")]
    done = await asyncio.to_thread(subprocess.run, command, capture_output=True, text=True, check=False)
    lines = [line.split() for line in done.stdout.splitlines() if line[0].isdigit()]
    assert done.returncode == -signal.SIGKILL, done.stderr
    await until(lambda: _has_ended(int(lines[-1][1])), "the child's end")
    desk = Desk(tmp_path / "vault/vault.db")
    assert set(desk.names(limit=200)) == {f"n{number}" for number in range(50)}
    desk.close()


async def test_it_opens_no_socket_and_no_file_of_others(child: VaultChild) -> None:
    """The filter of its system calls and Landlock stand; a file in its own directory is its own."""
    await child.ask("memory_store", request("a"))
    [pid] = child.pids
    status = Path(f"/proc/{pid}/status").read_text()
    assert "Seccomp:\t2" in status
    assert "NoNewPrivs:\t1" in status
