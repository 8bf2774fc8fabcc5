"""From what is wrong to what a person reads, against servers of every temper."""

from __future__ import annotations

import asyncio
import contextlib
import json
import stat
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from aiohttp import web
from patience import PATIENCE_SECONDS

from epad.notifying import outbox
from epad.notifying.channels import Address, Channel, Desktop, Ntfy, Webhook
from epad.notifying.incident import Asked, Gravity, View
from epad.notifying.notifier import Notifier
from epad.notifying.quiet import QuietHours
from statemachine.clock import ManualClock

CALM = View(Gravity.CALM, "NORMAL", "")
TROUBLE = View(
    Gravity.TROUBLE, "QUARANTINE", "chat is frozen: it asked https://u:pa55@h.example/x?key=s3cr3t", ("chat",)
)
CRITICAL = View(Gravity.CRITICAL, "LIFEBOAT", "everything is saved and stopped", ("host",))


class Server:
    """Takes messages; answers with the status that it is told to, as slowly as it is told to."""

    def __init__(self) -> None:
        self.statuses: list[int] = []
        self.status = 200
        self.seconds = 0.0
        self.headers: list[dict[str, str]] = []
        self.bodies: list[str] = []
        self.elsewhere = 0
        self.url = ""
        self.ended = asyncio.Event()

    async def take(self, request: web.Request) -> web.Response:
        body = await request.text()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self.ended.wait(), self.seconds)
        status = self.statuses.pop(0) if self.statuses else self.status
        if status == 200:
            self.headers.append(dict(request.headers))
            self.bodies.append(body)
        return web.Response(
            status=status, headers={"Location": f"{self.url}/elsewhere"} if status // 100 == 3 else {}
        )

    async def other(self, _: web.Request) -> web.Response:
        self.elsewhere += 1
        return web.Response()


@asynccontextmanager
async def serving() -> AsyncIterator[Server]:
    server = Server()
    app = web.Application()
    app.router.add_post("/topic", server.take)
    app.router.add_route("*", "/elsewhere", server.other)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    server.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    try:
        yield server
    finally:
        server.ended.set()  # whom it keeps waiting need not be waited for
        await runner.cleanup()


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    async with serving() as here:
        yield here


class Desk:
    """A notifier whose clock and whose look are ours."""

    def __init__(self, home: Path, *channels: Channel, quiet: str = "", timeout: float = 5.0) -> None:
        self.clock = ManualClock()
        self.view = CALM
        self.home = home
        self.notifier = Notifier(
            channels,
            lambda: self.view,
            self.clock,
            home / "notified.json",
            quiet=QuietHours.parse(quiet, UTC),
            calm_seconds=60.0,
            timeout_seconds=timeout,
        )

    def at(self, hour_utc: str) -> None:
        """Put the clock forward to an hour of the day."""
        now = self.clock.utc()
        then = datetime.combine(now.date(), datetime.strptime(hour_utc, "%H:%M").time(), UTC)  # noqa: DTZ007
        self.clock.advance(((then - now) % timedelta(days=1)).total_seconds())

    async def step(self, view: View | None = None, seconds: float = 1.0) -> None:
        """Look once, and let what is sent arrive."""
        self.view = view or self.view
        self.clock.advance(seconds)
        self.notifier.step()
        tasks = [box._sending for box in self.notifier._outboxes if box._sending is not None]
        await asyncio.gather(*tasks)
        self.notifier.step()
        await self.notifier._keep()

    async def over(self) -> None:
        """Be calm for long enough."""
        await self.step(CALM)
        await self.step(CALM, 61.0)


def webhook(server: Server, token: str = "") -> Webhook:
    return Webhook(Address(f"{server.url}/topic", token), "box")


def ntfy(server: Server, token: str = "") -> Ntfy:
    return Ntfy(Address(f"{server.url}/topic", token), "box")


def events(server: Server) -> list[str]:
    return [json.loads(body)["event"] for body in server.bodies]


async def test_a_webhook_is_told_of_the_beginning_and_the_end(server: Server, tmp_path: Path) -> None:
    """All that a program needs, and nothing that must not leave the machine."""
    desk = Desk(tmp_path, webhook(server, "t0ken"))
    await desk.step(TROUBLE)
    await desk.step()
    await desk.over()
    started, ended = (json.loads(body) for body in server.bodies)
    begun = started.pop("begun")
    assert started.pop("at") == begun
    assert started == {
        "event": "incident.started",
        "incident": started["incident"],
        "host": "box",
        "phase": "QUARANTINE",
        "severity": "trouble",
        "subsystems": ["chat"],
        "sentence": "chat is frozen: it asked https://h.example",
    }
    assert (ended["event"], ended["incident"]) == ("incident.ended", started["incident"])
    assert ended["sentence"].startswith("over after ")
    assert server.headers[0]["Authorization"] == "Bearer t0ken"
    assert not any(word in body for body in server.bodies for word in ("pa55", "s3cr3t", "t0ken", "/topic"))


