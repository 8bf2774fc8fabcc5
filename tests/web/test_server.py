"""The page over real HTTP: readable by loopback, changed by the token alone, told when something happens."""

from __future__ import annotations

import asyncio
import html
import os
import re
import socket
import stat
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import aiohttp
import pytest
from fake_operations import FakeOperations
from yarl import URL

from epad.answers.orders import Result
from epad.configuration.schema import WebConfig
from epad.operations.bodies import OrderBody
from epad.operations.protocol import ConflictError
from epad.operations.registry import Operation
from epad.web.alerts import AlertDoor
from epad.web.reports import Reports
from epad.web.server import WebPage, WebPageError
from probes.alerts import Alert


class Site:
    """A page that is served, and what stands behind it."""

    def __init__(self, directory: Path, *, orders: bool = True) -> None:
        self.operations = FakeOperations()
        self.token_file = directory / "web-token"
        config = WebConfig("127.0.0.1:0", orders, True, ())
        self.alerts: list[Alert] = []
        self.alerts_token_file = directory / "alerts-token"
        door = AlertDoor(self.alerts_token_file, self.take)
        reports = Reports(lambda name: directory / name)
        self.page = WebPage(config, self.operations, reports, self.token_file, door)
        self.url = ""

    def take(self, alerts: Sequence[Alert]) -> int:
        self.alerts += alerts
        return len(alerts)

    @property
    def origin(self) -> str:
        return self.url.rstrip("/")

    @property
    def token(self) -> str:
        return self.token_file.read_text().strip()


@pytest.fixture
async def site(tmp_path: Path) -> AsyncIterator[Site]:
    one = Site(tmp_path)
    one.url = await one.page.start()
    yield one
    await one.page.stop()


@pytest.fixture
async def session() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession() as one:
        yield one


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("", "<!doctype html>"),
        ("main", "QUARANTINE"),
        ("subsystems/chat", "chat"),
        ("style.css", ":root"),
        ("live.js", "EventSource"),
    ],
)
async def test_what_is_served(site: Site, session: aiohttp.ClientSession, path: str, text: str) -> None:
    """Each with the headers that let nothing of it run or call out."""
    async with session.get(site.url + path) as answer:
        assert answer.status == 200
        assert "default-src 'none'" in answer.headers["Content-Security-Policy"]
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
        assert text in await answer.text()


@pytest.mark.parametrize("path", ["subsystems/nobody", "nowhere", "subsystems/chat/reports/x.html"])
async def test_what_is_not_there(site: Site, session: aiohttp.ClientSession, path: str) -> None:
    """A page that says so."""
    async with session.get(site.url + path) as answer:
        assert answer.status == 404
        assert "everything" in await answer.text()


async def test_a_rebound_name_sees_nothing(site: Site, session: aiohttp.ClientSession) -> None:
    """The site of another name gets neither page nor state."""
    async with session.get(site.url, headers={"Host": "evil.example"}) as answer:
        assert answer.status == 421
        assert "QUARANTINE" not in await answer.text()


async def order(site: Site, session: aiohttp.ClientSession, **changes: str) -> tuple[int, str]:
    form = {"order": "quarantine", "reason": "looks odd", "token": site.token} | changes
    headers = {"Origin": form.pop("origin", site.origin)}
    async with session.post(site.url + "subsystems/chat/orders", data=form, headers=headers) as answer:
        return answer.status, await answer.text()


async def test_an_order_with_the_token(site: Site, session: aiohttp.ClientSession) -> None:
    """It is carried out, and goes through the gate like everyone's."""
    status, text = await order(site, session)
    assert status == 200
    assert "quarantine: " in text
    assert site.operations.orders == [("quarantine", "chat", "looks odd", "the status page")]
    assert len(site.operations.audits) == 1


@pytest.mark.parametrize(
    ("changes", "status"),
    [
        ({"token": "wrong"}, 403),
        ({"origin": "https://evil.example"}, 403),
        ({"order": "lifeboat"}, 400),
        ({"reason": "  "}, 400),
    ],
)
async def test_an_order_that_is_refused(
    site: Site, session: aiohttp.ClientSession, changes: dict[str, str], status: int
) -> None:
    """Another site, a wrong token, an order that the page does not give, no reason: nothing is done."""
    assert (await order(site, session, **changes))[0] == status
    assert site.operations.orders == []


