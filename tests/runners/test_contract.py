"""A runner speaks sd_notify as systemd's own clients do, and works without anyone listening."""

from __future__ import annotations

import asyncio
import os
import socket
import sys
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from runners.contract import Contract, keep_alive


@pytest.fixture
def supervisor() -> Iterator[tuple[socket.socket, str]]:
    with tempfile.TemporaryDirectory() as directory:
        path = str(Path(directory) / "n.sock")
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as receiver:
            receiver.bind(path)
            receiver.settimeout(60)
            yield receiver, path


def test_reads_the_environment_that_epad_sets() -> None:
    """Every field of the contract comes from its variable, and both dialects' base URLs from the gateway's."""
    contract = Contract.from_environment(
        {
            "EPAD_GATEWAY_URL": "http://127.0.0.1:8700/",
            "EPAD_GATEWAY_KEY": "epad-wargame-secret",
            "EPAD_SUBSYSTEM": "wargame",
            "NOTIFY_SOCKET": "/run/n.sock",
            "WATCHDOG_USEC": "20000000",
        }
    )
    assert contract.openai_base_url == "http://127.0.0.1:8700/v1"
    assert contract.ollama_base_url == "http://127.0.0.1:8700"
    assert (contract.gateway_key, contract.subsystem) == ("epad-wargame-secret", "wargame")
    assert contract.heartbeat_seconds == 10.0


def test_without_epad_everything_is_a_silent_no_op() -> None:
    """No NOTIFY_SOCKET means that nothing is sent and nothing raised."""
    contract = Contract.from_environment({})
    assert not any(
        [
            contract.ready("x"),
            contract.status("x"),
            contract.progress(1, 2),
            contract.vram_wanted(1),
            contract.watchdog(),
            contract.stopping(),
        ]
    )
    assert contract.openai_base_url == ""


def test_each_message_is_one_datagram(supervisor: tuple[socket.socket, str]) -> None:
    """The fields are those of sd_notify(3), with progress as epad's own."""
    receiver, path = supervisor
    contract = Contract(notify_socket=path)
    assert contract.ready("serving")
    assert contract.progress(4, 1000, "round 4/1000")
    assert contract.vram_wanted(5 << 30)
    assert contract.watchdog()
    assert contract.stopping()
    received = [receiver.recv(4096).decode() for _ in range(5)]
    assert received == [
        "READY=1\nSTATUS=serving",
        "X_EPAD_PROGRESS=4/1000\nSTATUS=round 4/1000",
        "X_EPAD_VRAM_WANTED=5368709120",
        "WATCHDOG=1",
        "STOPPING=1",
    ]


def test_a_line_break_in_a_status_cannot_forge_a_field(supervisor: tuple[socket.socket, str]) -> None:
    """What a model or a server said may end up in a status; it must stay text."""
    receiver, path = supervisor
    Contract(notify_socket=path).status("all well\nREADY=1\nX_EPAD_PROGRESS=9/9")
    assert receiver.recv(4096).decode() == "STATUS=all well READY=1 X_EPAD_PROGRESS=9/9"


@pytest.mark.skipif(sys.platform != "linux", reason="abstract sockets are Linux's")
def test_an_abstract_socket_is_reached() -> None:
    """Systemd may hand out `@name`, which is a socket without a file."""
    name = f"epad-test-{os.getpid()}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as receiver:
        receiver.bind("\0" + name)
        receiver.settimeout(60)
        assert Contract(notify_socket="@" + name).watchdog()
        assert receiver.recv(64) == b"WATCHDOG=1"


def test_a_supervisor_that_is_gone_does_not_stop_the_work() -> None:
    """Children outlive the daemon: a dead socket is an answer of False, not an error."""
    assert not Contract(notify_socket="/nonexistent/n.sock").ready()


def test_a_full_supervisor_is_not_waited_for(supervisor: tuple[socket.socket, str]) -> None:
    """A daemon that stopped reading fills its queue; a status is then dropped."""
    _, path = supervisor
    contract = Contract(notify_socket=path)
    sent = [contract.status("x") for _ in range(5_000)]
    assert sent[0] is True
    assert sent[-1] is False


async def test_keep_alive_speaks_only_while_the_work_moves(supervisor: tuple[socket.socket, str]) -> None:
    """The watchdog is fed by the work: when that stands still, so does it."""
    receiver, path = supervisor
    moving = iter([True, False, True])
    stopped = asyncio.Event()

    def is_moving() -> bool:
        try:
            return next(moving)
        except StopIteration:
            stopped.set()
            return False

    task = asyncio.create_task(keep_alive(Contract(notify_socket=path, watchdog_seconds=0.002), is_moving))
    await stopped.wait()
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task
    receiver.setblocking(False)
    received = []
    with suppress(BlockingIOError):
        while True:
            received.append(receiver.recv(64))
    assert received == [b"WATCHDOG=1", b"WATCHDOG=1"]
