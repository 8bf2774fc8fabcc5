"""Tools under the installed daemon: calls through gate, ledger and cell, a hold, and the daemon's death."""

from __future__ import annotations

import contextlib
import http.client
import json
import threading
from pathlib import Path
from typing import Any

import pytest
from installed import QUICK, Installation, installation
from tool_agent import Agent, records, scene

from epad.ledger.record import Session, ToolClosed, ToolOpened


@pytest.fixture
def workspace(tmp_path: Path) -> Path:
    """A directory with a file, and one beside it that is nobody's business."""
    made = tmp_path / "work"
    made.mkdir()
    (made / "a.txt").write_text("hello\n")
    (tmp_path / "secret.txt").write_text("secret")
    return made


def test_an_agents_calls_are_done_in_its_workspace_and_recorded(workspace: Path) -> None:
    """Reading and writing work; what leads outside or is above its tier is refused; all of it is on the ledger."""
    with scene(workspace) as (house, agent):
        before = agent.ask("GET", "/tools")
        assert (
            json.loads(agent.ask("GET", "/health"))["categories"]["files"] == 11
        )  # at its own door without a key
        assert agent.call("file_read", path="a.txt")["content"]["text"] == "hello\n"
        assert agent.mcp("file_read", path="a.txt")["result"]["structuredContent"]["text"] == "hello\n"
        assert not agent.call("file_write", path="b.txt", content="new")["is_error"]
        outside = [
            agent.call("file_read", path=path)
            for path in ("../secret.txt", str(workspace.parent / "secret.txt"))
        ]
        deleted = agent.call("file_delete", path="a.txt")
        assert agent.ask("GET", "/tools") == before
        house.wait(lambda: len(records(house)) == 12, "every end to be recorded")

        assert [one["reason_code"] for one in (*outside, deleted)] == ["failed", "failed", "tier_too_low"]
        assert "secret" not in json.dumps([one["content"].get("text", "") for one in outside])
        assert sorted(path.name for path in workspace.iterdir()) == ["a.txt", "b.txt"]
        assert (workspace / "b.txt").read_text() == "new"
        session, *rest = records(house)
        assert isinstance(session, Session)
        assert {record.session for record in rest} == {session.session}
        wrote = next(r for r in rest if isinstance(r, ToolClosed) and r.tool == "file_write")
        assert [effect.target for effect in wrote.effects] == ["b.txt"]
        assert [r.row for r in rest if isinstance(r, ToolClosed) and r.outcome == "refused"] == ["W2/tier"]


def test_a_quarantined_agent_keeps_its_list_and_calls_nothing(workspace: Path) -> None:
    """Released, it goes on."""
    with scene(workspace) as (house, agent):
        assert not agent.call("file_read", path="a.txt")["is_error"]
        before = agent.ask("GET", "/tools")
        assert house.ctl("quarantine", "agent", "--reason", "a test").returncode == 0
        house.wait(lambda: agent.call("file_read", path="a.txt")["reason_code"] == "held", "the hold")
        assert agent.ask("GET", "/tools") == before
        assert house.ctl("release", "agent", "--reason", "a test").returncode == 0
        house.wait(lambda: not agent.call("file_read", path="a.txt")["is_error"], "the release")


@pytest.mark.parametrize("target", ["tools-text", "tool:base64_convert", "tool:base64_convert@agent"])
def test_a_held_tool_is_refused_until_it_is_released_across_restarts(workspace: Path, target: str) -> None:
    """A category, a tool, and a tool for one agent; the list stays, and every other tool is called."""
    with scene(workspace) as (house, agent):
        before = agent.ask("GET", "/tools")
        assert house.ctl("quarantine", target, "--reason", "a test").returncode == 0
        for _ in range(2):
            assert agent.call("base64_convert", text="hello")["reason_code"] == "held"
            assert agent.call("file_list")["reason_code"] == ""
            assert (agent.call("text_split", text="a b")["reason_code"] == "held") is (target == "tools-text")
            assert agent.ask("GET", "/tools") == before
            assert f"{target} is blocked" in house.ctl("status").stdout
            assert f"{target} is blocked" in house.ctl("status", target).stdout
            assert "held by" in house.ctl("explain", target).stdout
            house.kill()
            house.start()
        assert house.ctl("release", target, "--reason", "a test").returncode == 0
        assert agent.call("base64_convert", text="hello")["reason_code"] == ""
        assert house.ctl("quarantine", "tool:no_such", "--reason", "a test").returncode == 4


