"""Persons at the control socket: by name and role; an agent is none, whatever its uid."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest
from fake_operations import FakeOperations

from epad.api import unix
from epad.api.server import ControlApi
from epad.gate.permissions import Tier
from epad.gate.persons import Person, Role
from epad.operations.registry import Operation

REASON = {"reason": "it loops"}


class Desk:
    """The API with a configuration of persons that the test changes, and a table of whose process is whose."""

    def __init__(self, path: Path) -> None:
        self.operations = FakeOperations()
        self.persons: tuple[Person, ...] = ()
        self.owners: dict[int, str] = {}
        self.path = path
        self.api = ControlApi(self.operations, path, persons=lambda: self.persons, owner_of=self.owners.get)

    async def ask(self, method: str, path: str) -> tuple[int, str]:
        async with (
            aiohttp.ClientSession(connector=aiohttp.UnixConnector(str(self.path))) as session,
            session.request(
                method, f"http://epad{path}", json=REASON if method == "POST" else None
            ) as response,
        ):
            return response.status, await response.text()

    def me(self, role: Role) -> None:
        """Make a person of this user."""
        self.persons = (Person("boss", Role.OWNER, 4_000_000), Person("ada", role, os.getuid()))


@pytest.fixture
async def desk(directory: Path) -> AsyncIterator[Desk]:
    one = Desk(directory / "c.sock")
    await one.api.start()
    yield one
    await one.api.stop()


@pytest.mark.parametrize(
    ("role", "order", "tier", "status"),
    [
        (Role.OWNER, "/v1/reload", Tier.OWNER, 200),
        (Role.OPERATOR, "/v1/subsystems/chat/quarantine", Tier.OPERATOR, 200),
        (Role.OPERATOR, "/v1/reload", Tier.OPERATOR, 403),
        (Role.OBSERVER, "/v1/subsystems/chat/quarantine", Tier.OBSERVER, 403),
    ],
)
async def test_a_person_gives_the_orders_of_the_role(
    desk: Desk, role: Role, order: str, tier: Tier, status: int
) -> None:
    """Recorded by name; a refusal names the person, the role, and what is needed."""
    desk.me(role)
    answer, text = await desk.ask("POST", order)
    assert answer == status
    assert desk.operations.audits[0][1] is tier
    if status == 200:
        assert desk.operations.orders[0][3] == "ada"
    else:
        assert f"ada ({role})" in text
        assert "[persons.ada]" in text
        assert desk.operations.orders == []
    assert (await desk.ask("GET", "/v1/status"))[0] == 200


async def test_nobody_of_the_table_gives_no_order(desk: Desk) -> None:
    """Also the daemon's own user, whom these tests run as; a reload that names the user changes that at once."""
    desk.persons = (Person("boss", Role.OWNER, 4_000_000),)
    status, text = await desk.ask("POST", "/v1/lifeboat")
    assert (status, f"uid = {os.getuid()}" in text) == (403, True)
    desk.me(Role.OPERATOR)
    assert (await desk.ask("POST", "/v1/lifeboat"))[0] == 200


@pytest.mark.parametrize("role", [None, Role.OWNER])
async def test_an_agent_is_no_person(desk: Desk, role: Role | None) -> None:
    """Its uid may be an owner's: it gives no order and sees nothing, and the record has its own name."""
    if role is not None:
        desk.me(role)
    desk.owners[os.getpid()] = "chat"
    for method, path in (("POST", "/v1/subsystems/wargame/quarantine"), ("GET", "/v1/status")):
        status, text = await desk.ask(method, path)
        assert (status, "supervised subsystem's and no person's" in text) == (403, True)
    assert [(tier, allowed) for _, tier, allowed, _ in desk.operations.audits] == [(Tier.STRANGER, False)] * 2
    desk.owners.clear()
    assert (await desk.ask("POST", "/v1/subsystems/wargame/quarantine"))[0] == 200


_CONNECT = """
import socket, sys
one = socket.socket(socket.AF_UNIX); one.connect(sys.argv[1])
socket.send_fds(socket.socket(fileno=int(sys.argv[2])), [b"x"], [one.fileno()])
"""


def connected_by_a_child(path: Path) -> socket.socket:
    """A connection that another process has made, handed over and outlived by it."""
    ours, theirs = socket.socketpair()
    words = (sys.executable, "-c", _CONNECT, str(path), str(theirs.fileno()))
    subprocess.run(words, pass_fds=[theirs.fileno()], check=True)
    _, (descriptor, *_), _, _ = socket.recv_fds(ours, 1, 1)
    ours.close()
    theirs.close()
    return socket.socket(fileno=descriptor)


async def test_a_process_that_has_ended_is_nobody(desk: Desk) -> None:
    """An agent's child connects, hands the connection on and ends: whose it was cannot be told any more."""
    connection = connected_by_a_child(desk.path)
    connection.setblocking(False)
    session = aiohttp.ClientSession(connector=_Made(connection))
    async with session, session.post("http://epad/v1/lifeboat", json=REASON) as response:
        assert (response.status, "which connected and has ended" in await response.text()) == (403, True)
    assert desk.operations.orders == []
    assert desk.operations.audits[0][:3] == (Operation.LIFEBOAT, Tier.STRANGER, False)


class _Made(aiohttp.UnixConnector):
    """Gives out one connection that stands."""

    def __init__(self, connection: socket.socket) -> None:
        super().__init__("unused")
        self._made = connection

    async def _create_connection(self, req, traces, timeout):
        _, protocol = await self._loop.create_unix_connection(self._factory, sock=self._made)
        return protocol


def test_a_living_peer_has_not_ended(directory: Path) -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        assert unix.has_ended(ours) is False
