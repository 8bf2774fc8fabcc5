"""The worker: frames, calls at once, timeouts, cancels, and its end."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import psutil
import pytest
from tool_process import HEADER, ToolWorker, tool_worker

from runners.tools import call, catalogue, frames, sandbox, worker
from runners.tools.frames import FrameError, Reader
from runners.tools.signature import ToolError

# `re` takes it, since RE2 has no look-ahead: it tries for longer than anybody waits.
ENDLESS = {"pattern": "(?=x)?(a+)+$", "text": "a" * 60 + "b"}


def children(running: ToolWorker) -> list[psutil.Process]:
    return psutil.Process(running.process.pid).children(recursive=True)


def test_a_call_that_hangs_is_killed_and_others_go_on() -> None:
    """Its own process is killed at its timeout; a call beside it is answered first."""
    with tool_worker("text", None) as running:
        running.send({"id": 1, "tool": "regex_match", "arguments": ENDLESS, "timeout": 1})
        running.send({"id": 2, "tool": "hash_data", "arguments": {"data": "x"}})
        first, second = running.receive(), running.receive()
        assert (first["id"], second["id"]) == (2, 1)
        assert second["ended"] == "timeout"
        assert "regex_match was ended after 1 s" in second["error"]
        assert not children(running)


def test_a_cancelled_call_is_answered_once_and_its_process_is_gone() -> None:
    """Also one that has not begun: more calls wait than run at once."""
    with tool_worker("text", None) as running:
        last = worker.MOST_RUNNING + 1
        for number in range(last + 1):
            running.send({"id": number, "tool": "regex_match", "arguments": ENDLESS})
        running.send({"cancel": last})
        assert (answer := running.receive())["id"] == last
        assert answer["ended"] == "cancelled"
        assert "before it began" in answer["error"]
        for number in range(last):
            running.send({"cancel": number})
        ended = {answer["id"]: answer["ended"] for answer in (running.receive() for _ in range(last))}
        assert ended == dict.fromkeys(range(last), "cancelled")
        running.send({"cancel": 3})  # it has ended already: nothing is answered
        assert running.answer("hash_data", {"data": "x"})["result"]
        assert not children(running)


def test_more_calls_than_may_wait_are_refused() -> None:
    """With the fix; the ones that run are not harmed."""
    with tool_worker("text", None) as running:
        most = worker.MOST_RUNNING + worker.MOST_WAITING
        for number in range(most + 40):
            running.send({"id": number, "tool": "regex_match", "arguments": ENDLESS})
        assert "calls wait already" in running.receive()["error"]


def test_a_frame_that_is_too_long_is_skipped_and_the_next_is_served() -> None:
    """As one that is not JSON, or no request, or without an id of its own."""
    with tool_worker("text", None) as running:
        assert running.process.stdin
        running.process.stdin.write(HEADER.pack(frames.MOST_BYTES + 1))
        running.process.stdin.write(b"x" * (frames.MOST_BYTES + 1))
        assert "over the limit" in running.receive()["error"]
        for body, said in (
            (b"{", "not a request"),
            (b'{"id": 4, "tool": 5}', "not a request"),
            (b"[]", "not a request"),
            (b'{"tool": "hash_data"}', "an id of its own"),
        ):
            running.send_bytes(body)
            answer = running.receive()
            assert said in answer["error"]
            assert answer["id"] == {b'{"id": 4, "tool": 5}': 4}.get(
                body, None if body[:1] != b"{" or body == b"{" else -1
            )
        assert running.answer("hash_data", {"data": "x"})["result"]


def test_an_unknown_tool_is_refused_with_those_there_are() -> None:
    """Of this worker's categories alone."""
    with tool_worker("text", None) as running:
        answer = running.answer("file_read", {"path": "x"})
        assert "no tool 'file_read'" in answer["error"]
        assert "regex_match" in answer["hint"]


def test_an_answer_that_is_too_large_is_refused() -> None:
    """Where a tool has not cut it itself."""
    with tool_worker("text", None) as running:
        answer = running.answer(
            "string_transform", {"text": "x" * 20_000, "operation": "upper"}, output_bytes=8192
        )
        assert "there is room for" in answer["error"]
        assert running.answer("string_transform", {"text": "x" * 20_000, "operation": "upper"})["result"]


def test_the_end_of_the_input_ends_every_call() -> None:
    """No process is left, and no answer comes late."""
    running = ToolWorker("text", None)
    for number in range(3):
        running.send({"id": number, "tool": "regex_match", "arguments": ENDLESS})
    running.send({"id": 9, "tool": "hash_data", "arguments": {"data": "x"}})
    assert running.receive()["id"] == 9
    left = children(running)
    assert len(left) == 3
    assert running.close() == b""
    assert not any(process.is_running() for process in left)


