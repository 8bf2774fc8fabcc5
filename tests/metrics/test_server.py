"""The HTTP surface for machines: read-only, from memory."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator

import aiohttp
import pytest
from fake_operations import status

from epad.answers.status import Status
from epad.metrics.registry import CONTENT_TYPE, Metrics
from epad.metrics.server import MetricsServer, SurfaceError


class Bench:
    def __init__(self) -> None:
        self.metrics = Metrics("test")
        self.refreshes = 0

    def refresh(self) -> Status:
        self.refreshes += 1
        self.metrics.ledger_entries.set(self.refreshes)
        return status(phase="QUARANTINE", uptime_seconds=7.5, state_directory="not for everyone")

    def server(self, listen: str = "127.0.0.1:0") -> MetricsServer:
        return MetricsServer(listen, self.metrics, self.refresh)


@pytest.fixture
def bench() -> Bench:
    return Bench()


@pytest.fixture
async def url(bench: Bench) -> AsyncIterator[str]:
    server = bench.server()
    yield await server.start()
    await server.stop()


async def test_a_scrape_finds_the_state_of_now(bench: Bench, url: str) -> None:
    """The series that follow state are brought up to date for each."""
    async with aiohttp.ClientSession() as session:
        for expected in (1, 2):
            async with session.get(url) as answer:
                assert answer.headers["Content-Type"] == CONTENT_TYPE
                assert f"epad_ledger_entries {expected}.0" in await answer.text()


async def test_health_says_phase_and_uptime_and_no_more(url: str) -> None:
    """Anyone on the machine may ask."""
    async with aiohttp.ClientSession() as session, session.get(url.replace("/metrics", "/healthz")) as answer:
        assert answer.status == 200
        assert await answer.json() == {"phase": "QUARANTINE", "uptime_seconds": 7.5}


async def test_nothing_can_be_changed_from_here(url: str) -> None:
    """Orders go through the control socket, where the kernel says who asks."""
    async with aiohttp.ClientSession() as session:
        for method in ("POST", "PUT", "DELETE"):
            async with session.request(method, url) as answer:
                assert answer.status == 405
        async with session.get(url.replace("/metrics", "/v1/status")) as answer:
            assert answer.status == 404


async def test_it_may_be_turned_off(bench: Bench) -> None:
    """No address, no port."""
    server = bench.server("")
    assert await server.start() == ""
    await server.stop()


async def test_a_port_that_is_taken_is_named_with_the_fix(bench: Bench) -> None:
    """And can be stopped all the same."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        server = bench.server(f"127.0.0.1:{taken.getsockname()[1]}")
        with pytest.raises(
            SurfaceError, match=r"metrics\.listen = '127\.0\.0\.1:\d+': .*choose another port"
        ):
            await server.start()
        await server.stop()


async def test_an_ipv6_address_is_written_in_brackets(bench: Bench) -> None:
    """As in the configuration, so in the URL."""
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        pytest.skip("this machine has no IPv6 loopback")
    server = bench.server("[::1]:0")
    url = await server.start()
    async with aiohttp.ClientSession() as session, session.get(url) as answer:
        assert answer.status == 200
    await server.stop()
    assert url.startswith("http://[::1]:")


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Host": "evil.example"}, 421),
        ({"Host": "evil.example:8701", "Origin": "http://evil.example"}, 421),
        ({"Origin": "http://evil.example"}, 403),
        ({"Sec-Fetch-Site": "cross-site"}, 403),
        ({"Host": "10.0.0.7:8701"}, 200),
        ({"Host": "gpu-box:8701"}, 200),
        ({"Host": "host.docker.internal"}, 200),
        ({"Host": "metrics.example.org"}, 200),
    ],
)
@pytest.mark.parametrize("path", ["/metrics", "/healthz", "/no"])
async def test_a_page_of_another_site_sees_nothing(
    bench: Bench, path: str, headers: dict[str, str], status: int
) -> None:
    """A scraper that asks by a public name has it configured."""
    server = MetricsServer("127.0.0.1:0", bench.metrics, bench.refresh, ["metrics.example.org"])
    url = (await server.start()).removesuffix("/metrics")
    try:
        async with aiohttp.ClientSession() as session, session.get(url + path, headers=headers) as answer:
            assert answer.status == (404 if status == 200 and path == "/no" else status)
        assert bench.refreshes == (1 if status == 200 and path != "/no" else 0)
    finally:
        await server.stop()


async def test_it_moves_and_comes_back_from_where_it_may_not_listen(bench: Bench) -> None:
    """A reload that asks for an address that is taken leaves it where it was; an empty one closes it."""
    first, second = (socket.create_server(("127.0.0.1", 0)) for _ in range(2))
    places = [f"127.0.0.1:{one.getsockname()[1]}" for one in (first, second)]
    first.close()
    server = bench.server(places[0])
    url = await server.start()
    with pytest.raises(SurfaceError, match=places[1]):
        await server.move(places[1], ())
    async with aiohttp.ClientSession() as session:
        async with session.get(url) as answer:
            assert answer.status == 200
        second.close()
        moved = await server.move(places[1], ["name.example"])
        async with session.get(moved, headers={"Host": "name.example"}) as answer:
            assert answer.status == 200
        with pytest.raises(aiohttp.ClientConnectionError):
            await session.get(url)
        assert await server.move("", ()) == ""
        with pytest.raises(aiohttp.ClientConnectionError):
            await session.get(moved)
