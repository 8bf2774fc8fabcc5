"""The Unix socket itself: made without a moment in which it is open to all, and who is at its other end."""

from __future__ import annotations

import contextlib
import errno
import grp
import os
import pwd
import select
import socket
import stat
import struct
from pathlib import Path
from typing import Protocol

from epad import EpadError
from epad.configuration.directories import MAX_SOCKET_PATH_BYTES
from epad.operations.protocol import Peer

# Anybody may connect; what they may do is decided by their credentials, which the kernel vouches for. So an observer
# needs no group, and the daemon no right to give the socket to one.
SOCKET_MODE = 0o666

_SO_PEERPIDFD = 77  # likewise; Linux 6.5
_SO_PEERGROUPS = 59  # <asm-generic/socket.h>; Python has no name for it
_MAX_GROUP_BYTES = 1_024  # the most Python's getsockopt takes: 256 groups


class ControlSocketError(EpadError):
    """The control socket could not be made; the message names the path and the fix."""


class HasSocketOptions(Protocol):
    """A socket, or asyncio's view of one."""

    def getsockopt(self, level: int, option: int, size: int, /) -> bytes:
        """Read one option."""
        ...


def group_id(name: str) -> int | None:
    """Return the id of the operator group; None for an empty name. Raises ControlSocketError."""
    if not name:
        return None
    try:
        return grp.getgrnam(name).gr_gid
    except KeyError as error:
        raise ControlSocketError(
            f"control.operator_group: there is no group {name!r}; make it (groupadd {name}) or leave it empty"
        ) from error


def bind(path: Path) -> socket.socket:
    """Bind the socket. Raises ControlSocketError.

    Until it listens every connection is refused, so its mode is right before anyone gets in.
    """
    if len(os.fsencode(path)) > MAX_SOCKET_PATH_BYTES:
        raise ControlSocketError(
            f"{path}: longer than the {MAX_SOCKET_PATH_BYTES} bytes a Unix socket's path may have; "
            "set daemon.runtime_directory to a shorter one"
        )
    _clear_stale(path)
    server = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
    try:
        server.bind(str(path))
        path.chmod(SOCKET_MODE)
    except OSError as error:
        server.close()
        raise ControlSocketError(f"{path}: {error.strerror}; check daemon.runtime_directory") from error
    return server


def _clear_stale(path: Path) -> None:
    """Take away the socket of a daemon that died; never one that answers, never another kind of file."""
    try:
        mode = path.lstat().st_mode
    except FileNotFoundError:
        return
    except OSError as error:
        raise ControlSocketError(f"{path}: {error.strerror}; check daemon.runtime_directory") from error
    if not stat.S_ISSOCK(mode):
        raise ControlSocketError(f"{path}: there is something else than a socket; move it away")
    with socket.socket(socket.AF_UNIX) as probe:
        probe.settimeout(1.0)
        try:
            probe.connect(str(path))
        except ConnectionRefusedError:
            with contextlib.suppress(FileNotFoundError):
                path.unlink()
        except FileNotFoundError:
            return
        except OSError as error:
            raise ControlSocketError(f"{path}: {error.strerror}; is another epad running?") from error
        else:
            raise ControlSocketError(f"{path}: another epad answers here; stop it, or use --state DIR")


def peer_of(connection: HasSocketOptions) -> Peer:
    """Return the user at the other end, as the kernel recorded it at the connect. Raises OSError."""
    credentials = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
    pid, uid, gid = struct.unpack("3i", credentials)
    try:
        packed = connection.getsockopt(socket.SOL_SOCKET, _SO_PEERGROUPS, _MAX_GROUP_BYTES)
    except OSError:
        # More groups than fit: the primary one alone is less than the peer may be entitled to, never more.
        packed = b""
    groups = struct.unpack(f"{len(packed) // 4}I", packed)
    return Peer(pid, uid, (gid, *groups))


def user_name(uid: int) -> str:
    """Return the name of a user of this machine; empty if there is none."""
    try:
        return pwd.getpwuid(uid).pw_name
    except (KeyError, OverflowError):
        return ""


def has_ended(connection: HasSocketOptions) -> bool:
    """Tell if the process that connected is not there any more, so that its pid may be another's by now.

    Linux before 6.5 cannot tell: then the pid alone is asked, which `ProcessTable` does.
    """
    try:
        (descriptor,) = struct.unpack("i", connection.getsockopt(socket.SOL_SOCKET, _SO_PEERPIDFD, 4))
    except OSError as error:
        return error.errno != errno.ENOPROTOOPT  # of a process that is gone there is no descriptor
    try:
        waiting = select.poll()
        waiting.register(descriptor, select.POLLIN)
        return bool(waiting.poll(0))  # it can be read once the process has ended
    finally:
        os.close(descriptor)