def test_a_worker_that_is_killed_takes_its_calls_along() -> None:
    """The kernel tells them: a worker that is killed has no time to."""
    running = ToolWorker("text", None)
    running.send({"id": 1, "tool": "regex_match", "arguments": ENDLESS})
    running.send({"id": 9, "tool": "hash_data", "arguments": {"data": "x"}})
    assert running.receive()["id"] == 9
    left = children(running)
    running.process.kill()
    running.close()
    gone, alive = psutil.wait_procs(left, timeout=60)
    assert gone
    assert not alive


def test_a_worker_serves_an_inherited_socket() -> None:
    """As the daemon starts it in a cell."""
    ours, theirs = socket.socketpair()
    command = [sys.executable, "-m", "runners.tools", "text", "--socket", str(theirs.fileno())]
    with subprocess.Popen(command, pass_fds=(theirs.fileno(),)) as process, ours:
        theirs.close()
        ours.sendall(frames.frame(b'{"id":1,"tool":"hash_data","arguments":{"data":"x"}}'))
        (size,) = HEADER.unpack(ours.recv(4, socket.MSG_WAITALL))
        assert b'"hex"' in ours.recv(size, socket.MSG_WAITALL)
        ours.shutdown(socket.SHUT_WR)
        assert process.wait() == 0


def test_health_tells_what_is_missing() -> None:
    """Tools, walls and programs."""
    with tool_worker("text,git", None) as running:
        running.send({"id": 1, "health": True})
        result = running.receive()["result"]
        assert "regex_match" in result["tools"]
        assert result["missing_walls"] == sandbox.missing_walls()


def test_a_call_without_a_workspace_has_no_files() -> None:
    """And says what to give instead."""
    with tool_worker("text", None) as running:
        assert "no workspace" in running.refusal("hash_data", path="x")
        assert running("hash_data", data="x")["hex"]


def test_without_landlock_what_changes_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Unless the worker was started with --unsandboxed; what only reads goes on."""

    def missing(need: sandbox.Need) -> None:
        raise OSError(38, "Function not implemented")

    monkeypatch.setattr(sandbox, "confine", missing)
    around = call.Surroundings(-1, -1, -1, unsandboxed=False)
    with pytest.raises(ToolError, match="Landlock is missing"):
        call._confine(sandbox.Need("W1", -1), around)
    call._confine(sandbox.Need("R1", -1), around)
    call._confine(sandbox.Need("W1", -1), call.Surroundings(-1, -1, -1, unsandboxed=True))


def test_a_tool_may_not_wait_for_an_event_loop() -> None:
    """A call has none: such a tool would hang, so it fails at once."""

    async def works(args: dict[str, Any]) -> dict[str, Any]:
        return args

    async def waits(args: dict[str, Any]) -> dict[str, Any]:
        await asyncio.sleep(0)
        return args

    assert call.drive(works({"a": 1})) == {"a": 1}
    with pytest.raises(RuntimeError, match="waits for an event loop"):
        call.drive(waits({}))


def test_a_reader_keeps_half_a_frame() -> None:
    """And gives each frame once, wherever the stream was cut."""
    stream = frames.frame(b"one") + frames.frame(b"") + HEADER.pack(frames.MOST_BYTES + 5)
    stream += b"x" * (frames.MOST_BYTES + 5) + frames.frame(b"two")
    for step in (1 << 20, len(stream)):
        reader, found = Reader(), list[Any]()
        for at in range(0, len(stream), step):
            found += reader.feed(stream[at : at + step])
        assert [each if isinstance(each, bytes) else type(each) for each in found] == [
            b"one",
            b"",
            FrameError,
            b"two",
        ]


def test_effects_of_a_killed_call_are_told() -> None:
    """They come before the answer, so a call that never answers has told them."""
    part = call.PART.pack(b"e", 13) + b'["a",null,""]'
    assert worker.parts(part + call.PART.pack(b"r", 9) + b"{}") == (['["a",null,""]'], None, b"")
    assert worker.parts(part + call.PART.pack(b"r", 2) + b"{}") == (['["a",null,""]'], b"r{}", b"")
    whole = call.PART.pack(b"w", 3) + b'"w"'
    assert worker.parts(whole + part + call.PART.pack(b"r", 2) + b"{}")[1:] == (b"r{}", b'"w"')


def test_a_process_that_ends_by_a_signal_is_told() -> None:
    """By the signal's name; the limit of processor time as a timeout."""
    tool = catalogue.load(["text"])["hash_data"]
    running = worker.Running(frames.Request(id=1), tool, 1, 1, 0.0, 5.0)
    assert worker._end_of(running, signal.SIGXCPU)["ended"] == "timeout"
    assert "by SIGSEGV" in worker._end_of(running, signal.SIGSEGV)["error"]
    assert "with status 1" in worker._end_of(running, 1 << 8)["error"]
    assert os.WIFSIGNALED(signal.SIGSEGV)
