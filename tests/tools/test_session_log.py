"""Sessions begin and end on the ledger: with their process, with the daemon, and across its restart."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest
import structlog
from ledger_world import open_ledger

from epad.gate.tiers import Tier
from epad.gate.tool_risk import ToolRisk
from epad.gate.tool_table import Taint
from epad.ledger.entry import OpenTool
from epad.ledger.record import Session as Recorded
from epad.ledger.record import decode, encode
from epad.ledger.session_trace import KnownSession, sessions_of, spawned_by
from epad.ledger.store import Ledger
from epad.tools.session_log import Lineage, SessionLog
from epad.tools.sessions import Sessions
from probes.subsystems import SubsystemExited

HASH = bytes(32)


class Run:
    """One run of the daemon: the process of the subsystem `chat`, its sessions, and their log."""

    def __init__(self, ledger: Ledger, process: str, tier: Tier = Tier.AUTHOR) -> None:
        self.ledger, self.process = ledger, process
        self.sessions = Sessions(lambda _: self.process, lambda _: tier, f"run {ledger.epoch}")
        self.log = SessionLog(ledger, structlog.get_logger())

    def begin(self) -> str:
        session = self.sessions.of("chat")
        self.log.begin(session)
        return session.name

    async def adopt(self) -> None:
        await self.log.adopt(self.sessions, self.ledger, lambda name: name == "chat")

    async def known(self) -> list[KnownSession]:
        """The sessions as the ledger has them, once all is written."""
        await self.call(ToolRisk.PURE, "f" * 32)
        return await self.ledger.read(lambda db: sessions_of(db, "chat"))

    async def call(self, risk: ToolRisk, session: str, taint: int = 0) -> None:
        turn = f"{id(object()) + asyncio.get_running_loop().time() * 1e6:032.0f}"[:32]
        await self.ledger.open_tool(OpenTool(turn, "chat", "t", session, 2, risk, taint, "row", HASH, HASH))


@pytest.fixture
async def ledger(tmp_path: Path) -> AsyncIterator[Ledger]:
    opened = await open_ledger(tmp_path / "ledger.db")
    yield opened
    await opened.close()


def exited(*, wanted: bool, reason: str = "", status: str = "exit status 1") -> SubsystemExited:
    return SubsystemExited("chat", 0.0, status, wanted, will_restart=False, reason=reason)


def end_of(known: KnownSession) -> tuple[str, str]:
    assert isinstance(known.ended, Recorded)
    return known.ended.by, known.ended.reason


@pytest.mark.parametrize(
    ("event", "end"),
    [
        (exited(wanted=False), ("itself", "exit status 1")),
        (
            exited(wanted=True, reason="held by uid 7: a look"),
            ("epad", "exit status 1: held by uid 7: a look"),
        ),
    ],
    ids=["by itself", "by an order"],
)
async def test_a_session_ends_with_its_process(
    ledger: Ledger, event: SubsystemExited, end: tuple[str, str]
) -> None:
    """Once, with who ended it and why; the next process begins another one."""
    run = Run(ledger, "boot/1")
    name = run.begin()
    run.begin()
    run.log.exited(event)
    run.log.exited(event)
    run.process = "boot/2"
    other = run.begin()
    first, second = await run.known()
    assert (first.began.session, second.began.session) == (name, other)
    assert end_of(first) == end
    assert second.ended is None


async def test_an_end_that_was_missed_is_recorded_at_the_next_beginning(ledger: Ledger) -> None:
    """A unit's process may be started anew by systemd, between two looks."""
    run = Run(ledger, "boot/1")
    run.begin()
    run.process = "boot/2"
    run.begin()
    assert end_of((await run.known())[0]) == ("epad", "its process was started anew")


async def test_a_clients_session_ends_with_the_daemon(ledger: Ledger) -> None:
    """One of a process goes on: the next daemon may adopt it."""
    client = Run(ledger, "")
    client.begin()
    client.log.close()
    assert end_of((await client.known())[0]) == ("epad", "the daemon has stopped")
    process = Run(ledger, "boot/1")
    process.begin()
    process.log.close()
    assert (await process.known())[-1].ended is None


async def test_an_adopted_session_goes_on_with_its_tier_and_its_labels(ledger: Ledger) -> None:
    """Whatever the configuration says by now; it is not recorded again, and ends with its process."""
    first = Run(ledger, "boot/1")
    name = first.begin()
    await first.call(ToolRisk.READS_HOST, name)
    await first.call(ToolRisk.READS_NETWORK, name, int(Taint.PRIVATE))

    second = Run(ledger, "boot/1", Tier.OPERATOR)
    await second.adopt()
    session = second.sessions.of("chat")
    assert (session.name, session.tier) == (name, Tier.AUTHOR)
    assert session.taint == Taint.PRIVATE | Taint.UNTRUSTED
    assert second.begin() == name
    second.log.exited(exited(wanted=False))
    [known] = await second.known()
    assert end_of(known) == ("itself", "exit status 1")


async def test_a_session_that_ended_without_the_daemon_is_recorded_by_the_next(ledger: Ledger) -> None:
    """Its process is another one, or its subsystem has gone from the configuration; once."""
    first = Run(ledger, "boot/1")
    first.begin()
    await first.known()
    second = Run(ledger, "boot/2")
    await second.adopt()
    [known] = await second.known()
    assert end_of(known) == ("epad", "it ended while epad did not run")
    await second.adopt()
    assert len([1 for one in await second.known() if one.ended]) == 1


async def test_a_spawned_session_and_its_parents_name_each_other(ledger: Ledger) -> None:
    """Before its process is there, and once; the parent's record of it is neither a beginning nor an end."""
    run = Run(ledger, "boot/1")
    parent = run.sessions.of("chat")
    child = run.sessions.begin_agent("coder-1", Tier.READER)
    lineage = Lineage(
        by=f"session {parent.name}", parent=parent.name, reason="why", command_sha256=HASH, template="coder"
    )
    await run.log.spawned(parent, child, lineage)
    run.log.begin(child)
    run.log.ended("coder-1", "epad", "its parent has ended")
    run.log.ended("coder-1", "epad", "again")
    [of_parent] = await run.known()
    assert (of_parent.began.session, of_parent.began.by, of_parent.ended) == (
        parent.name,
        "configuration",
        None,
    )
    [of_child] = await ledger.read(lambda db: sessions_of(db, "coder-1"))
    assert (of_child.began.parent, of_child.began.reason) == (parent.name, "why")
    assert (of_child.began.template, of_child.began.tier) == ("coder", Tier.READER)
    assert end_of(of_child) == ("epad", "its parent has ended")
    [asked] = await ledger.read(lambda db: spawned_by(db, parent.name))
    assert (asked.child, asked.template, asked.reason) == (child.name, "coder", "why")
    assert run.sessions.of("coder-1").name != child.name  # it has no process any more, as the sessions see it


async def test_records_of_before_there_were_children_are_read(ledger: Ledger) -> None:
    """Their bytes end earlier."""
    run = Run(ledger, "boot/1")
    run.begin()
    [known] = await run.known()
    short = msgspec.msgpack.decode(encode(known.began))[:-2]
    assert decode(1, msgspec.msgpack.encode(short)) == known.began