def test_an_agent_in_a_circle_is_held_at_the_tool_then_the_category_then_as_a_whole(workspace: Path) -> None:
    """Each step is told with its evidence; another agent that works with the same tools is not touched."""
    door = workspace.parent / "twin"
    twin_table = (
        f'[subsystems.twin]\ncommand = ["sleep", "600"]\nworking_directory = "{workspace}"\n'
        f'listen = "unix:{door}"\n'
    )
    with scene(workspace, twin_table) as (house, agent):
        twin = Agent(door)

        def held(*names: str) -> bool:
            status = house.status()
            tools = {hold["target"] for one in status["tools"] for hold in one["held"]}
            whole = {one["name"] for one in status["subsystems"] if one["hold"]["rung"] != "open"}
            for number in range(3):
                assert not twin.call("text_split", text=f"{len(done)} {number}")["is_error"]
            return tools | whole == set(names)

        done: list[dict[str, Any]] = []

        def again(times: int) -> list[str]:
            done.extend(agent.call("text_split", text="a b") for _ in range(times))
            return [one["reason_code"] for one in done[-times:]]

        assert again(4) == [""] * 4
        house.wait(lambda: held("tool:text_split@agent"), "the tool's hold")
        assert not agent.call("base64_convert", text="a")["is_error"]
        assert again(6) == ["held"] * 6
        house.wait(lambda: held("tool:text_split@agent", "tools-text@agent"), "the category's hold")
        assert agent.call("base64_convert", text="b")["reason_code"] == "held"
        assert not agent.call("file_list")["is_error"]
        again(6)
        house.wait(lambda: held("tool:text_split@agent", "tools-text@agent", "agent"), "the agent's hold")
        assert agent.call("file_list")["reason_code"] == "held"
        told = house.ctl("explain", "tool:text_split@agent", "-v").stdout
        assert "identical_calls" in told
        assert "nothing new between" in house.ctl("status").stdout
        assert house.status()["phase"] == "QUARANTINE"

        assert house.ctl("release", "agent", "--reason", "a test").returncode == 0
        house.wait(held, "the release")
        assert not agent.call("text_split", text="c d")["is_error"]


def test_the_tier_and_the_tools_are_the_configurations(workspace: Path) -> None:
    """A reader of two tools sees two, and writes with neither."""
    with scene(workspace, 'tier = "reader"\ntools = ["file_read", "file_write"]\n') as (_, agent):
        listed = json.loads(agent.ask("GET", "/tools"))["tools"]
        assert [one["name"] for one in listed] == ["file_read", "file_write"]
        assert agent.call("file_list")["reason_code"] == "tool_not_given"
        assert agent.call("file_write", path="b.txt", content="x")["reason_code"] == "tier_too_low"
        assert not (workspace / "b.txt").exists()


def test_no_call_is_half_recorded_when_the_daemon_dies(workspace: Path) -> None:
    """After kill -9 no file is there without an opening, and no turn is closed twice; the workers are gone."""
    with scene(workspace) as (house, agent):
        agent.call("file_read", path="a.txt")
        done: list[int] = []

        def write(first: int) -> None:
            with contextlib.suppress(OSError, http.client.HTTPException, ValueError):
                for number in range(first, first + 400):
                    answer = agent.call("file_write", path=f"w{number}.txt", content="x")
                    assert not answer["is_error"], answer
                    done.append(number)

        threads = [threading.Thread(target=write, args=(1_000 * each,)) for each in range(3)]
        for thread in threads:
            thread.start()
        house.wait(lambda: len(done) > 10, "writes")
        house.kill()
        for thread in threads:
            thread.join()
        house.start()

        rest = [record for record in records(house) if not isinstance(record, Session)]
        opened = [r.turn for r in rest if isinstance(r, ToolOpened)]
        closed = {r.turn: r for r in rest if isinstance(r, ToolClosed)}
        assert len(opened) == len(set(opened))
        assert set(closed) <= set(opened)
        told = {effect.target for record in closed.values() for effect in record.effects}
        there = {path.name for path in workspace.glob("w*.txt")}
        assert {f"w{number}.txt" for number in done} <= told & there
        assert len(there - told) <= len(set(opened) - set(closed))
        assert house.ctl("ledger", "verify", "--state", str(house.state)).returncode == 0


