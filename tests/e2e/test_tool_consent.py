"""Consent of a person under the installed daemon: asked by a call, answered by epactl, and by nobody else."""

from __future__ import annotations

import subprocess
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from installed import Installation
from tool_agent import Agent, records, scene

from epad.ledger.record import ToolClosed

OPERATOR = 'tier = "operator"\n'


@pytest.fixture
def workspace(tmp_path: Path) -> Path:
    """A repository with two branches and some files beside it."""
    made = tmp_path / "work"
    (made / "repo").mkdir(parents=True)
    for name in ("a.txt", "b.txt"):
        (made / name).write_text(f"{name}\n")
    git = ("git", "-C", str(made / "repo"), "-c", "user.name=n", "-c", "user.email=e@example.org")
    for words in (
        ("init", "-q", "-b", "main"),
        ("commit", "-q", "--allow-empty", "-m", "one"),
        ("branch", "topic"),
    ):
        subprocess.run([*git, *words], check=True)
    return made


def asked(house: Installation) -> list[dict[str, Any]]:
    """The questions about tools that are open."""
    questions: list[dict[str, Any]] = house.client().get("/v1/approvals")["tool_questions"]
    return [one for one in questions if one["state"] == "open"]


def waiting(
    house: Installation, pool: ThreadPoolExecutor, agent: Agent, **call: Any
) -> Future[dict[str, Any]]:
    """A call that waits for a person."""
    before = len(asked(house))
    future = pool.submit(agent.call, **call)
    house.wait(lambda: len(asked(house)) > before, "the question")
    return future


def test_a_person_lets_one_deletion_and_a_checkout_through(workspace: Path) -> None:
    """Shown with what it really is; once is one call; a time is a class, until it is taken back."""
    with scene(workspace, OPERATOR) as (house, agent), ThreadPoolExecutor() as pool:
        hidden = waiting(house, pool, agent, tool="file_delete", path="a\u202e.txt")
        shown = house.ctl("approvals").stdout
        assert "file_delete on" in shown
        assert f"{workspace.resolve()}/a\\u202e.txt (not there)" in shown
        assert house.ctl("deny", "1").returncode == 0
        assert hidden.result()["reason_code"] == "consent_refused"

        deletion = waiting(house, pool, agent, tool="file_delete", path="a.txt", recursive=True)
        assert (workspace / "a.txt").exists()
        assert not agent.call("file_read", path="b.txt")["is_error"]
        assert any("file_delete on" in notice for notice in house.status()["notices"])
        assert house.ctl("approve", "2", "--for", "once").returncode == 0
        assert not deletion.result()["is_error"]
        assert not (workspace / "a.txt").exists()

        checkout = waiting(house, pool, agent, tool="git_checkout", repo="repo", name="topic")
        assert "repo" in asked(house)[0]["covers"]
        assert house.ctl("approve", "3", "--for", "always", "--reason", "r").returncode == 1
        assert house.ctl("approve", "3", "--for", "10m").returncode == 0
        assert checkout.result()["content"]["head"] == "topic"
        assert agent.call("git_checkout", repo="repo", name="main")["content"]["head"] == "main"
        assert "may call git_checkout" in house.ctl("approvals").stdout
        assert house.ctl("approvals", "revoke", "git_checkout").returncode == 0
        again = waiting(house, pool, agent, tool="git_checkout", repo="repo", name="topic")
        assert house.ctl("deny", str(asked(house)[0]["number"])).returncode == 0
        assert again.result()["reason_code"] == "consent_refused"

        closed = [record for record in records(house) if isinstance(record, ToolClosed)]
        refused = [record.reason for record in closed if record.outcome == "refused"]
        assert refused == ["consent_refused", "consent_refused"]
        assert {"W2/NORMAL"} == {record.row for record in closed if record.tool != "file_read"}
        assert len(house.events("tool.asked")) == 4


def test_an_agent_answers_no_question_of_its_own(workspace: Path) -> None:
    """Neither by its door, nor by a name, a key or an argument that it chooses; its call stays undone."""
    with scene(workspace, OPERATOR) as (house, agent), ThreadPoolExecutor() as pool:
        deletion = waiting(house, pool, agent, tool="file_delete", path="b.txt", recursive=True)
        body = {"reason": "I may", "seconds": 600}
        for path in ("/v1/approvals/1/approve", "/approvals", "/v1/approvals"):
            assert b"may call" not in agent.ask("POST", path, body, key="operator")
        claims = {"path": "b.txt", "recursive": True, "approved": True, "consent": "given"}
        named = waiting(house, pool, agent, tool="file_delete", **claims)
        assert house.ctl("deny", "2").returncode == 0
        assert named.result()["reason_code"] == "consent_refused"
        assert (workspace / "b.txt").exists()
        assert house.ctl("deny", "1").returncode == 0
        assert deletion.result()["reason_code"] == "consent_refused"
        assert (workspace / "b.txt").exists()
