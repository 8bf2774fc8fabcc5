"""A reload of the whole daemon that fails on its way: what was opened for it is closed, what was there is there."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest
from virtual_daemon import BASE, VirtualDaemon, virtual_daemon
from virtual_time import VirtualTime

from epad.daemon.stores import Stores
from epad.gateway.client_keys import Keys
from epad.ledger.errors import LedgerError
from epad.operations.reload import ChangeRefusedError
from epad.supervisor.errors import SupervisorError
from statemachine.containment import Rung

FORMER = """
[subsystems.stays]
kind = "client"
listen = "unix:{door}"
[subsystems.goes]
kind = "client"
"""
CHANGED = """
[subsystems.stays]
kind = "client"
[subsystems.comes]
kind = "client"
listen = "unix:{door}"
[upstreams.new]
url = "http://127.0.0.1:1"
dialects = ["openai"]
"""


class Reloading:
    """A running daemon, and its file."""

    def __init__(self, daemon: VirtualDaemon, door: Path) -> None:
        self.daemon = daemon
        self.house = daemon.house
        self.door = door

    async def reload(self, text: str, **listens: str) -> list[str]:
        state = self.daemon.directories.state
        base = BASE.format(state=state, tick=1.0)
        for table, listen in listens.items():
            base = base.replace(f'[{table}]\nlisten = ""', f'[{table}]\nlisten = "{listen}"')
        (state.parent / "epad.toml").write_text(base + text.format(door=self.door))
        return await self.house.reloader.reload()

    async def asked(self) -> int:
        """Ask by the door, without a key: 404 says that somebody is known there, and that no model is."""
        async with (
            aiohttp.ClientSession(connector=aiohttp.UnixConnector(str(self.door))) as http,
            http.post("http://x/v1/chat/completions", json={"model": "m", "messages": []}) as answer,
        ):
            return answer.status


@pytest.fixture
async def reloading(virtual_time: VirtualTime, tmp_path: Path) -> AsyncIterator[Reloading]:
    door = tmp_path / "door"
    async with virtual_daemon(virtual_time, FORMER.format(door=door)) as daemon:
        yield Reloading(daemon, door)


async def test_what_fails_after_it_was_made_ready_is_given_up(
    reloading: Reloading, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The budgets' past cannot be read: doors, page, metrics, holds and what every decision goes by are as before."""
    house = reloading.house
    await reloading.reload(FORMER, web="127.0.0.1:0")
    before, [door] = house.config, house._core.gateway._server.listeners_of("stays")

    async def fails(*_: object) -> None:
        raise LedgerError("it cannot be read")

    with monkeypatch.context() as broken:
        broken.setattr(Stores, "change_budgets", fails)
        with pytest.raises(ChangeRefusedError, match="cannot be read"):
            await reloading.reload(CHANGED, metrics="127.0.0.1:0")
    assert house.config is house.daemon_status.config is before
    assert house._core.gateway._server.listeners_of("stays") == [door]
    assert house._core.gateway._server.listeners_of("comes") == []
    assert await reloading.asked() == 404
    assert house._core.foundation.access.held("goes").rung is Rung.OPEN
    assert house._core.gateway.upstreams() == []
    assert house.daemon_status.metrics_url == ""
    async with aiohttp.ClientSession() as http, http.get(house.daemon_status.web_url) as answer:
        assert answer.status == 200
    assert await reloading.reload(FORMER, web="127.0.0.1:0") == ["nothing has changed"]
    assert "removed: goes" in await reloading.reload(CHANGED)
    assert [each["name"] for each in house._core.gateway.upstreams()] == ["new"]
    assert house.daemon_status.web_url == ""


async def test_an_address_that_is_not_to_be_had_gives_up_what_was_opened_before_it(
    reloading: Reloading,
) -> None:
    """The metrics are opened last; the page is back, and where it is is known: its port is any that is free."""
    house = reloading.house
    await reloading.reload(FORMER, web="127.0.0.1:0")
    with pytest.raises(ChangeRefusedError, match=r"metrics\.listen"):
        await reloading.reload(CHANGED, web="", metrics="192.0.2.1:1")
    async with aiohttp.ClientSession() as http, http.get(house.daemon_status.web_url) as answer:
        assert answer.status == 200
    assert await reloading.asked() == 404
    assert house._core.gateway.upstreams() == []


async def test_a_key_that_cannot_be_written_ends_no_daemon(
    reloading: Reloading, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The change is in force and broken off; the next reload gives the client its key, or takes all of it back."""
    house = reloading.house

    async def full(_: Keys) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as broken:
        broken.setattr(Keys, "give_to_clients", full)
        with pytest.raises(SupervisorError, match="No space left"):
            await reloading.reload(CHANGED)
    assert [each["name"] for each in house._core.gateway.upstreams()] == ["new"]
    await reloading.reload(FORMER)
    assert house._core.gateway.upstreams() == []
    assert await reloading.asked() == 404
    assert house._core.foundation.access.held("goes").rung is Rung.OPEN
    assert sorted(house.config.subsystems) == ["goes", "stays"]
