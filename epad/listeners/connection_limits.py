"""The connections of one listener: counted, bounded, and the idle ones sent away where there is no room for another.

Whoever opens connections and says nothing takes up a descriptor with each. The longest silent goes first, then the
longest idle; one that is being answered is never sent away. So a client that asks something is let in, however many
others stand there silent.
"""

from __future__ import annotations

import socket
import struct
from collections import Counter
from typing import Protocol

_CREDENTIALS = struct.Struct("3i")
# Looking for the idle goes through all: a sixteenth is sent away at once, so that this is not done for each.
_SENT_AWAY_PART = 16


class Guest(Protocol):
    """A connection."""

    @property
    def busy(self) -> bool:
        """Tell if one of its requests is being answered."""
        ...

    @property
    def heard(self) -> bool:
        """Tell if it has ever sent anything."""
        ...

    since: float
    """When it came, began to say something, or was last seen being answered."""

    def send_away(self) -> None:
        """Close it at once."""
        ...


class Crowd:
    """Counts the connections by their origin."""

    def __init__(self, most: int, most_each: int) -> None:
        """`most` at once, `most_each` of one origin that can be told from others."""
        self._most = most
        self._most_each = most_each
        self._guests: dict[Guest, str] = {}
        self._origins: Counter[str] = Counter()
        self.refused = 0

    def __len__(self) -> int:
        return len(self._guests)

    def admits(self, origin: str) -> bool:
        """Tell if there is room for another of that origin; idle ones are closed for it."""
        if len(self._guests) >= self._most and not self.thin():
            self.refused += 1
            return False
        if origin and self._origins[origin] >= self._most_each and not self.thin(origin):
            self.refused += 1
            return False
        return True

    def enter(self, guest: Guest, origin: str) -> None:
        """Another is there."""
        self._guests[guest] = origin
        self._origins[origin] += 1

    def leave(self, guest: Guest) -> None:
        """Remove a connection; it may be gone already."""
        origin = self._guests.pop(guest, None)
        if origin is None:
            return
        self._origins[origin] -= 1
        if not self._origins[origin]:
            del self._origins[origin]

    def thin(self, origin: str | None = None) -> int:
        """Send away a part of the idle, of one origin or of all; return how many went."""
        of_these = [each for each, its in self._guests.items() if origin is None or its == origin]
        idle = sorted(
            (each.heard, each.since, number) for number, each in enumerate(of_these) if not each.busy
        )
        doomed = [of_these[number] for _, _, number in idle[: max(1, len(of_these) // _SENT_AWAY_PART)]]
        for guest in doomed:
            self.leave(guest)
            guest.send_away()
        return len(doomed)

    def age_from(self, now: float) -> None:
        """Restart the idle time of the busy connections: it begins now at the earliest."""
        for guest in self._guests:
            if guest.busy:
                guest.since = now

    def expired(self, silent_before: float, idle_before: float) -> list[Guest]:
        """Return the connections that have been silent for too long, since they came or since their last request."""
        return [
            each
            for each in self._guests
            if not each.busy and each.since < (idle_before if each.heard else silent_before)
        ]


def origin_of(client: socket.socket) -> str:
    """Return the origin of a connection: the uid at a Unix socket, the address of another machine; else empty.

    Whose a connection over loopback is, the kernel tells only to who reads the table of all connections: too much
    work for each that comes.
    """
    if client.family == socket.AF_UNIX:
        raw = client.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
        return f"uid:{_CREDENTIALS.unpack(raw)[1]}"
    host = str(client.getpeername()[0])
    return "" if host == "::1" or host.removeprefix("::ffff:").startswith("127.") else host