async def test_ntfy_is_told_in_a_line_of_text(server: Server, tmp_path: Path) -> None:
    """How urgent it is stands in a header."""
    desk = Desk(tmp_path, ntfy(server))
    await desk.step(CRITICAL)
    await desk.over()
    assert [h["Priority"] for h in server.headers] == ["5", "3"]
    assert [h["Title"] for h in server.headers] == ["epad on box: trouble", "epad on box: over"]
    assert server.bodies[0] == CRITICAL.line
    assert "Authorization" not in server.headers[0]


async def test_flapping_is_two_messages(server: Server, tmp_path: Path) -> None:
    """However often."""
    desk = Desk(tmp_path, webhook(server))
    for _ in range(30):
        await desk.step(TROUBLE, 5.0)
        await desk.step(CALM, 5.0)
    await desk.over()
    assert events(server) == ["incident.started", "incident.ended"]


async def test_a_server_that_is_broken_is_tried_again_further_apart(server: Server, tmp_path: Path) -> None:
    """The message arrives once it is well, and once only."""
    desk = Desk(tmp_path, webhook(server))
    server.statuses = [500, 503, 429]
    tries = []
    await desk.step(TROUBLE)
    for _ in range(40):
        tries.append(len(server.statuses))
        await desk.step()
    assert events(server) == ["incident.started"]
    waits = [tries.count(left) for left in (2, 1, 0)]
    assert waits[0] < waits[1]
    assert desk.notifier.notices == []


async def test_nobody_there_is_said_and_tried_again(tmp_path: Path) -> None:
    """Without the address in it."""
    desk = Desk(tmp_path, Webhook(Address("http://127.0.0.1:1/hush-hush", ""), "box"))
    await desk.step(TROUBLE)
    (notice,) = desk.notifier.notices
    assert notice.startswith("notify: webhook: could not be reached")
    assert "hush" not in notice
    async with serving() as server:
        desk.notifier._outboxes[0].channel = webhook(server)
        for _ in range(5):
            await desk.step()
        assert events(server) == ["incident.started"]


@pytest.mark.usefixtures("virtual_time")
async def test_a_server_that_is_slow_delays_nobody(server: Server, tmp_path: Path) -> None:
    """The step returns at once; the other channel has its message; the slow one is tried again."""
    server.seconds = 30.0
    async with serving() as quick:
        desk = Desk(tmp_path, webhook(server), webhook(quick), timeout=0.2)
        desk.view = TROUBLE
        desk.notifier.step()
        assert all(box._sending is not None and not box._sending.done() for box in desk.notifier._outboxes)
        await desk.step()
        assert events(quick) == ["incident.started"]
        assert desk.notifier.notices == ["notify: webhook: no answer within 0.2 s"]
        server.seconds = 0.0
        for _ in range(5):
            await desk.step()
        assert events(server) == events(quick) == ["incident.started"]


@pytest.mark.parametrize("status", [301, 302, 307, 308])
async def test_a_redirect_is_not_followed(server: Server, tmp_path: Path, status: int) -> None:
    """It would carry the token to whoever is named there."""
    server.status = status
    desk = Desk(tmp_path, webhook(server, "t0ken"))
    for _ in range(20):
        await desk.step(TROUBLE)
    assert server.elsewhere == 0
    assert desk.notifier.notices == [
        f"notify: webhook: answered {status}: redirects are not followed; name where it leads"
    ]


@pytest.mark.parametrize(
    ("status", "is_again"), [(400, False), (401, False), (404, False), (408, True), (500, True)]
)
async def test_a_refusal_is_not_argued_with(
    server: Server, tmp_path: Path, status: int, is_again: bool
) -> None:
    """The next incident is tried all the same."""
    server.statuses = [status]
    desk = Desk(tmp_path, webhook(server))
    for _ in range(10):
        await desk.step(TROUBLE)
    assert len(server.bodies) == is_again
    await desk.over()
    assert events(server)[-1] == "incident.ended"


async def test_what_could_not_be_told_is_told_by_its_end_alone(server: Server, tmp_path: Path) -> None:
    """Yesterday's beginning is no news beside it."""
    server.status = 500
    desk = Desk(tmp_path, webhook(server))
    await desk.step(TROUBLE)
    await desk.over()
    server.status = 200
    for _ in range(10):
        await desk.step(CALM, 60.0)
    assert events(server) == ["incident.ended"]


