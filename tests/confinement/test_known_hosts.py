"""Hosts that were reached, and approvals for ever, over a restart."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from patience import until

from epad.confinement.host_questions import HostSubject
from epad.confinement.known_hosts import KNOWN_HOST_SCHEMA, MOST_KNOWN, KnownHosts
from epad.storage.database import Database, fetch
from statemachine.clock import ManualClock

SUBJECT = HostSubject("agent", "a.example", 443)


@pytest.fixture
async def database(tmp_path: Path) -> AsyncIterator[Database]:
    database = Database(tmp_path / "state.db", KNOWN_HOST_SCHEMA)
    await database.open()
    yield database
    await database.close()


async def rows(database: Database) -> int:
    return int((await database.read(lambda one: fetch(one, "SELECT count(*) FROM known_host")))[0][0])


async def test_a_host_is_first_once(database: Database) -> None:
    """For each subsystem and port by itself, and for the next daemon too."""
    hosts = KnownHosts(database, ManualClock())
    await hosts.load()
    assert hosts.is_first(SUBJECT)
    assert not hosts.is_first(SUBJECT)
    assert hosts.is_first(HostSubject("other", "a.example", 443))
    assert hosts.is_first(HostSubject("agent", "a.example", 8443))
    written = 0
    while written < 3:
        written = await rows(database)
    later = KnownHosts(database, ManualClock())
    await later.load()
    assert not later.is_first(SUBJECT)
    assert later.is_first(HostSubject("agent", "b.example", 443))
    await later.close()


async def test_what_a_wildcard_lets_it_reach_is_bounded(database: Database) -> None:
    hosts = KnownHosts(database, ManualClock())
    hosts._known["agent"] = {(f"h{number}.example", 443) for number in range(MOST_KNOWN)}
    assert not hosts.is_first(SUBJECT)
    assert await rows(database) == 0


async def test_an_approval_for_ever_is_kept(database: Database) -> None:
    hosts = KnownHosts(database, ManualClock())
    assert await hosts.approved() == []
    for _ in range(2):
        await hosts.approve(SUBJECT, "needed")
    assert await hosts.approved() == [SUBJECT]


async def test_an_approval_that_is_taken_back_is_kept_no_longer(database: Database) -> None:
    """The other one is, and the host stays one that was reached."""
    hosts, other = KnownHosts(database, ManualClock()), HostSubject("agent", "a.example", 8443)
    assert hosts.is_first(SUBJECT)
    for subject in (SUBJECT, other):
        await hosts.approve(subject, "needed")
    await hosts.revoke(SUBJECT)
    assert await hosts.approved() == [other]
    assert not hosts.is_first(SUBJECT)


async def test_a_disk_that_takes_nothing_costs_a_second_telling(tmp_path: Path) -> None:
    """And nothing else."""
    database = Database(tmp_path / "state.db", "")
    await database.open()
    hosts = KnownHosts(database, ManualClock())
    assert hosts.is_first(SUBJECT)
    await until(lambda: not hosts._writing._running)
    await database.close()
