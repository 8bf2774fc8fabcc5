"""The questions of subsystems on the page: shown as text, answered by the token alone; in a real browser too."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from fake_operations import FakeOperations, approval, asked, consent, question, status, tool_question

from epad.answers.confinement import Approvals
from epad.configuration.schema import WebConfig
from epad.gate.permissions import Tier
from epad.operations.bodies import ApprovalOrder, OrderBody, RevocationOrder
from epad.operations.registry import Operation
from epad.web.alerts import AlertDoor
from epad.web.approvals import MOST_PAST, approvals_form, questions_panel
from epad.web.page import Questions, approvals_page
from epad.web.reports import Reports
from epad.web.server import WebPage

EVIL = "<script>alert(1)</script>"
CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-sync",
]
TOKEN_FILE = "/run/epad/web-token"


def given() -> Approvals:
    """A question that waits, one that nobody answered in time, one that was denied; two approvals."""
    return {
        "questions": [
            question(7, sent_bytes=2_048),
            question(8, host="late.example", state="unanswered", left_seconds=None, tries=3),
            question(9, host="no.example", state="denied", left_seconds=60.0),
        ],
        "standing": [approval("always.example"), approval("hour.example", left_seconds=60.0, number=3)],
        "always": {"chat": ["always.example:443"]},
        "tool_questions": [],
        "tool_standing": [],
    }


def test_a_question_is_shown_with_all_that_an_answer_needs() -> None:
    """Who asks for what by which program, what has passed so far, and what the policy would gain."""
    panel = str(questions_panel(given()))
    for text in (
        "chat",
        "files.example:443",
        "python3 agent.py",
        "25s more",
        "2.0 KiB sent, 0 B received",
        "chat: + connect files.example:443; at once",
        "2 approvals hold.",
        'href="/approvals"',
    ):
        assert text in panel
    assert "late.example" not in panel
    assert "<button" not in panel


def test_where_nobody_asks_and_nothing_is_approved_the_first_page_shows_nothing() -> None:
    assert questions_panel(asked()) is None


def test_what_can_be_answered_has_buttons() -> None:
    """What nobody answered in time too; what was answered has none, and an approval can be taken back."""
    page = str(approvals_form(given(), TOKEN_FILE))
    for value in ("once 7", "hour 7", "always 7", "deny 7"):
        assert f'value="{value} chat files.example:443"' in page
    assert 'value="hour 8 chat late.example:443"' in page
    assert "no.example" not in page
    for host in ("always.example", "hour.example"):
        assert f'value="revoke 0 chat {host}:443"' in page


def test_a_page_that_only_shows_has_no_button() -> None:
    """It names the command."""
    page = approvals_page(Questions(status(), given())).decode()
    assert "files.example:443" in page
    assert "<button" not in page
    assert "<form" not in page
    assert "epactl approve" in page


def test_what_a_program_is_called_is_text() -> None:
    """An agent chooses it, and the host."""
    evil = question(7, program=EVIL, host=f'"{EVIL}', widens=[EVIL])
    page = str(approvals_form(asked(evil), TOKEN_FILE))
    assert EVIL not in page
    assert "&lt;script&gt;" in page


def test_a_call_is_shown_with_its_arguments_as_text_and_has_its_buttons() -> None:
    """On the first page without them; a consent that holds can be taken back."""
    call = tool_question(11, arguments=EVIL, asks=f"file_delete on {EVIL}")
    given = asked(tools=[call], consents=[consent(10)])
    panel, form = str(questions_panel(given)), str(approvals_form(given, TOKEN_FILE))
    for shown in (panel, form):
        assert EVIL not in shown
        assert "&lt;script&gt;" in shown
        assert "file_delete in /work" in shown
    assert "<button" not in panel
    for verb in ("once", "ten-minutes", "deny"):
        assert f'value="{verb} 11 chat {call["mark"]}"' in form
    assert 'value="revoke 0 chat 10"' in form
    assert "always 11" not in form
    assert "<button" not in str(approvals_form(given, ""))


def test_old_questions_do_not_bury_the_new() -> None:
    """Those that wait come first, all of them; of those that nobody answered the newest."""
    late = [question(n, host=f"h{n}.example", state="unanswered", left_seconds=None) for n in range(1, 101)]
    page = str(approvals_form(asked(*late, question(200)), TOKEN_FILE))
    assert page.count("Approve once") == 2 * (1 + MOST_PAST)  # each has a label too
    assert page.index("files.example") < page.index("h100.example")
    assert "h80.example" not in page


class Site:
    """A page with questions, served."""

    def __init__(self, directory: Path) -> None:
        self.operations = FakeOperations()
        self.operations.host_approvals = given()
        self._token_file = directory / "web-token"
        door = AlertDoor(directory / "alerts-token", len)
        reports = Reports(lambda name: directory / name)
        config = WebConfig("127.0.0.1:0", True, False, ())
        self.page = WebPage(config, self.operations, reports, self._token_file, door)
        self.url = ""

    @property
    def token(self) -> str:
        return self._token_file.read_text().strip()


@pytest.fixture
async def site(tmp_path: Path) -> AsyncIterator[Site]:
    one = Site(tmp_path)
    one.url = await one.page.start()
    yield one
    await one.page.stop()


async def post(
    site: Site, answer: str, headers: dict[str, str] | None = None, **fields: str
) -> tuple[int, str]:
    form = {"answer": answer, "token": site.token, "reason": "needed", **fields}
    headers = {"Origin": site.url.rstrip("/")} if headers is None else headers
    async with (
        aiohttp.ClientSession() as session,
        session.post(f"{site.url}approvals", data=form, headers=headers) as got,
    ):
        return got.status, await got.text()


@pytest.mark.parametrize(
    ("answer", "order", "body"),
    [
        ("once 7 chat files.example:443", ("approve", "7"), ApprovalOrder("needed", 0.0)),
        ("hour 8 chat late.example:443", ("approve", "8"), ApprovalOrder("needed", 3_600.0)),
        ("always 7 chat files.example:443", ("approve", "7"), ApprovalOrder("needed", None)),
        ("deny 7 chat files.example:443", ("deny", "7"), OrderBody("needed")),
        (
            "revoke 0 chat always.example:443",
            ("revoke_host", "always.example:443"),
            RevocationOrder("needed", "chat"),
        ),
    ],
)
async def test_an_answer_with_the_token_is_an_order(
    site: Site, answer: str, order: tuple[str, str], body: OrderBody
) -> None:
    """It passes the gate as everyone's, and is on record as the page's."""
    status_code, text = await post(site, answer)
    assert status_code == 200
    assert f"{order[0]} done" in text
    assert site.operations.orders == [(*order, "needed", "the status page")]
    assert site.operations.bodies == [body]
    [(operation, tier, allowed, _)] = site.operations.audits
    assert (operation, tier, allowed) == (Operation(order[0]), Tier.OPERATOR, True)


ONCE_7 = "once 7 chat files.example:443"


@pytest.mark.parametrize(
    ("answer", "headers", "fields", "status_code"),
    [
        (ONCE_7, None, {"token": "wrong"}, 403),
        (ONCE_7, None, {"token": ""}, 403),
        (ONCE_7, {"Origin": "https://evil.example"}, {}, 403),
        (ONCE_7, {"Sec-Fetch-Site": "cross-site"}, {}, 403),
        (ONCE_7, {}, {}, 403),
        ("always 7 chat files.example:443", None, {"reason": " "}, 400),
        ("lifeboat 7 chat files.example:443", None, {}, 400),
        ("once 7 chat other.example:443", None, {}, 409),
        ("once 70 chat files.example:443", None, {}, 409),
    ],
)
async def test_an_answer_that_is_refused(
    site: Site, answer: str, headers: dict[str, str] | None, fields: dict[str, str], status_code: int
) -> None:
    """No token, another site, no reason for ever, a question that is another by now: nothing is done."""
    assert (await post(site, answer, headers, **fields))[0] == status_code
    assert site.operations.orders == site.operations.audits == []


async def test_a_page_without_orders_takes_no_answer(site: Site) -> None:
    """There is no token to be right with."""
    site.url = await site.page.move(WebConfig("127.0.0.1:0", False, False, ()))
    assert (await post(site, ONCE_7, token=""))[0] == 403
    assert site.operations.orders == []


async def browse(site: Site, work: Any) -> None:
    """Do something on the page in a real browser, which looks at it over its server."""
    playwright = pytest.importorskip("playwright.async_api", reason="playwright is not installed")
    if CHROMIUM is None:
        pytest.skip("no chromium here: apt-get install chromium")
    async with playwright.async_playwright() as api:
        browser = await api.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        try:
            await work(await browser.new_page())
        finally:
            await browser.close()


async def test_a_person_answers_in_a_browser(site: Site) -> None:
    """From the first page to the button, by its own name; Enter in a field answers nothing."""

    async def work(page: Any) -> None:
        await page.goto(site.url)
        await page.get_by_role("link", name="Answer them").click()
        await page.get_by_label("Token").fill(site.token)
        await page.get_by_label("Token").press("Enter")
        await page.get_by_label("Reason").press("Enter")
        await page.get_by_role("button", name="Approve for 1 h: chat to files.example:443").click()
        await page.get_by_role("status").filter(has_text="approve done").wait_for()
        # The token is asked for again each time, and the form is not sent without it.
        await page.get_by_role("button", name="Revoke: chat to always.example:443").click()
        assert await page.evaluate("document.querySelector('[name=token]').matches(':invalid')")

    await browse(site, work)
    assert [order[:2] for order in site.operations.orders] == [("approve", "7")]


async def test_the_questions_have_no_serious_fault(site: Site) -> None:
    """axe-core, at a desk and on a phone, by day and by night; and what a new question changes is followed."""
    axe = pytest.importorskip("axe_playwright_python.async_playwright").Axe()

    async def work(page: Any) -> None:
        for path, size in (("", 1280), ("approvals", 1280), ("", 390), ("approvals", 390)):
            await page.set_viewport_size({"width": size, "height": 900})
            await page.goto(site.url + path)
            for scheme in ("light", "dark"):
                await page.emulate_media(color_scheme=scheme)
                found = (await axe.run(page)).response["violations"]
                assert [one["id"] for one in found if one["impact"] in {"serious", "critical"}] == []
        await page.goto(site.url)
        await asyncio.wait_for(site.operations.subscribed.wait(), 30)
        site.operations.host_approvals = {**given(), "questions": [question(10, host="new.example")]}
        site.operations.happen("egress.asked", "chat")
        await page.get_by_text("new.example:443", exact=True).wait_for()

    await browse(site, work)
