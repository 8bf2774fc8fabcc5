"""Making the control socket, and knowing who connects to it."""

from __future__ import annotations

import os
import socket
import struct
from pathlib import Path

import pytest
from fake_operations import FakeOperations

from epad.api.server import ControlApi
from epad.api.unix import ControlSocketError, bind, group_id, peer_of


def test_a_socket_that_no_one_listens_on_is_replaced(directory: Path) -> None:
    """A daemon that was killed leaves its socket behind; the next one starts all the same."""
    path = directory / "control.sock"
    bind(path).close()
    assert path.is_socket()
    with bind(path) as server:
        server.listen()
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(str(path))


async def test_a_socket_that_answers_is_left_alone(directory: Path) -> None:
    """A second daemon is refused with the reason, and the first goes on."""
    path = directory / "control.sock"
    first = ControlApi(FakeOperations(), path)
    await first.start()
    with pytest.raises(ControlSocketError, match="another epad answers"):
        await ControlApi(FakeOperations(), path).start()
    assert path.is_socket()
    await first.stop()


async def test_stopping_leaves_the_socket_of_a_successor(directory: Path) -> None:
    """A daemon takes away its own socket only, whatever stands at the path by then."""
    path = directory / "control.sock"
    api = ControlApi(FakeOperations(), path)
    await api.start()
    path.rename(directory / "moved.sock")
    with bind(path):
        await api.stop()
        assert path.is_socket()


def test_another_kind_of_file_is_never_removed(directory: Path) -> None:
    """The path may be misconfigured; what lies there is someone's."""
    path = directory / "control.sock"
    path.write_text("precious")
    with pytest.raises(ControlSocketError, match="something else than a socket"):
        bind(path)
    assert path.read_text() == "precious"


def test_a_symbolic_link_is_not_followed(directory: Path) -> None:
    """Not even to a socket: who can place a link must not choose what is unlinked or served."""
    bind(directory / "real.sock").close()
    (directory / "control.sock").symlink_to(directory / "real.sock")
    with pytest.raises(ControlSocketError, match="something else"):
        bind(directory / "control.sock")


def test_a_path_too_long_for_a_socket_is_named_with_the_fix(directory: Path) -> None:
    """108 bytes of sun_path, said in words instead of `AF_UNIX path too long`."""
    with pytest.raises(ControlSocketError, match="runtime_directory"):
        bind(directory / ("x" * 100) / "control.sock")


def test_a_missing_directory_is_named(directory: Path) -> None:
    """The message holds the path, not only the errno's words."""
    with pytest.raises(ControlSocketError, match=r"absent/control\.sock"):
        bind(directory / "absent" / "control.sock")


def test_nobody_gets_in_before_its_mode_is_right(directory: Path) -> None:
    """Until the socket listens, every connection is refused."""
    path = directory / "control.sock"
    with (
        bind(path),
        socket.socket(socket.AF_UNIX) as client,
        pytest.raises(ConnectionRefusedError),
    ):
        client.connect(str(path))


def test_the_kernel_says_who_connects() -> None:
    """uid, pid and every group, without asking the peer."""
    left, right = socket.socketpair(socket.AF_UNIX)
    with left, right:
        peer = peer_of(left)
    assert (peer.pid, peer.uid) == (os.getpid(), os.getuid())
    assert set(peer.gids) == {os.getgid(), *os.getgroups()}


def test_more_groups_than_fit_means_fewer_rights_never_more() -> None:
    """With ERANGE for the groups, the primary group alone counts."""

    class Crowded:
        def getsockopt(self, level: int, option: int, size: int) -> bytes:
            if option == socket.SO_PEERCRED:
                return struct.pack("3i", 5, 1000, 1001)
            raise OSError(34, "Numerical result out of range")

    assert peer_of(Crowded()).gids == (1001,)


def test_an_operator_group_that_does_not_exist_is_an_error() -> None:
    """Said at the start, not found out when an operator is refused."""
    assert group_id("") is None
    with pytest.raises(ControlSocketError, match="no-such-group-epad"):
        group_id("no-such-group-epad")