async def test_a_conflict_is_told(site: Site, session: aiohttp.ClientSession) -> None:
    """What does not fit the phase is no fault of the page."""

    async def conflict(operation: Operation, name: str, body: OrderBody, by: str) -> Result:
        raise ConflictError("the daemon is in LIFEBOAT")

    site.operations.order = conflict  # type: ignore[method-assign]  # refuses every order
    assert (await order(site, session))[0] == 409


async def test_a_page_without_orders(tmp_path: Path, session: aiohttp.ClientSession) -> None:
    """There is no token to be right with."""
    one = Site(tmp_path, orders=False)
    one.url = await one.page.start()
    try:
        assert not one.token_file.exists()
        form, headers = {"order": "release", "reason": "x", "token": ""}, {"Origin": one.origin}
        async with session.post(one.url + "subsystems/chat/orders", data=form, headers=headers) as answer:
            assert answer.status == 403
    finally:
        await one.page.stop()


async def test_the_token_is_for_its_user_alone(site: Site) -> None:
    """Whoever can read it may order."""
    assert stat.S_IMODE(site.token_file.stat().st_mode) == 0o600


async def test_an_event_is_told_at_once(site: Site, session: aiohttp.ClientSession) -> None:
    """One word for however many events: the page then looks anew."""
    async with session.get(site.url + "live") as answer:
        assert answer.content_type == "text/event-stream"
        await site.operations.subscribed.wait()
        site.operations.happen("notice")
        site.operations.happen("notice")
        assert await answer.content.readuntil(b"\n\n") == b"data:\n\n"


async def test_a_report_may_do_nothing(site: Site, session: aiohttp.ClientSession, tmp_path: Path) -> None:
    """It is made from what models said, so it is shown in a sandbox."""
    (tmp_path / "chat").mkdir()
    (tmp_path / "chat/report.html").write_text("<p>50 rounds</p>")
    async with session.get(site.url + "subsystems/chat/reports/report.html") as answer:
        assert "50 rounds" in await answer.text()
        assert answer.headers["Content-Security-Policy"].startswith("sandbox;")


async def test_every_report_that_is_listed_can_be_followed(
    site: Site, session: aiohttp.ClientSession, tmp_path: Path
) -> None:
    """By the link as it stands in the page, whatever a runner calls its files."""
    names = ["a#b 100%.html", "100%41.html", "what?.html", "über/50 %20.html", 'a"b<c>&d.html']
    for name in names:
        (tmp_path / "chat" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "chat" / name).write_text(f"this is {name}")
    (tmp_path / "chat" / os.fsdecode(b"\xff.html")).write_text("listed, though its name is no text")
    async with session.get(site.url + "subsystems/chat") as answer:
        links = re.findall(r'href="(/subsystems/chat/reports/[^"]*)"', await answer.text())
    assert len(links) == len(names) + 1
    found = set()
    for link in links:
        async with session.get(URL(site.origin + html.unescape(link), encoded=True)) as answer:
            found.add(await answer.text() if answer.status == 200 else "")
    assert found >= {f"this is {name}" for name in names}


async def test_a_failure_is_a_page_too(site: Site, session: aiohttp.ClientSession) -> None:
    """Without a traceback for whoever looks."""
    site.operations.failure = RuntimeError("boom")
    async with session.get(site.url) as answer:
        assert answer.status == 500
        assert "boom" not in await answer.text()


async def test_the_page_moves_and_comes_back_from_where_it_may_not_listen(
    tmp_path: Path, session: aiohttp.ClientSession
) -> None:
    """A reload that asks for an address that is taken leaves it where it was; an empty one closes it."""
    operations, reports = FakeOperations(), Reports(lambda name: tmp_path / name)
    first, second = (socket.create_server(("127.0.0.1", 0)) for _ in range(2))
    places = [f"127.0.0.1:{one.getsockname()[1]}" for one in (first, second)]
    first.close()
    door = AlertDoor(tmp_path / "alerts-token", len)
    page = WebPage(WebConfig(places[0], False, False, ()), operations, reports, tmp_path / "token", door)
    url = await page.start()
    with pytest.raises(WebPageError, match=places[1]):
        await page.move(WebConfig(places[1], False, False, ("name.example",)))
    async with session.get(url, headers={"Host": "name.example"}) as answer:
        assert answer.status == 421
    second.close()
    moved = await page.move(WebConfig(places[1], False, False, ("name.example",)))
    async with session.get(moved, headers={"Host": "name.example"}) as answer:
        assert answer.status == 200
    assert await page.move(WebConfig("", False, False, ())) == ""
    for closed in (url, moved):
        with pytest.raises(aiohttp.ClientConnectionError):
            await session.get(closed)


