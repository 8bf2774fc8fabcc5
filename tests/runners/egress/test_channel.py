"""The channel between the daemon and the way out: whole messages, descriptors, and what happens when one end stops."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Sequence

from patience import until

from runners.egress.channel import Channel


class End:
    """One end, with what it was sent."""

    def __init__(self, end: socket.socket) -> None:
        self.messages: list[bytes] = []
        self.descriptors: list[int] = []
        self.ended = asyncio.Event()
        self.channel = Channel(end, self._take, self.ended.set)

    def _take(self, message: bytes, descriptors: Sequence[int]) -> None:
        self.messages.append(message)
        self.descriptors += descriptors


async def test_messages_arrive_whole_and_in_order() -> None:
    """More than the socket holds at once: they wait, and none is lost."""
    one, other = map(End, Channel.pair())
    sent = [b"%d:" % number + bytes(number * 20) for number in range(1, 2_000)]
    for message in sent:
        one.channel.send(message)
    await until(lambda: len(other.messages) == len(sent))
    assert other.messages == sent
    one.channel.close()
    await other.ended.wait()


async def test_a_descriptor_comes_with_its_message() -> None:
    one, other = map(End, Channel.pair())
    with socket.create_server(("127.0.0.1", 0)) as listener:
        one.channel.send(b"take it", [listener.fileno()])
        await until(lambda: other.messages)
        with socket.socket(fileno=other.descriptors[0]) as copy:
            assert copy.getsockname() == listener.getsockname()
            assert os.fstat(copy.fileno()).st_ino == os.fstat(listener.fileno()).st_ino
    for end in (one, other):
        end.channel.close()


async def test_an_end_that_is_gone_is_told_and_not_waited_for() -> None:
    one, other = map(End, Channel.pair())
    other.channel.close()
    await one.ended.wait()
    one.channel.send(b"nobody hears it")


async def test_an_end_that_reads_no_more_ends_the_channel() -> None:
    """Rather than to take memory for ever."""
    ours, theirs = Channel.pair()
    one = End(ours)
    for _ in range(20_000):
        one.channel.send(bytes(1_000))
    assert one.ended.is_set()
    theirs.close()
