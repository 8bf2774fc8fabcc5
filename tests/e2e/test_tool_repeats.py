"""Keys of calls under the installed daemon: a repeat is answered and not done, across kill -9 too."""

from __future__ import annotations

import contextlib
import http.client
import threading
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from tool_agent import scene


@pytest.fixture
def workspace(tmp_path: Path) -> Path:
    """An empty directory."""
    made = tmp_path / "work"
    made.mkdir()
    return made


def more_than(answered: dict[int, Any], count: int) -> bool:
    return len(answered) > count


def test_an_answered_call_is_answered_alike_after_a_kill(workspace: Path) -> None:
    """And done once; without its key it is done again."""
    with scene(workspace) as (house, agent):
        first = agent.call("file_append", key="k1", path="a.txt", content="line\n")
        assert not first["is_error"]
        assert agent.call("file_append", key="k1", path="a.txt", content="line\n") == first
        house.kill()
        house.start()
        assert agent.call("file_append", key="k1", path="a.txt", content="line\n") == first
        assert agent.call("file_append", key="k1", path="a.txt", content="x")["reason_code"] == "key_reused"
        assert (workspace / "a.txt").read_text() == "line\n"
        assert not agent.call("file_append", path="a.txt", content="line\n")["is_error"]
        assert (workspace / "a.txt").read_text() == "line\nline\n"


def test_no_call_is_done_twice_whenever_the_daemon_dies(workspace: Path) -> None:
    """Clients repeat each call that they have no answer of: it is done, or said to be done, or unknown; never twice."""
    with scene(workspace) as (house, agent):
        answered: dict[int, dict[str, Any]] = {}
        asked: set[int] = set()

        def append(number: int) -> dict[str, Any]:
            return agent.call("file_append", key=f"k{number}", path=f"w{number}.txt", content="x")

        def work(first: int) -> None:
            with contextlib.suppress(OSError, http.client.HTTPException, ValueError):
                for number in range(first, first + 40):
                    asked.add(number)
                    answered[number] = append(number)

        for _ in range(2):
            before = len(answered)
            start, now = 1_000 * (1 + max(asked, default=0) // 1_000), set[int](asked)
            threads = [threading.Thread(target=work, args=(start + 1_000 * each,)) for each in range(3)]
            for thread in threads:
                thread.start()
            house.wait(partial(more_than, answered, before + 10), "answers")
            house.kill()
            for thread in threads:
                thread.join()
            house.start()
            for number in asked - now:
                again = append(number)
                if number in answered:
                    assert again == answered[number]
                else:
                    assert again["reason_code"] in {"", "end_unknown", "already_done"}, again
                written = workspace / f"w{number}.txt"
                text = written.read_text() if written.exists() else ""
                assert text == "x" or (text == "" and again["reason_code"] == "end_unknown"), (number, again)
                answered[number] = again
        assert house.verify_ledger().returncode == 0
