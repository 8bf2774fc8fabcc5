"""The client against a real daemon's socket, and against what is not one."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import unquote

import pytest
from control_door import Door
from hypothesis import given
from hypothesis import strategies as st

from epad.api import client as client_module
from epad.api.client import (
    ControlClient,
    FailedError,
    NotRunningError,
    RefusedError,
    UnknownNameError,
    UnreachableError,
    quote,
)
from epad.operations.protocol import Peer


@contextlib.contextmanager
def answering(path: Path, answer: bytes) -> Iterator[ControlClient]:
    """A server that reads a request, answers with these bytes, and hangs up."""
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(path))
        server.listen()

        def serve() -> None:
            connection, _ = server.accept()
            with connection:
                connection.recv(65_536)
                connection.sendall(answer)

        thread = threading.Thread(target=serve)
        thread.start()
        yield ControlClient(str(path))
        thread.join()


async def test_it_reads_and_orders(door: Door) -> None:
    """A reading and an order go through the real server and come back."""
    client = ControlClient(str(door.path))
    assert await asyncio.to_thread(client.get, "/v1/status") == door.operations.answer
    answer = await asyncio.to_thread(client.order, "/v1/checkpoint", 'quotes " and ümlauts')
    assert answer["results"] == ["checkpoint done"]
    assert door.operations.orders[0][2] == 'quotes " and ümlauts'


async def test_each_failure_has_its_own_type(door: Door) -> None:
    """Unknown, refused and failed are told apart, each with the daemon's own message and fix."""
    client = ControlClient(str(door.path))
    with pytest.raises(UnknownNameError, match="nobody") as unknown:
        await asyncio.to_thread(client.order, "/v1/subsystems/nobody/release", "r")
    assert "wargame" in unknown.value.fix
    with pytest.raises(FailedError, match="only LIFEBOAT"):
        await asyncio.to_thread(client.order, "/v1/relaunch", "r")
    with pytest.raises(FailedError):
        await asyncio.to_thread(client.get, "/v1/events", {"limit": "0"})
    door.peer = Peer(1, 54_321, ())
    with pytest.raises(RefusedError, match="uid 54321"):
        await asyncio.to_thread(client.order, "/v1/lifeboat", "r")
    door.peer = Peer(1, -1, ())
    with pytest.raises(RefusedError):
        await asyncio.to_thread(lambda: list(client.lines("/v1/events")))


async def test_lines_come_one_by_one_and_end_with_the_answer(door: Door) -> None:
    """Each event is an object of its own; what is not followed ends."""
    door.operations.happen("a")
    door.operations.happen("b", "chat", text="two\nlines")
    client = ControlClient(str(door.path))
    events = await asyncio.to_thread(lambda: list(client.lines("/v1/events", {"since": "0"})))
    assert events == door.operations.stored


def test_no_socket_and_a_dead_one_are_not_running(directory: Path) -> None:
    """Whether the file is missing or left behind, no daemon runs, and the fix says how to start one."""
    path = directory / "control.sock"
    with pytest.raises(NotRunningError, match=r"control\.sock"):
        ControlClient(str(path)).get("/v1/status")
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
    with pytest.raises(NotRunningError) as stale:
        ControlClient(str(path)).get("/v1/status")
    assert "epad run" in stale.value.fix


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"SSH-2.0-OpenSSH\r\n",
        b"HTTP/1.1 2x0 OK\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\n{}",
        b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n<b>",
        b"HTTP/1.1 200 OK\r\n",
        b"\x00\xff" * 50,
    ],
)
def test_what_is_not_a_whole_answer_is_an_error(directory: Path, answer: bytes) -> None:
    """Silence, another protocol, and half an answer are never taken for data."""
    with answering(directory / "s", answer) as client, pytest.raises(UnreachableError):
        client.get("/v1/status")


def test_an_error_that_is_not_ours_is_still_an_error(directory: Path) -> None:
    """A bare 502 of something in between is reported by its number."""
    answer = b"HTTP/1.1 502 Bad Gateway\r\n\r\n<html>"
    with answering(directory / "s", answer) as client, pytest.raises(FailedError, match="502"):
        client.get("/v1/status")


def test_a_daemon_that_dies_while_it_is_asked_is_not_running(directory: Path) -> None:
    """Its end resets the connection that waits; nobody listens any more, and that is what the caller is told."""
    path = directory / "control.sock"
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(path))
        server.listen()

        def die() -> None:
            connection, _ = server.accept()
            connection.recv(1)  # closed with the rest unread, the connection is reset
            server.close()
            connection.close()

        dying = threading.Thread(target=die)
        dying.start()
        with pytest.raises(NotRunningError):
            ControlClient(str(path)).get("/v1/status")
        dying.join()


def test_a_daemon_that_is_stuck_does_not_hang_the_caller(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A connection that is taken and never answered ends in an error of its own."""
    monkeypatch.setattr(client_module, "READ_SECONDS", 0.05)
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(directory / "s"))
        server.listen()
        with pytest.raises(UnreachableError, match="does not answer"):
            ControlClient(str(directory / "s")).get("/v1/status")


def test_a_path_no_socket_can_have_is_an_error_with_a_fix() -> None:
    """`--socket` may be anything; the kernel's refusal is not a traceback."""
    with pytest.raises(UnreachableError):
        ControlClient("/tmp/" + "x" * 200).get("/v1/status")


@given(st.text())
def test_quoting_is_undone_by_the_standard_library(text: str) -> None:
    """Any name survives the way into the URL and stays within its segment."""
    try:
        quoted = quote(text)
    except UnicodeEncodeError:
        assert any("\ud800" <= character <= "\udfff" for character in text)
        return
    assert unquote(quoted) == text
    assert not set(quoted) & set("/?#& \r\n")
    assert quoted != "."
