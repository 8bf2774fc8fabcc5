"""Persons on the status page: behind an authenticating reverse proxy, and with the token."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest
from control_door import directory
from fake_operations import FakeOperations

from epad.configuration.persons_schema import ProxyConfig
from epad.configuration.schema import WebConfig
from epad.gate.persons import Person, Role
from epad.web.alerts import AlertDoor
from epad.web.callers import TOKEN_HEADER
from epad.web.reports import Reports
from epad.web.server import WebPage

__all__ = ["directory"]

ISSUER = "https://issuer.example"
BOB = Person("bob", Role.OPERATOR, oidc=f"17@{ISSUER}", spiffe="spiffe://home/bob")
EVE = Person("eve", Role.OBSERVER, oidc=f"18@{ISSUER}")
HOST = "epad.example"


class Served:
    """A page with a socket for a proxy."""

    def __init__(self, directory: Path) -> None:
        self.operations = FakeOperations()
        self.persons: tuple[Person, ...] = (BOB, EVE)
        self.place = (directory / "page.sock", directory / "proxy-token")
        self.token_file = directory / "web-token"
        proxy = ProxyConfig("X-Auth-Request-User", ISSUER, "X-Spiffe-Id")
        config = WebConfig("127.0.0.1:0", True, False, (HOST,), proxy)
        door, reports = AlertDoor(directory / "alerts-token", len), Reports(lambda name: directory / name)
        self.page = WebPage(
            config, self.operations, reports, self.token_file, door, lambda: self.persons, self.place
        )
        self.url = ""

    async def ask(
        self, method: str, path: str, headers: list[tuple[str, str]] | None = None, **form: str
    ) -> tuple[int, str]:
        """Ask as the proxy does, with its token unless the headers bring another."""
        sent = headers if headers is not None else [("X-Auth-Request-User", "17")]
        if not any(name == TOKEN_HEADER for name, _ in sent):
            sent = [*sent, (TOKEN_HEADER, self.place[1].read_text().strip())]
        sent = [*sent, ("Host", HOST), ("Origin", f"https://{HOST}")]
        async with (
            aiohttp.ClientSession(connector=aiohttp.UnixConnector(str(self.place[0]))) as session,
            session.request(method, f"http://{HOST}{path}", headers=sent, data=form or None) as response,
        ):
            return response.status, await response.text()


@pytest.fixture
async def served(directory: Path) -> AsyncIterator[Served]:
    one = Served(directory)
    one.url = await one.page.start()
    yield one
    await one.page.stop()


ORDER = {"order": "quarantine", "reason": "it loops"}


async def test_an_order_is_recorded_by_the_name_of_who_has_signed_in(served: Served) -> None:
    """By either claim; no token is typed, and the page asks for none."""
    for headers in ([("X-Auth-Request-User", "17")], [("X-Spiffe-Id", "spiffe://home/bob")]):
        status, _ = await served.ask("POST", "/subsystems/chat/orders", headers, **ORDER)
        assert (status, served.operations.orders[-1][3]) == (200, "bob")
    _, page = await served.ask("GET", "/subsystems/chat")
    assert "your sign-in" in page
    assert 'name="token"' not in page


@pytest.mark.parametrize(
    ("headers", "words"),
    [
        ([("X-Auth-Request-User", "19")], "19@https://issuer.example is no person"),
        ([], "the proxy named no one"),
        ([("X-Auth-Request-User", "17"), ("X-Auth-Request-User", "18")], "came 2 times"),
        ([("X-Auth-Request-User", "17"), (TOKEN_HEADER, "guessed")], TOKEN_HEADER),
        ([("X-Auth-Request-User", "17"), (TOKEN_HEADER, "")], TOKEN_HEADER),
    ],
)
async def test_nobody_else_sees_or_orders_anything(
    served: Served, headers: list[tuple[str, str]], words: str
) -> None:
    """A stranger of the issuer, a client that reaches the socket without the proxy, one that smuggles a header."""
    for method, path in (("GET", "/"), ("POST", "/subsystems/chat/orders")):
        form = ORDER if method == "POST" else {}
        status, text = await served.ask(method, path, headers, **form)
        assert (status, words in text) == (403, True)
    assert served.operations.orders == []


async def test_an_observer_looks_and_is_refused_by_name(served: Served) -> None:
    headers = [("X-Auth-Request-User", "18")]
    assert (await served.ask("GET", "/", headers))[0] == 200
    status, text = await served.ask("POST", "/subsystems/chat/orders", headers, **ORDER)
    assert (status, "eve (observer)" in text) == (403, True)


async def test_an_order_must_come_from_the_page_itself(served: Served) -> None:
    """A sign-in is sent by the browser for any site's form, so the origin counts."""
    headers = [("X-Auth-Request-User", "17"), ("Sec-Fetch-Site", "cross-site")]
    assert (await served.ask("POST", "/subsystems/chat/orders", headers, **ORDER))[0] == 403


async def by_token(served: Served) -> int:
    token, origin = served.token_file.read_text().strip(), served.url.rstrip("/")
    form = {**ORDER, "token": token}
    async with (
        aiohttp.ClientSession() as session,
        session.post(
            f"{served.url}subsystems/chat/orders", data=form, headers={"Origin": origin}
        ) as response,
    ):
        return response.status


async def test_the_token_is_the_persons_whose_uid_is_the_daemons(served: Served) -> None:
    """Nobody's, where there is none; and the page's own, where there are no persons."""
    assert await by_token(served) == 403
    served.persons = (BOB, Person("ada", Role.OWNER, os.geteuid()))
    assert await by_token(served) == 200
    served.persons = ()
    assert await by_token(served) == 200
    assert [order[3] for order in served.operations.orders] == ["ada", "the status page"]


async def test_headers_of_loopback_are_nobodys(served: Served) -> None:
    """Whoever sends the proxy's headers to the page's own address is not vouched for."""
    origin = served.url.rstrip("/")
    headers = {
        "Origin": origin,
        "X-Auth-Request-User": "17",
        TOKEN_HEADER: served.place[1].read_text().strip(),
    }
    async with (
        aiohttp.ClientSession() as session,
        session.post(f"{served.url}subsystems/chat/orders", data=ORDER, headers=headers) as response,
    ):
        assert response.status == 403
    assert served.operations.orders == []


async def test_the_proxys_token_is_for_its_user_alone_and_stays(served: Served) -> None:
    """The proxy was given it: a restart changes nothing."""
    assert served.place[1].stat().st_mode & 0o777 == 0o600
    before = served.place[1].read_text()
    await served.page.stop()
    assert not served.place[0].exists()
    served.url = await served.page.start()
    assert served.place[1].read_text() == before
