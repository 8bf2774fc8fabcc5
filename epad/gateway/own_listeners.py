"""Listen for the gateway: at one address for everyone, and at one for each subsystem with its own.

Whoever comes through a subsystem's own door is that subsystem, with or without a key: the kernel says which
socket it was, and of a Unix socket who is at its other end.
"""

from __future__ import annotations

import contextlib
import os
import pwd
import socket
import stat
import struct
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from epad.configuration.directories import MAX_SOCKET_PATH_BYTES
from epad.configuration.schema import SubsystemConfig
from epad.gateway.errors import GatewayError
from epad.gateway.http.server import HttpServer

_UNIX = "unix:"
_ACCESS_LIST = "system.posix_acl_access"
_OWNER, _USER, _GROUP, _MASK, _OTHER = 0x01, 0x02, 0x04, 0x10, 0x20


@dataclass(frozen=True, slots=True)
class Door:
    """A subsystem's own listener, and the uid that alone may use it or the subsystem's key on a Unix socket."""

    subsystem: str
    listen: str
    uid: int | None

    @property
    def path(self) -> Path | None:
        """Return the path of its Unix socket."""
        return Path(self.listen.removeprefix(_UNIX)) if self.listen.startswith(_UNIX) else None


def doors(subsystems: Mapping[str, SubsystemConfig], known: Iterable[Door] = ()) -> tuple[Door, ...]:
    """Return the doors that a configuration asks for; every subsystem with a gateway has its uid among them.

    `known` are those that are there already, whose users stay. Raises GatewayError for a user whom this machine
    does not know.
    """
    uids = {door.subsystem: door.uid for door in known}
    return tuple(
        Door(name, spec.listen, uids[name] if name in uids else _uid(name, spec.user))
        for name, spec in subsystems.items()
        if spec.gateway
    )


async def open_door(server: HttpServer, door: Door) -> None:
    """Listen at a door. Raises GatewayError."""
    path = door.path
    try:
        if path is None:
            host, _, port = door.listen.rpartition(":")
            await server.listen(host.strip("[]"), int(port), door.subsystem)
        else:
            server.listen_on(_left_at(server, path, door.uid) or _bind(path, door.uid), door.subsystem)
    except OSError as error:
        raise _not_to_be_had(door, error) from error


def set_aside(door: Door) -> Path | None:
    """Move the socket that a door's path leads to out of its way; None if there is none. Raises GatewayError.

    Whoever knows the path is served by it again after `put_back`.
    """
    path = door.path
    if path is None:
        return None
    aside = path.with_name(f"{path.name}.before")
    try:
        if not stat.S_ISSOCK(path.lstat().st_mode):
            return None
        path.rename(aside)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise _not_to_be_had(door, error) from error
    return aside


def put_back(door: Door, aside: Path | None) -> None:
    """Lead a listener's path to the file set aside, or to nothing. A file that is no socket is not the listener's."""
    path = door.path
    if path is None:
        return
    with contextlib.suppress(OSError):
        if aside is not None:
            aside.replace(path)
        elif stat.S_ISSOCK(path.lstat().st_mode):
            path.unlink()


def _not_to_be_had(door: Door, error: OSError) -> GatewayError:
    where = f"[subsystems.{door.subsystem}] listen: {door.listen}"
    return GatewayError(f"{where} cannot be listened on: {error}")


def _uid(name: str, user: str) -> int | None:
    if not user:
        return None
    if user.isdecimal():
        return int(user)
    try:
        return pwd.getpwnam(user).pw_uid
    except KeyError as error:
        raise GatewayError(
            f"[subsystems.{name}] user: this machine knows no {user!r}; make the user"
        ) from error


def _left_at(server: HttpServer, path: Path, uid: int | None) -> socket.socket | None:
    """The socket of the daemon before, if its path leads to a socket still, and lets in whom it is for."""
    left = server.handover.take(str(path))
    if left is not None and not _is_for(path, uid):
        server.handover.drop(left)
        left.close()
        return None
    return left


def _is_for(path: Path, uid: int | None) -> bool:
    """Say whether a path leads to a socket that `_bind` would have made for this user."""
    try:
        there = path.lstat()
    except OSError:
        return False
    own = os.geteuid()
    wanted = own if uid is None else uid
    if not stat.S_ISSOCK(there.st_mode) or there.st_uid not in {wanted, own}:
        return False
    try:
        listed = os.getxattr(path, _ACCESS_LIST, follow_symlinks=False)
    except OSError:
        listed = b""  # there is none, or the file system knows none
    return listed == (b"" if there.st_uid == wanted else _access_list(wanted))


def _bind(path: Path, uid: int | None) -> socket.socket:
    """Return a socket for one user: closed to all others before it listens. Raises OSError."""
    if len(os.fsencode(path)) > MAX_SOCKET_PATH_BYTES:
        raise OSError(f"a Unix socket's path has at most {MAX_SOCKET_PATH_BYTES} bytes")
    with contextlib.suppress(FileNotFoundError):
        if stat.S_ISSOCK(path.lstat().st_mode):
            path.unlink()  # of a former life: the daemon's lock says that no other runs
    server = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
    try:
        server.bind(str(path))
        path.chmod(0o600)
        if uid is not None and uid != os.geteuid():
            _give(path, uid)
    except OSError:
        server.close()
        raise
    return server


def _give(path: Path, uid: int) -> None:
    """Let one more user connect. Raises OSError.

    A daemon without special rights may give nothing away, but it may name a user in the access list of its own file
    (acl(5)).
    """
    try:
        os.chown(path, uid, -1)
    except PermissionError:
        os.setxattr(path, _ACCESS_LIST, _access_list(uid))


def _access_list(uid: int) -> bytes:
    """Reading and writing for the owner and one user, nothing for others, as posix_acl_xattr.h lays it out."""
    nobody = 0xFFFF_FFFF
    entries = (
        (_OWNER, 6, nobody),
        (_USER, 6, uid),
        (_GROUP, 0, nobody),
        (_MASK, 6, nobody),
        (_OTHER, 0, nobody),
    )
    return struct.pack("<I", 2) + b"".join(struct.pack("<HHI", *entry) for entry in entries)
