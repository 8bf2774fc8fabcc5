"""`epactl approvals`, `approve` and `deny`."""

from __future__ import annotations

import asyncio
import json

import pytest
from control_door import Door
from fake_operations import asked, consent, tool_question

from epad.answers.confinement import HostQuestion, StandingApproval
from epad.epactl import main
from epad.operations.bodies import ApprovalOrder, RevocationOrder


async def epactl(door: Door, *words: str) -> int:
    return await asyncio.to_thread(main.main, ["--socket", str(door.path), *words])


def question(number: int, state: str, left: float | None) -> HostQuestion:
    return {
        "number": number, "subsystem": "agent", "host": "a.example", "port": 443, "state": state, "program": "curl",
        "tries": 1, "asked_seconds_ago": 5.0, "left_seconds": left, "reason": "", "widens": [],
        "asks": "a.example:443", "labels": [], "sent_bytes": 0, "received_bytes": 0,
    }  # fmt: skip


def standing(host: str, left: float | None, *, once: bool = False) -> StandingApproval:
    return {
        "subsystem": "agent", "host": host, "port": 443, "number": None, "left_seconds": left, "once": once,
        "reason": "", "sent_bytes": 0, "received_bytes": 0,
    }  # fmt: skip


async def test_questions_are_shown_those_that_wait_last(
    door: Door, capsys: pytest.CaptureFixture[str]
) -> None:
    """With how they are answered."""
    assert await epactl(door, "approvals") == 0
    assert capsys.readouterr().out == "no questions\n"
    door.operations.host_approvals = {
        "questions": [question(1, "open", 25.0), question(2, "unanswered", None)],
        "standing": [
            standing("b.example", None),
            standing("c.example", 60.0),
            standing("d.example", 9.0, once=True),
        ],
        "always": {"agent": ["b.example:443"]},
        "tool_questions": [],
        "tool_standing": [],
    }
    assert await epactl(door, "approvals") == 0
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert lines[1] == ["2", "agent", "a.example:443", "unanswered", "-", "1", "curl"]
    assert lines[2] == ["1", "agent", "a.example:443", "open", "25", "s", "1", "curl"]
    assert [" ".join(line) for line in lines[3:6]] == [
        "agent may reach b.example:443 always",
        "agent may reach c.example:443 for 60 s more",
        "agent may reach d.example:443 once",
    ]
    assert lines[6][:3] == ["`epactl", "approvals", "revoke"]
    assert lines[7][:3] == ["`epactl", "approve", "NUMBER"]
    assert await epactl(door, "approvals", "--json") == 0
    assert json.loads(capsys.readouterr().out)["questions"][0]["number"] == 1


async def test_a_question_about_a_tool_shows_its_call(door: Door, capsys: pytest.CaptureFixture[str]) -> None:
    """In the same list, with the arguments, the target, and the reach of an answer; a consent that holds too."""
    door.operations.host_approvals = asked(
        question(3, "open", 25.0),
        tools=[tool_question(4, arguments='{"path": "a\\u202e.txt"}', asks="file_delete on /work/a\x1b.txt")],
        consents=[consent(2), consent(1, once=True)],
    )
    assert await epactl(door, "approvals") == 0
    shown = capsys.readouterr().out
    assert "4       chat       file_delete" in shown
    assert "4: file_delete on /work/a?.txt" in shown
    assert 'arguments: {"path": "a\\u202e.txt"}' in shown
    assert "for a time it covers file_delete in /work; once, this call alone" in shown
    assert "chat may call file_delete in /work for 600 s more" in shown
    assert "chat may call file_delete once, as it was shown" in shown
    assert "`epactl approve NUMBER" in shown


@pytest.mark.parametrize(
    ("words", "seconds"),
    [
        ((), 3_600.0),
        (("--for", "10m"), 600.0),
        (("--for", "once"), 0.0),
        (("--for", "always", "--reason", "r"), None),
    ],
)
async def test_an_approval_says_how_long_it_holds(
    door: Door, words: tuple[str, ...], seconds: float | None
) -> None:
    assert await epactl(door, "approve", "7", *words) == 0
    assert [order[:2] for order in door.operations.orders] == [("approve", "7")]
    body = door.operations.bodies[-1]
    assert isinstance(body, ApprovalOrder)
    assert body.seconds == seconds


@pytest.mark.parametrize("words", [("--for", "always"), ("--for", "soon"), ("--for", "0h"), ("--for", "-1h")])
async def test_what_is_no_time_is_not_asked_for(door: Door, words: tuple[str, ...]) -> None:
    """For ever takes a reason."""
    assert await epactl(door, "approve", "7", *words) == 2
    assert door.operations.orders == []


async def test_a_denial_needs_its_number_alone(door: Door) -> None:
    assert await epactl(door, "deny", "7") == 0
    assert [order[:2] for order in door.operations.orders] == [("deny", "7")]


async def test_an_answer_can_be_rehearsed(door: Door, capsys: pytest.CaptureFixture[str]) -> None:
    assert await epactl(door, "approve", "7", "--dry-run") == 0
    assert "would order approvals/7/approve" in capsys.readouterr().out
    assert door.operations.orders == []


@pytest.mark.parametrize(("words", "subsystem"), [((), ""), (("--subsystem", "agent"), "agent")])
async def test_an_approval_is_taken_back_by_its_host(
    door: Door, words: tuple[str, ...], subsystem: str
) -> None:
    """With its port, which stands in the path of the request."""
    assert await epactl(door, "approvals", "revoke", "a.example:443", *words) == 0
    assert [order[:2] for order in door.operations.orders] == [("revoke_host", "a.example:443")]
    assert door.operations.bodies == [RevocationOrder("asked for", subsystem)]


async def test_a_revocation_can_be_rehearsed(door: Door, capsys: pytest.CaptureFixture[str]) -> None:
    assert await epactl(door, "approvals", "revoke", "7", "--dry-run") == 0
    assert "would order approved-hosts/7/revoke" in capsys.readouterr().out
    assert door.operations.orders == []


async def test_a_revocation_that_is_not_kept_has_failed(door: Door) -> None:
    """The next start would allow the host again."""
    door.operations.failed = True
    assert await epactl(door, "approvals", "revoke", "7") == 1
