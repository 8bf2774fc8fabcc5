"""Listening sockets that outlive the daemon: while it is exchanged, who connects waits and is not refused.

An upgrade hands them to the next program by inheritance, and names them in its environment. systemd keeps a second copy
of each in its store of descriptors (sd_notify(3), FDSTORE=1) and hands them to the daemon that it starts next, after
`kill -9` too. Nobody accepts meanwhile, so nothing is spent.
"""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Callable, Iterator, MutableMapping, Sequence

from epad.runtime.systemd_notify import notify

_INHERITED = "EPAD_LISTENING"
_FIRST_FROM_SYSTEMD = 3
_FROM_SYSTEMD = ("LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES")

Address = tuple[str, int] | str
"""Host and port, or the path of a Unix socket."""
Tell = Callable[..., bool]


class NoHandover:
    """For a gateway whose sockets end with it."""

    def take(self, address: Address) -> socket.socket | None:
        """Return None: no socket was handed over."""
        del address
        return None

    def keep(self, listening: socket.socket) -> None:
        """Keep nothing."""

    def drop(self, listening: socket.socket) -> None:
        """Do nothing: no socket is kept."""


class Handover(NoHandover):
    """The sockets of the daemon before, until they are taken; and copies of those of this one."""

    def __init__(self, environment: MutableMapping[str, str], tell: Tell = notify) -> None:
        """Take over the sockets this process was started with; children inherit none."""
        self._environment = environment
        self._tell = tell
        self._received: dict[Address, socket.socket] = {}
        self._kept: dict[str, socket.socket] = {}
        left: dict[Address, dict[str, socket.socket]] = {}
        for listening in _received(environment):
            one = left.setdefault(address_of(listening), {}).setdefault(_name(listening), listening)
            if one is not listening:
                listening.close()
        for address, sockets in left.items():
            if len(sockets) == 1:
                [self._received[address]] = sockets.values()
                continue
            # Killed while one door took a path over from another: nobody can say which of them it leads to.
            for listening in sockets.values():
                self.drop(listening)
                listening.close()

    def take(self, address: Address) -> socket.socket | None:
        """Return the socket that listens there already, if the daemon before has left one."""
        return self._received.pop(address, None)

    def keep(self, listening: socket.socket) -> None:
        """Have a copy outlive this daemon."""
        name = _name(listening)
        self._kept[name] = copy = listening.dup()
        self._tell("FDSTORE=1", f"FDNAME={name}", descriptors=[copy.fileno()])

    def drop(self, listening: socket.socket) -> None:
        """A socket, be it kept or taken, is about to be closed: nobody listens by it any more."""
        name = _name(listening)
        self._tell("FDSTOREREMOVE=1", f"FDNAME={name}")
        if name in self._kept:
            self._kept.pop(name).close()

    def close_the_rest(self) -> None:
        """Close the sockets that no listener has taken: the configuration now names other addresses."""
        for listening in self._received.values():
            self.drop(listening)
            listening.close()
        self._received.clear()

    def end(self) -> None:
        """No daemon comes after this one: who connects is refused."""
        self.close_the_rest()
        for copy in list(self._kept.values()):
            self.drop(copy)

    def inherit(self) -> None:
        """The program that this process becomes next gets the copies."""
        numbers = [copy.fileno() for copy in self._kept.values()]
        for number in numbers:
            os.set_inheritable(number, True)
        self._environment[_INHERITED] = ",".join(map(str, numbers))


def address_of(listening: socket.socket) -> Address:
    """Return the address a socket listens on."""
    name = listening.getsockname()
    return name if isinstance(name, str) else (str(name[0]), int(name[1]))


def _name(listening: socket.socket) -> str:
    """Return systemd's name for a socket in its store: by the socket itself, since two may share a path for a while."""
    return f"listen-{os.fstat(listening.fileno()).st_ino}"


def _received(environment: MutableMapping[str, str]) -> Iterator[socket.socket]:
    """Yield the sockets among the descriptors that this process was started with."""
    inherited = environment.pop(_INHERITED, "")
    said = [environment.pop(name, "") for name in _FROM_SYSTEMD]
    numbers = [int(number) for number in inherited.split(",") if number.isdecimal()]
    # An upgrade by exec keeps the process number, and with it what systemd said at the start: that is taken long since.
    if not numbers and said[0] == str(os.getpid()) and said[1].isdecimal():
        numbers = list(range(_FIRST_FROM_SYSTEMD, _FIRST_FROM_SYSTEMD + int(said[1])))
    yield from _listening(numbers)


def _listening(numbers: Sequence[int]) -> Iterator[socket.socket]:
    for number in numbers:
        with contextlib.suppress(OSError):
            one = socket.socket(fileno=number)
            one.set_inheritable(False)
            if one.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
                yield one
            else:
                one.close()
