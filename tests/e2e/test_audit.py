"""The audit under the installed daemon: what happens is found by `epactl audit`, by name, in order, and provable."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from installed import BIN, QUICK, Installation, installation
from ledger_world import flip
from tool_agent import Agent

ROOT = Path(__file__).parents[2]
TEAM = f'[persons.ada]\nrole = "owner"\nuid = {os.getuid()}\n'
WAITS = (
    "while ! [ -e ../go ]; do sleep 0.1; done; sh ../go > ../said 2>&1; echo $? > ../ended; exec sleep 600"
)


@pytest.fixture
def workspace(tmp_path: Path) -> Path:
    made = tmp_path / "work"
    made.mkdir()
    (made / "a.txt").write_text("a\n")
    return made


def configuration(workspace: Path) -> str:
    """An agent with tools, which runs what it finds in `go`, and a team of one."""
    command = json.dumps(["sh", "-c", WAITS])
    return (
        f'{QUICK}[containment]\noperator = "block"\n[tools]\nenabled = true\n{TEAM}[subsystems.agent]\n'
        f'command = {command}\nworking_directory = "{workspace}"\nlisten = "unix:{workspace.parent}/door"\n'
        'tier = "operator"\n'
    )


def audited(house: Installation, *words: str) -> list[dict[str, Any]]:
    found = house.ctl("audit", "--state", str(house.state), "--format", "jsonl", *words)
    assert found.returncode == 0, found.stderr
    return [json.loads(line) for line in found.stdout.splitlines()]


def an_agents_order(house: Installation, workspace: Path) -> str:
    """Have the agent, whose uid is the owner's, order something by itself; return what it was told."""
    socket = (house.runtime or house.state / "run") / "control.sock"
    order = f"{BIN}/epactl --socket {socket} quarantine agent --reason free-me"
    (workspace.parent / "go.new").write_text(order)
    (workspace.parent / "go.new").rename(workspace.parent / "go")
    house.wait((workspace.parent / "ended").exists, "the agent's order")
    assert (workspace.parent / "ended").read_text().strip() == "5"
    return (workspace.parent / "said").read_text()


def test_a_day_is_found_by_who_what_and_outcome(workspace: Path) -> None:
    """A tool, a consent, a refused egress, an order by a person, an agent's own order; all in one chain, in order."""
    agent = Agent(workspace.parent / "door")
    with installation(configuration(workspace)) as house, ThreadPoolExecutor() as pool:
        house.start()
        assert not agent.call("file_read", path="a.txt")["is_error"]
        deletion = pool.submit(agent.call, "file_delete", path="a.txt", recursive=True)
        house.wait(lambda: house.client().get("/v1/approvals")["tool_questions"], "the question")
        assert house.ctl("approve", "1", "--for", "once", "--reason", "it is old").returncode == 0
        assert not deletion.result()["is_error"]
        assert agent.call("http_fetch", url="http://203.0.113.7/")["is_error"]
        assert "no person's" in an_agents_order(house, workspace)
        assert house.ctl("pause", "agent", "--reason", "lunch").returncode == 0
        assert house.stop() == 0
        check(house)
        flip(house.state / "ledger.db", b"pause agent: lunch")
        broken = house.ctl("audit", "--state", str(house.state))
        assert (broken.returncode, "FAULT: record" in broken.stderr) == (1, True)


def check(house: Installation) -> None:
    """What was done stands in the audit."""
    rows = audited(house)
    assert [row["id"] for row in rows] == list(range(1, len(rows) + 1))
    told = [(row["event"], row["who"], row["outcome"]) for row in rows]
    wanted = [
        ("daemon.started", "epad", "started"),
        ("session.began", "configuration", "began"),
        ("tool.closed", "agent", "done"),
        ("tool.asked", "epad", "asked"),
        ("answer.given", "ada", "given"),
        ("answer.ended", "ada", "done"),
        ("tool.closed", "agent", "done"),
        ("egress.refused", "agent", "refused"),
        ("tool.closed", "agent", "failed"),
        ("gate.refused", "agent", "refused"),
        ("order.given", "ada", "given"),
        ("order.ended", "ada", "done"),
        ("daemon.stopping", "epad", "stopping"),
    ]
    left = iter(told)
    for one in wanted:
        assert one in left, (one, told)
    assert [row["who"] for row in audited(house, "--kind", "order")] == ["ada", "ada"]
    (given,) = audited(house, "--who", "ada", "--kind", "answer.given")
    proof = house.ctl("audit", "prove", str(given["id"]), "--state", str(house.state))
    file = house.state / "proof.json"
    file.write_text(proof.stdout)
    checker = [sys.executable, "-I", str(ROOT / "docs/check_inclusion.py"), str(file)]
    assert "PROVED" in subprocess.run(checker, capture_output=True, text=True, check=True).stdout
    report = house.ctl("audit", "report", "--state", str(house.state))
    assert "approve 1: agent may call file_delete once" in report.stdout