async def test_it_is_given_up_in_the_end(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not tried for ever."""
    monkeypatch.setattr(outbox, "GIVE_UP_SECONDS", 600.0)
    server.status = 500
    desk = Desk(tmp_path, webhook(server))
    for _ in range(30):
        await desk.step(TROUBLE, 60.0)
    server.status = 200
    await desk.step(TROUBLE, 600.0)
    assert server.bodies == []


@pytest.mark.parametrize(("view", "told_at_night"), [(TROUBLE, False), (CRITICAL, True)])
async def test_in_quiet_hours_only_what_is_critical_is_told(
    server: Server, tmp_path: Path, view: View, told_at_night: bool
) -> None:
    """The rest waits for their end, and ends in the morning too."""
    desk = Desk(tmp_path, webhook(server), quiet="23:00-07:00")
    desk.at("23:30")
    await desk.step(view)
    await desk.step()
    assert events(server) == ["incident.started"] * told_at_night
    desk.at("06:59")
    await desk.step()
    assert events(server) == ["incident.started"] * told_at_night
    desk.at("07:00")
    await desk.step()
    assert events(server) == ["incident.started"]
    desk.at("23:30")
    await desk.over()
    assert events(server) == ["incident.started"]
    desk.at("07:01")
    await desk.step()
    assert events(server) == ["incident.started", "incident.ended"]


async def test_what_becomes_critical_in_the_night_wakes_somebody(server: Server, tmp_path: Path) -> None:
    """By the message that was waiting, with what it has become."""
    desk = Desk(tmp_path, webhook(server), quiet="23:00-07:00")
    desk.at("23:30")
    await desk.step(TROUBLE)
    assert server.bodies == []
    await desk.step(CRITICAL)
    (body,) = server.bodies
    assert (json.loads(body)["severity"], json.loads(body)["sentence"]) == ("critical", CRITICAL.line)


async def test_a_night_that_ended_well_is_one_message_in_the_morning(server: Server, tmp_path: Path) -> None:
    """The beginning would only puzzle."""
    desk = Desk(tmp_path, webhook(server), quiet="23:00-07:00")
    desk.at("02:00")
    await desk.step(TROUBLE)
    await desk.over()
    desk.at("07:00")
    await desk.step()
    assert events(server) == ["incident.ended"]


async def test_a_daemon_that_starts_again_does_not_tell_it_twice(server: Server, tmp_path: Path) -> None:
    """The open incident is on the disk, for nobody else to read; its end is told by the next run."""
    await Desk(tmp_path, webhook(server)).step(TROUBLE)
    file = tmp_path / "notified.json"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    desk = Desk(tmp_path, webhook(server))
    await desk.step(TROUBLE)
    assert events(server) == ["incident.started"]
    await desk.over()
    assert events(server) == ["incident.started", "incident.ended"]
    await Desk(tmp_path, webhook(server)).step(CALM)
    assert len(server.bodies) == 2


async def test_what_nobody_was_told_is_told_by_the_next_run(server: Server, tmp_path: Path) -> None:
    """The server was away."""
    server.status = 500
    await Desk(tmp_path, webhook(server)).step(TROUBLE)
    server.status = 200
    await Desk(tmp_path, webhook(server)).step(TROUBLE)
    assert events(server) == ["incident.started"]


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"\xff"])
def test_a_spoilt_note_is_none(tmp_path: Path, content: bytes) -> None:
    """It is no reason not to start."""
    (tmp_path / "notified.json").write_bytes(content)
    assert Desk(tmp_path).notifier._incidents.incident is None


async def test_nothing_that_goes_wrong_ends_it(server: Server, tmp_path: Path) -> None:
    """A look that fails is tried again; a channel that fails is given up for this message."""
    desk = Desk(tmp_path, webhook(server))

    def broken() -> View:
        raise RuntimeError("no")

    look, desk.notifier._look = desk.notifier._look, broken
    await desk.step(TROUBLE)
    desk.notifier._look = look

    class Broken:
        name = "broken"

        async def send(self, _: object) -> None:
            raise RuntimeError("https://example.org/hush")

    channel, desk.notifier._outboxes[0].channel = desk.notifier._outboxes[0].channel, Broken()
    await desk.step(TROUBLE)
    assert desk.notifier.notices == ["notify: broken: RuntimeError"]
    desk.notifier._outboxes[0].channel = channel
    await desk.over()
    assert events(server) == ["incident.ended"]


async def test_run_looks_until_it_is_cancelled(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As the daemon's side task."""

    async def at_once(_: float) -> None:
        await asyncio.sleep(0)

    monkeypatch.setattr("epad.notifying.notifier.sleep_to_beat", at_once)
    desk = Desk(tmp_path, webhook(server))
    desk.view = TROUBLE
    task = asyncio.create_task(desk.notifier.run())
    async with asyncio.timeout(PATIENCE_SECONDS):
        while not server.bodies:
            await asyncio.sleep(0.01)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert task.cancelled()


# The desktop.

SESSION = {"DBUS_SESSION_BUS_ADDRESS": "unix:path=/nowhere"}


def program(home: Path, script: str) -> str:
    path = home / "notify-send"
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return str(path)


async def test_the_desktop_is_told_through_notify_send(tmp_path: Path) -> None:
    """Nothing of a sentence is an option of the program's."""
    out = tmp_path / "out"
    channel = Desktop(
        "box",
        {"OUT": str(out), "PATH": "/bin:/usr/bin", **SESSION},
        program(tmp_path, 'printf "%s\\n" "$@" > "$OUT"'),
    )
    desk = Desk(tmp_path, channel)
    await desk.step(View(Gravity.CRITICAL, "LIFEBOAT", "--help is frozen", ("x",)))
    assert out.read_text().splitlines() == [
        "--app-name=epad", "--urgency=critical", "--", "epad on box: trouble", "--help is frozen",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("make", "expected"),
    [
        (lambda _: "notify-send-that-is-not-here", "is not installed (libnotify-bin)"),
        (lambda home: program(home, "exit 3"), "ended with 3: is there a desktop session here?"),
    ],
)
async def test_without_a_desktop_it_says_so_in_a_line(
    tmp_path: Path, make: Callable[[Path], str], expected: str
) -> None:
    """And nothing else happens."""
    desk = Desk(tmp_path, Desktop("box", {"PATH": "/bin:/usr/bin", **SESSION}, make(tmp_path)))
    await desk.step(TROUBLE)
    (notice,) = desk.notifier.notices
    assert notice.endswith(expected)


@pytest.mark.parametrize("more", [{}, {"XDG_RUNTIME_DIR": "/nowhere"}])
async def test_without_a_session_bus_nothing_is_started(tmp_path: Path, more: dict[str, str]) -> None:
    """notify-send would start a bus of its own, which nobody looks at."""
    out = tmp_path / "out"
    send = program(tmp_path, f"touch {out}")
    desk = Desk(tmp_path, Desktop("box", {"PATH": "/bin:/usr/bin", **more}, send))
    await desk.step(TROUBLE)
    (notice,) = desk.notifier.notices
    assert notice.endswith("there is no session bus here: epad has to run in your session")
    assert not out.exists()


# Questions.


def asking(*numbers: int) -> View:
    """A calm view in which the agent has these questions open."""
    asked = tuple(Asked(n, "agent", float(n), f"h{n}.example:443", "curl") for n in numbers)
    return View(Gravity.CALM, "NORMAL", "", questions=asked)


async def test_a_question_is_told_once_with_its_answers(server: Server, tmp_path: Path) -> None:
    """It is no incident: nothing tells of an end."""
    desk = Desk(tmp_path, webhook(server))
    for _ in range(3):
        await desk.step(asking(7))
    await desk.over()
    [told] = [json.loads(body) for body in server.bodies]
    assert (told["event"], told["subsystems"]) == ("host.asked", ["agent"])
    assert told["sentence"] == ("agent asks for h7.example:443 (curl): `epactl approve 7` or `epactl deny 7`")


async def test_a_night_of_questions_pushes_no_incident_out(server: Server, tmp_path: Path) -> None:
    """In quiet hours those of one subsystem are one message, which counts them."""
    desk = Desk(tmp_path, webhook(server), quiet="23:00-07:00")
    desk.at("23:30")
    await desk.step(TROUBLE)
    for number in range(1, 101):
        await desk.step(asking(number), 61.0)
    assert server.bodies == []
    desk.at("07:01")
    for _ in range(3):
        await desk.step(CALM)
    assert sorted(events(server)) == ["host.asked", "incident.ended"]
    [asked] = [json.loads(body) for body in server.bodies if json.loads(body)["event"] == "host.asked"]
    assert "h100.example" in asked["sentence"]
    assert "(99 more: `epactl approvals`)" in asked["sentence"]


# Addresses.


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("https://ntfy.sh/topic\n", ("https://ntfy.sh/topic", "")),
        ("\nhttp://box:8080/x \n tk_abc\n", ("http://box:8080/x", "tk_abc")),
    ],
)
def test_an_address_is_its_files_first_line(text: str, expected: tuple[str, str]) -> None:
    """Its token is the second; neither is shown."""
    address = Address.parse(text)
    assert (address.url, address.token) == expected
    assert "tk_abc" not in repr(address)
    assert "topic" not in repr(address)


@pytest.mark.parametrize(
    "text", ["", "\n", "topic", "ftp://x/y", "https://", "https://x\ntoken\nmore", "file:///etc/passwd"]
)
def test_what_is_no_address_is_refused_without_being_shown(text: str) -> None:
    """The file may hold another secret."""
    with pytest.raises(ValueError, match=r"^it") as caught:
        Address.parse(text)
    assert "passwd" not in str(caught.value)
