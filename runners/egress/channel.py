"""Carry messages over a socket pair between the daemon and the way out, with descriptors beside them."""

from __future__ import annotations

import asyncio
import socket
from collections import deque
from collections.abc import Callable, Sequence
from typing import Final

from runners.egress.messages import LARGEST_MESSAGE

_MOST_DESCRIPTORS: Final = 4
_MOST_WAITING: Final = 10_000

OnMessage = Callable[[bytes, Sequence[int]], None]


class Channel:
    """One end of the pair. `on_end` is called once: when the other end is gone, or has not read for too long."""

    def __init__(self, end: socket.socket, on_message: OnMessage, on_end: Callable[[], None]) -> None:
        end.setblocking(False)
        self._end = end
        self._on_message = on_message
        self._on_end = on_end
        self._waiting: deque[tuple[bytes, Sequence[int]]] = deque()
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(end.fileno(), self._receive)

    @staticmethod
    def pair() -> tuple[socket.socket, socket.socket]:
        """Make the two sockets; each message arrives whole, or not at all."""
        return socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)

    def send(self, message: bytes, descriptors: Sequence[int] = ()) -> None:
        """Send a message at once, or when the other end has read. The descriptors must stay open until then."""
        if self._end.fileno() < 0:
            return
        if self._waiting or not self._send_now(message, descriptors):
            if not self._waiting:
                self._loop.add_writer(self._end.fileno(), self._send_waiting)
            self._waiting.append((message, descriptors))
            if len(self._waiting) > _MOST_WAITING:
                self._finish()

    def close(self) -> None:
        """Close this end; `on_end` is not called."""
        if self._end.fileno() >= 0:
            self._loop.remove_reader(self._end.fileno())
            self._loop.remove_writer(self._end.fileno())
            self._end.close()

    def _send_now(self, message: bytes, descriptors: Sequence[int]) -> bool:
        try:
            if descriptors:
                socket.send_fds(self._end, [message], list(descriptors))
            else:
                self._end.send(message)
        except (BlockingIOError, InterruptedError):
            return False
        except OSError:  # the other end is gone: the reader hears of it
            return True
        return True

    def _send_waiting(self) -> None:
        while self._waiting and self._send_now(*self._waiting[0]):
            self._waiting.popleft()
        if not self._waiting:
            self._loop.remove_writer(self._end.fileno())

    def _receive(self) -> None:
        """Take one message; others have their turn before the next."""
        try:
            message, descriptors, _, _ = socket.recv_fds(self._end, LARGEST_MESSAGE, _MOST_DESCRIPTORS)
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            message, descriptors = b"", []
        if message:
            self._on_message(message, descriptors)
        else:
            self._finish()

    def _finish(self) -> None:
        self.close()
        self._on_end()