async def test_what_a_reload_switches_off_is_off(site: Site, session: aiohttp.ClientSession) -> None:
    """Whoever has a token of before gives no order and reports no alert any more; switched on again, both do."""
    token, secret = site.token, site.alerts_token_file.read_text().strip()

    async def asked() -> tuple[int, int]:
        headers = {"Authorization": f"Bearer {secret}"}
        async with session.post(site.url + "alerts", json=NOTIFICATION, headers=headers) as answer:
            return (await order(site, session, token=token))[0], answer.status

    for config, statuses in (
        (WebConfig("127.0.0.1:0", True, True, ()), (200, 200)),
        (WebConfig("127.0.0.1:0", False, True, ()), (403, 200)),
        (WebConfig("127.0.0.1:0", True, False, ()), (200, 403)),
        (WebConfig("127.0.0.1:0", True, True, ()), (200, 200)),
    ):
        site.url = await site.page.move(config)
        token = site.token if config.orders else token
        assert await asked() == statuses
    assert len(site.operations.orders) == len(site.alerts) == 3


async def test_an_address_that_is_taken(tmp_path: Path) -> None:
    """The error names the key and the fix; an empty address is off."""
    operations, reports = FakeOperations(), Reports(lambda name: tmp_path / name)
    door = AlertDoor(tmp_path / "alerts-token", len)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        config = WebConfig(f"127.0.0.1:{taken.getsockname()[1]}", False, False, ())
        page = WebPage(config, operations, reports, tmp_path / "token", door)
        with pytest.raises(WebPageError, match=r"web\.listen = .*choose another port"):
            await page.start()
        await page.stop()
    off = WebConfig("", False, False, ())
    assert await WebPage(off, operations, reports, tmp_path / "token", door).start() == ""
    closed = WebConfig("127.0.0.1:0", True, False, ())
    page = WebPage(closed, operations, reports, tmp_path / "nowhere/token", door)
    with pytest.raises(WebPageError, match="make it writable"):
        await page.start()


NOTIFICATION = {
    "version": "4",
    "status": "firing",
    "receiver": "epad",
    "alerts": [
        {
            "status": "firing",
            "labels": {"alertname": "DiskSlow", "severity": "critical", "subsystem": "chat"},
            "annotations": {"summary": "the disk is slow"},
            "fingerprint": "c0ffee",
            "startsAt": "2026-01-01T00:00:00Z",
        }
    ],
}


@pytest.mark.parametrize(
    ("token", "body", "status"),
    [
        ("right", NOTIFICATION, 200),
        ("wrong", NOTIFICATION, 401),
        ("right", {"version": "3", "alerts": []}, 400),
        ("right", [], 400),
    ],
)
async def test_alertmanager_posts_with_its_token(
    site: Site, session: aiohttp.ClientSession, token: str, body: object, status: int
) -> None:
    """A notification of the right version from who has the token; 4xx, so that no other is sent again."""
    secret = site.alerts_token_file.read_text().strip() if token == "right" else token
    headers = {"Authorization": f"Bearer {secret}"}
    async with session.post(site.url + "alerts", json=body, headers=headers) as answer:
        assert answer.status == status
    assert [alert.name for alert in site.alerts] == (["DiskSlow"] if status == 200 else [])


async def test_a_token_that_is_no_text_is_wrong(site: Site, session: aiohttp.ClientSession) -> None:
    """Any bytes may come in a header or a form; each is compared, none breaks the page."""
    url = URL(site.url)
    reader, writer = await asyncio.open_connection(url.host, url.port)
    head = b"POST /alerts HTTP/1.0\r\nHost: localhost\r\nAuthorization: Bearer \xff\r\nContent-Length: 2\r\n\r\n{}"
    writer.write(head)
    assert (await reader.readline()).split()[1] == b"401"
    writer.close()
    form = b"order=release&reason=x&token=%FF"
    headers = {"Origin": site.origin, "Content-Type": "application/x-www-form-urlencoded"}
    async with session.post(site.url + "subsystems/chat/orders", data=form, headers=headers) as answer:
        assert answer.status == 403
    form = b'--b\r\nContent-Disposition: form-data; name="token"\r\n\r\n\xff\r\n--b--\r\n'
    headers["Content-Type"] = "multipart/form-data; boundary=b"
    async with session.post(site.url + "subsystems/chat/orders", data=form, headers=headers) as answer:
        assert answer.status == 400
