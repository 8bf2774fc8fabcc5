"""Hours of the real daemon in seconds: gateway, a model server over loopback, probes, decider, supervisor."""

from __future__ import annotations

import asyncio

import aiohttp
import pytest
from gateway_world import StubUpstream, serving
from virtual_daemon import virtual_daemon
from virtual_time import VirtualTime

from statemachine.containment import Rung
from statemachine.phase import Phase

HOUR = 3_600.0
TOML = """
[upstreams.stub]
url = "{url}"
dialects = ["openai"]
[subsystems.hourly]
kind = "client"
[subsystems.looping]
kind = "client"
[subsystems.worker]
command = ["lives", "1e9", "0"]
"""


async def _ask(http: aiohttp.ClientSession, url: str, headers: dict[str, str], text: str) -> int:
    body = {"model": "tiny", "max_tokens": 20, "messages": [{"role": "user", "content": text}]}
    async with http.post(f"{url}/v1/chat/completions", json=body, headers=headers) as response:
        await response.read()
        return response.status


@pytest.mark.parametrize("hours", [5, pytest.param(24, marks=pytest.mark.long)])
async def test_a_day_with_an_hourly_job_stays_normal(virtual_time: VirtualTime, hours: int) -> None:
    """The same prompt each hour is no loop; an hour is an hour on every clock, and nobody was held in it."""
    began = virtual_time.utc()
    async with (
        serving(StubUpstream()) as url,
        virtual_daemon(virtual_time, TOML.format(url=url), seldom=True) as daemon,
        aiohttp.ClientSession() as http,
    ):
        statuses = []
        for _ in range(hours):
            statuses.append(await _ask(http, daemon.url, daemon.headers("hourly"), "what is new?"))
            assert daemon.phase is Phase.NORMAL
            await asyncio.sleep(HOUR)
        assert statuses == [200] * hours
        assert daemon.house._stores.ledger.records >= 2 * hours
        assert daemon.engine.spawned == {"worker": 1}
        assert (virtual_time.utc() - began).total_seconds() >= hours * HOUR


async def test_a_loop_in_the_night_is_held_and_the_hourly_job_goes_on(virtual_time: VirtualTime) -> None:
    """The other way round, so that the day above is no proof of sleeping probes."""
    async with (
        serving(StubUpstream()) as url,
        virtual_daemon(virtual_time, TOML.format(url=url), seldom=True) as daemon,
        aiohttp.ClientSession() as http,
    ):
        await asyncio.sleep(3 * HOUR)
        for _ in range(60):
            await _ask(http, daemon.url, daemon.headers("looping"), "again")
            await asyncio.sleep(1)
        assert daemon.hold_of("looping").rung > Rung.OPEN
        assert await _ask(http, daemon.url, daemon.headers("hourly"), "what is new?") == 200


async def test_a_crash_loop_of_hours_is_a_matter_of_moments(virtual_time: VirtualTime) -> None:
    """A process that lives a minute and a half is started again all day long, by the real supervisor."""
    toml = '[subsystems.short]\ncommand = ["lives", "90", "1"]\n'
    async with virtual_daemon(virtual_time, toml, seldom=True) as daemon:
        await asyncio.sleep(6 * HOUR)
        assert daemon.engine.spawned["short"] > 5


LOOPING = '[subsystems.short]\ncommand = ["lives", "300", "1"]'


async def test_a_crash_loop_is_held_and_its_neighbour_is_not(virtual_time: VirtualTime) -> None:
    async with virtual_daemon(
        virtual_time, LOOPING + '\n[subsystems.calm]\ncommand = ["lives", "1e9", "0"]'
    ) as daemon:
        await asyncio.sleep(1_450.0)
        assert daemon.hold_of("short").rung is Rung.OPEN
        await asyncio.sleep(70.0)
        assert daemon.hold_of("short").rung is Rung.STOP
        assert daemon.hold_of("short").reason.startswith(
            "crashed 5 times in a row in 25 min, lives of about 300 s"
        )
        assert daemon.hold_of("calm").rung is Rung.OPEN


async def test_a_persons_restart_forgives_the_crashes_before_it(virtual_time: VirtualTime) -> None:
    """Whoever starts it anew has mended something: the fifth crash of all is the first of a row."""
    async with virtual_daemon(virtual_time, LOOPING) as daemon:
        await asyncio.sleep(1_250.0)
        await daemon.restart("short")
        await asyncio.sleep(310.0)
        assert daemon.engine.spawned["short"] == 7
        assert daemon.hold_of("short").rung is Rung.OPEN
