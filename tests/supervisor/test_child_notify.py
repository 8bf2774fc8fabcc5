"""The receiving side of sd_notify, and what children may try with it."""

from __future__ import annotations

import os
import socket
import stat
from pathlib import Path

import pytest
import structlog
from hypothesis import given
from hypothesis import strategies as st
from structlog.testing import capture_logs
from supervisor_world import until

from epad.configuration.directories import Directories
from epad.supervisor.errors import SupervisorError
from epad.supervisor.launch import give
from epad.supervisor.notify import (
    MAX_DATAGRAM_BYTES,
    MAX_STATUS_CHARACTERS,
    Notification,
    NotifySocket,
    Progress,
    parse_notification,
)


@pytest.mark.parametrize(
    ("datagram", "expected"),
    [
        (b"READY=1", Notification(ready=True)),
        (b"READY=0", Notification()),
        (b"WATCHDOG=1\n", Notification(watchdog=True)),
        (b"WATCHDOG=trigger", Notification()),
        (b"STOPPING=1\nSTATUS=bye", Notification(stopping=True, status="bye")),
        (b"STATUS=", Notification(status="")),
        (b"STATUS=a=b", Notification(status="a=b")),
        (b"X_EPAD_PROGRESS=4/1000", Notification(progress=Progress(4, 1000))),
        (b"X_EPAD_PROGRESS=4/0", Notification(progress=Progress(4, 0))),
        (b"X_EPAD_SAVED=1", Notification(saved=True)),
        (b"X_EPAD_VRAM_WANTED=5368709120", Notification(vram_wanted=5 << 30)),
        (b"X_EPAD_VRAM_WANTED=0", Notification(vram_wanted=0)),
        (b"MAINPID=1\nMONOTONIC_USEC=3\nERRNO=2", Notification()),
        (b"", Notification()),
        (b"READY", Notification(malformed=1)),
        (b"=1", Notification(malformed=1)),
        (b"re ady=1\nREADY=1", Notification(ready=True, malformed=1)),
        (b"\x00\xff\xfe", Notification(malformed=1)),
        (b"X_EPAD_PROGRESS=4", Notification(malformed=1)),
        (b"X_EPAD_PROGRESS=-4/5", Notification(malformed=1)),
        (b"X_EPAD_PROGRESS=1e9/5", Notification(malformed=1)),
        (b"X_EPAD_VRAM_WANTED=5 GiB", Notification(malformed=1)),
        (b"X_EPAD_VRAM_WANTED=-1", Notification(malformed=1)),
        ("X_EPAD_PROGRESS=٣/٤".encode(), Notification(malformed=1)),
        (b"X_EPAD_PROGRESS=" + b"9" * 4000 + b"/1", Notification(malformed=1)),
        (b"READY=1\n" + b"x" * MAX_DATAGRAM_BYTES, Notification(malformed=1)),
    ],
)
def test_each_line_means_what_it_should(datagram: bytes, expected: Notification) -> None:
    """Known fields are read, unknown ones let pass, nonsense counted."""
    assert parse_notification(datagram) == expected


@given(st.binary(max_size=2 * MAX_DATAGRAM_BYTES))
def test_no_datagram_can_raise(datagram: bytes) -> None:
    """Whatever a child sends, the daemon goes on, and shows only printable, short text."""
    notification = parse_notification(datagram)
    status = notification.status or ""
    assert len(status) <= MAX_STATUS_CHARACTERS
    assert status.isprintable()


def test_a_status_cannot_move_a_cursor() -> None:
    """Control characters of a child reach nobody's terminal."""
    assert parse_notification(b"STATUS=\x1b[2Jok\r").status == "?[2Jok?"


class Listener:
    """A socket and what came in by it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.heard: list[Notification] = []
        self.socket = NotifySocket(path, self.heard.append, structlog.get_logger())

    def send(self, datagram: bytes) -> None:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as client:
            client.sendto(datagram, str(self.path))


async def test_datagrams_arrive_in_order_by_a_private_socket(directory: Path) -> None:
    """One subsystem, one socket, the owner's alone."""
    listener = Listener(directory / "notify" / "a.sock")
    listener.socket.open()
    assert stat.S_IMODE(listener.path.stat().st_mode) == 0o600
    listener.send(b"STATUS=one")
    listener.send(b"READY=1")
    await until(lambda: len(listener.heard) == 2)
    assert listener.heard == [Notification(status="one"), Notification(ready=True)]
    listener.socket.close()


async def test_rubbish_is_counted_and_logged_sparingly(directory: Path) -> None:
    """A child cannot fill the daemon's log with its own mistakes."""
    listener = Listener(directory / "a.sock")
    listener.socket.open()
    with capture_logs() as logs:
        for _ in range(5):
            listener.send(b"rubbish\nmore rubbish")
            await until(lambda: len(listener.heard) > 0)
            listener.heard.clear()
    assert listener.socket.malformed == 10
    assert [log["lines"] for log in logs] == [2, 4, 8]
    listener.socket.close()


async def test_a_socket_cleaned_away_is_bound_again(directory: Path) -> None:
    """A cleaner of temporary files makes nobody deaf (supervisor#1105)."""
    listener = Listener(directory / "a.sock")
    listener.socket.open()
    listener.path.unlink()
    listener.socket.ensure()
    listener.send(b"READY=1")
    await until(lambda: listener.heard == [Notification(ready=True)])
    before = listener.path.stat().st_ino
    listener.socket.ensure()
    assert listener.path.stat().st_ino == before
    listener.socket.close()


async def test_a_child_of_an_earlier_epad_is_heard_by_the_path_it_was_given(directory: Path) -> None:
    """That was beside the directory in which the socket is now; a socket that another daemon binds is found too."""
    former = Listener(directory / "a.sock")
    former.socket.open()
    former.socket.close()
    for _ in range(2):
        listener = Listener(directory / "a" / "sock")
        listener.socket.open()
        former.send(b"READY=1")
        await until(lambda: listener.heard == [Notification(ready=True)])  # noqa: B023 (it is waited for here)
        listener.socket.close()


async def test_no_former_path_is_made_where_there_was_none(directory: Path) -> None:
    """A new directory holds what is used."""
    listener = Listener(directory / "a" / "sock")
    listener.socket.open()
    assert [path.name for path in directory.iterdir()] == ["a"]
    listener.socket.close()


async def test_a_path_too_long_is_named(directory: Path) -> None:
    """The kernel's limit is told with its way out."""
    listener = Listener(directory / ("x" * 120))
    with pytest.raises(SupervisorError, match="runtime_directory"):
        listener.socket.open()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
async def test_a_socket_stays_its_users_and_its_directory_the_daemons(directory: Path) -> None:
    """Bound again it is the user's still, also after somebody has cleaned it away; no link of theirs can be there."""
    directories = Directories(directory / "state", directory / "run")
    path = directories.notify_socket("a")
    for _ in range(2):
        listener = Listener(path)
        listener.socket.open()
        give(directories, "a", 12345, None)
        listener.socket.ensure()
        path.unlink()
        listener.socket.ensure()
        listener.socket.close()
        assert (path.lstat().st_uid, stat.S_IMODE(path.lstat().st_mode)) == (12345, 0o600)
        assert (path.parent.stat().st_uid, stat.S_IMODE(path.parent.stat().st_mode)) == (0, 0o711)
    again = Listener(path)
    again.socket.open()
    assert path.lstat().st_uid == 12345
    again.socket.close()
