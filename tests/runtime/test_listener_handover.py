"""Sockets that outlive the daemon: handed on, taken once, ended on purpose, and never a child's."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from patience import PATIENCE_SECONDS

from epad.runtime.listener_handover import Handover, address_of
from epad.runtime.systemd_notify import notify

CLAIM = """
import os, sys
from epad.runtime.listener_handover import Handover
if sys.argv[1] == "systemd":
    os.environ["LISTEN_PID"] = str(os.getpid())
    os.dup2(int(sys.argv[3]), 3)
taken = Handover(os.environ).take(("127.0.0.1", int(sys.argv[2])))
print(taken is not None and not taken.get_inheritable(), sorted(name for name in os.environ if "LISTEN" in name))
if taken:
    taken.accept()[0].sendall(b"here")
"""


class Told:
    """What the manager would have been told."""

    def __init__(self) -> None:
        self.lines: list[tuple[str, ...]] = []
        self.descriptors: list[int] = []

    def __call__(self, *lines: str, descriptors: list[int] | None = None) -> bool:
        self.lines.append(lines)
        self.descriptors += descriptors or []
        return True


@pytest.fixture
def listening() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as one:
        yield one


def test_a_copy_goes_on_listening_until_it_is_dropped(listening: socket.socket) -> None:
    """A client that comes between two daemons waits; one that comes after the end is refused."""
    told, place = Told(), listening.getsockname()
    handover = Handover({}, told)
    handover.keep(listening)
    listening.close()
    with socket.create_connection(place):
        pass
    with socket.socket(fileno=os.dup(told.descriptors[0])) as same:
        handover.drop(same)
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(place)
    [stored, removed] = told.lines
    assert (stored[0], removed[0]) == ("FDSTORE=1", "FDSTOREREMOVE=1")
    assert stored[1] == removed[1]
    assert ":" not in stored[1]


def test_of_two_sockets_at_one_path_each_is_dropped_alone(tmp_path: Path) -> None:
    """A door that takes a path over is there before the one that had it goes; what is handed on is the new one."""
    told, path, environment = Told(), str(tmp_path / "door"), dict[str, str]()
    handover = Handover(environment, told)
    with bound(path) as former:
        handover.keep(former)
        Path(path).unlink()
        with bound(path) as new:
            handover.keep(new)
            handover.drop(former)
            stored, kept, removed = (line[1] for line in told.lines)
            assert removed == stored != kept
            handover.inherit()
            assert os.path.sameopenfile(int(environment["EPAD_LISTENING"]), new.fileno())
            handover.end()


def test_two_sockets_that_were_left_at_one_path_are_both_closed(tmp_path: Path) -> None:
    """The daemon was killed between the two, and nobody knows to which of them the path leads; one alone is taken."""
    told, path, alone = Told(), str(tmp_path / "door"), str(tmp_path / "alone")
    with bound(path) as one, bound(alone) as another:
        Path(path).unlink()
        with bound(path) as other:
            numbers = [os.dup(each.fileno()) for each in (one, other, other, another, another)]
        handover = Handover({"EPAD_LISTENING": ",".join(map(str, numbers))}, told)
    assert [line[0] for line in told.lines] == ["FDSTOREREMOVE=1"] * 2
    assert told.lines[0] != told.lines[1]
    assert handover.take(path) is None
    with pytest.raises(ConnectionRefusedError), socket.socket(socket.AF_UNIX) as client:
        client.connect(path)
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(alone)
    handover.end()


def bound(path: str) -> socket.socket:
    listening = socket.socket(socket.AF_UNIX)
    listening.bind(path)
    listening.listen()
    return listening


@pytest.mark.parametrize("way", ["exec", "systemd"])
def test_the_next_program_takes_what_was_left(listening: socket.socket, way: str) -> None:
    """By what an upgrade names, or by what systemd kept; its own children get neither the socket nor the words."""
    environment = dict(os.environ)
    handover = Handover(environment, Told())
    handover.keep(listening)
    port = listening.getsockname()[1]
    if way == "exec":
        handover.inherit()
        number = int(environment["EPAD_LISTENING"])
    else:
        environment["LISTEN_FDS"] = "1"
        number = listening.fileno()
    with socket.create_connection(listening.getsockname()) as waiting:
        done = subprocess.run(
            [sys.executable, "-c", CLAIM, way, str(port), str(number)],
            env=environment, pass_fds=[number], capture_output=True, text=True, check=False, timeout=PATIENCE_SECONDS,
        )  # fmt: skip
        listening.close()
        assert (done.stdout.strip(), done.stderr) == ("True []", "")
        assert waiting.recv(9) == b"here"
    handover.end()


def test_what_nobody_takes_is_closed(listening: socket.socket) -> None:
    """The configuration listens elsewhere now; an address is taken once."""
    number = os.dup(listening.fileno())
    handover = Handover({"EPAD_LISTENING": str(number)}, Told())
    listening.close()
    place = listening_place(number)
    handover.close_the_rest()
    assert handover.take(place) is None
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(place)


def listening_place(number: int) -> tuple[str, int]:
    with socket.socket(fileno=os.dup(number)) as copy:
        place = address_of(copy)
        assert isinstance(place, tuple)
        return place


@pytest.mark.parametrize("said", ["", "x", "-1", "99999", "3,", "1e3"])
def test_words_that_name_no_socket_are_none(said: str) -> None:
    """Descriptors that are closed, or files: what listens is taken and nothing else."""
    handover = Handover(
        {"EPAD_LISTENING": said.replace("3,", str(os.open("/dev/null", os.O_RDONLY)))}, Told()
    )
    handover.end()


def test_another_process_is_meant(listening: socket.socket) -> None:
    """LISTEN_PID names who the descriptors are for (sd_listen_fds(3))."""
    handover = Handover({"LISTEN_PID": "1", "LISTEN_FDS": "1"}, Told())
    assert handover.take(listening.getsockname()) is None


def test_the_manager_gets_the_socket_itself(listening: socket.socket, tmp_path: Path) -> None:
    """FDSTORE=1 with the descriptor beside it (sd_pid_notify_with_fds(3)); words alone carry none."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "n"))
        manager.settimeout(60)
        environment = {"NOTIFY_SOCKET": str(tmp_path / "n")}
        assert notify("FDSTORE=1", descriptors=[listening.fileno()], environment=environment)
        words, numbers, _, _ = socket.recv_fds(manager, 99, 2)
        with socket.socket(fileno=numbers[0]) as same:
            assert (words, same.getsockname()) == (b"FDSTORE=1", listening.getsockname())
        assert notify("READY=1", environment=environment)
        assert socket.recv_fds(manager, 99, 2)[:2] == (b"READY=1", [])
