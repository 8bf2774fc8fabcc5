"""The program itself: how it is started, as whom it runs, and that it ends with its daemon."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from runners.egress.messages import (
    Authority,
    CloseDoor,
    CutHost,
    Decide,
    EventKind,
    Limits,
    OpenDoor,
    Order,
    read_order,
    write_order,
)

ROOT = Path(__file__).parents[3]


def start(*arguments: str, keep: socket.socket | None = None) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-P", "-S", "-m", "runners.egress", *arguments],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        pass_fds=[] if keep is None else [keep.fileno()],
        stderr=subprocess.PIPE,
    )


@pytest.mark.parametrize("arguments", [(), ("x",), ("1", "2"), ("1", "intercept", "3")])
def test_a_person_who_starts_it_is_told_who_does(arguments: tuple[str, ...]) -> None:
    with start(*arguments) as process:
        _, said = process.communicate()
    assert process.returncode == 2
    assert b"epad starts it" in said


def test_it_says_that_it_is_ready_and_ends_with_its_daemon() -> None:
    """As nobody, where it was root's."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours, start(str(theirs.fileno()), keep=theirs) as process:
        theirs.close()
        assert EventKind.READY.encode() in ours.recv(1_000)
        uids = re.search(r"^Uid:\s+(.*)$", Path(f"/proc/{process.pid}/status").read_text(), re.MULTILINE)
        assert uids is not None
        assert set(uids[1].split()) == {str(os.geteuid() or 65_534)}
        ours.close()
        _, said = process.communicate()
    assert (process.returncode, said) == (0, b"")


def watched(pid: int) -> int:
    """Count the descriptors that the process has the kernel report, closed ones too."""
    return sum(path.read_text().count("tfd:") for path in Path(f"/proc/{pid}/fdinfo").iterdir())


def test_a_closed_door_is_reported_by_the_kernel_no_more() -> None:
    """The daemon has the listener as well: one that stays reported costs a core once the daemon has shut it down."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    listener = socket.create_server(("127.0.0.1", 0))
    with ours, listener, start(str(theirs.fileno()), keep=theirs) as process:
        theirs.close()
        assert EventKind.READY.encode() in ours.recv(1_000)
        before = watched(process.pid)
        socket.send_fds(ours, [write_order(OpenDoor("agent", ()))], [listener.fileno()])
        with socket.create_connection(listener.getsockname()) as client:
            client.sendall(b"nothing\r\n\r\n")
            while client.recv(1_000):
                pass
        ours.send(write_order(CloseDoor("agent")))
        while EventKind.CUT.encode() not in ours.recv(10_000):
            pass
        after = watched(process.pid)
        ours.close()
        process.communicate()
    assert after == before


@pytest.mark.parametrize(
    "order",
    [
        OpenDoor("agent", ("a.example:443",), ask=True, limits=Limits(idle_seconds=1.0)),
        OpenDoor("agent", (), authority=Authority("certificate", "key", ("a.example",))),
        CloseDoor("agent"),
        CutHost("agent", "a.example", 443),
        Decide(7, allow=False, why="denied", words="no"),
    ],
)
def test_an_order_is_read_as_it_was_written(order: Order) -> None:
    assert read_order(write_order(order)) == order


def test_no_key_is_shown_with_its_order() -> None:
    """As it would be in a log."""
    assert "the-key" not in repr(OpenDoor("agent", (), authority=Authority("certificate", "the-key", ())))


def test_an_order_that_is_too_long_is_refused_by_whoever_writes_it() -> None:
    with pytest.raises(ValueError, match="name fewer hosts"):
        write_order(OpenDoor("agent", tuple(f"h{number}.example:443" for number in range(10_000))))


def test_what_is_no_order_is_refused() -> None:
    with pytest.raises(ValueError, match="'sing' is no order"):
        read_order(b'{"order":"sing"}')