def test_without_the_setting_there_is_no_door(workspace: Path) -> None:
    """An upgrade opens nothing."""
    door = workspace.parent / "door"
    table = f'[subsystems.agent]\ncommand = ["sleep", "600"]\nlisten = "unix:{door}"\n'
    with installation(QUICK + table) as house:
        house.start()
        for path in ("/tools", "/tools/call", "/mcp"):
            assert b"tools" not in Agent(door).ask("POST", path, {}).replace(path.encode(), b"")
        assert house.stop() == 0


def test_a_write_is_undone_across_the_daemons_death(workspace: Path) -> None:
    """By its turn: the file is as it was, the undo is recorded, and no temporary file is left."""
    with scene(workspace) as (house, agent):
        answer = agent.call("file_write", path="a.txt", content="changed\n", mode="replace")
        turn = answer["turn"]
        house.wait(
            lambda: any(isinstance(r, ToolClosed) and r.turn == turn for r in records(house)), "its end"
        )
        house.kill()
        house.start()
        planned = house.ctl("undo", turn, "--reason", "wrong", "--dry-run", "--json")
        assert planned.returncode == 0, planned.stderr
        assert json.loads(planned.stdout)["turns"][0]["restored"] == ["a.txt"]
        done = house.ctl("undo", turn, "--reason", "wrong", "--yes")
        assert (done.returncode, (workspace / "a.txt").read_text()) == (0, "hello\n"), (
            done.stdout + done.stderr
        )
        undone = [r for r in records(house) if isinstance(r, ToolOpened) and r.tool == "undo"]
        assert [r.parent for r in undone] == [turn]
        assert not list(workspace.rglob(".epad-*"))


def test_a_long_result_is_cut_and_read_whole_by_its_session(workspace: Path) -> None:
    """As a resource; a huge file costs the daemon little, since nobody reads it whole."""
    with scene(workspace) as (house, agent):
        text = "".join(f"line {number}\n" for number in range(20_000))
        answer = agent.mcp("string_transform", text=text, operation="upper")["result"]["structuredContent"]
        assert len(json.dumps(answer)) < 70_000
        read = {"jsonrpc": "2.0", "id": 2, "method": "resources/read", "params": {"uri": answer["whole"]}}
        [content] = json.loads(agent.ask("POST", "/mcp", read))["result"]["contents"]
        assert json.loads(content["text"]) == {"text": text.upper()}
        listing = {"jsonrpc": "2.0", "id": 3, "method": "resources/list", "params": {}}
        [listed] = json.loads(agent.ask("POST", "/mcp", listing))["result"]["resources"]
        assert listed["uri"] == answer["whole"]

        with (workspace / "huge.txt").open("wb") as file:
            file.truncate(400 << 20)
        before = peak_kib(house)
        assert not agent.call("file_read", path="huge.txt")["is_error"]
        assert peak_kib(house) - before < 20 << 10


def peak_kib(house: Installation) -> int:
    """The most memory that the daemon has held, in KiB."""
    assert house.process is not None
    status = Path(f"/proc/{house.process.pid}/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0])


def test_a_session_ends_with_its_process_and_outlives_the_daemon(workspace: Path) -> None:
    """It goes on after `kill -9` of the daemon; a restart of the agent ends it, with by whom; all of it is traced."""
    with scene(workspace) as (house, agent):
        first = agent.call("file_read", path="a.txt")["turn"]
        house.kill()
        house.start()
        second = agent.call("file_list")["turn"]
        assert house.ctl("restart", "agent", "--reason", "a new prompt").returncode == 0

        def ends() -> list[Session]:
            return [r for r in records(house) if isinstance(r, Session) and not r.began]

        house.wait(ends, "the end of the session")
        begun = [r.session for r in records(house) if isinstance(r, Session) and r.began]
        [end] = ends()
        assert begun == [end.session]
        assert end.by == "epad"
        assert end.reason
        traced = json.loads(house.ctl("trace", end.session, "--json").stdout)
        assert [one["turn"] for one in traced["turns"]] == [first, second]
        assert traced["session"]["ended_why"] == end.reason
        explained = house.ctl("explain", first).stdout
        assert "row R1/NORMAL let file_read pass" in explained
