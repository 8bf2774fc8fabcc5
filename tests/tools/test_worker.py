"""Frames of workers: cut as they come, in whatever pieces; what no worker says ends the connection."""

from __future__ import annotations

import asyncio
import struct
from itertools import pairwise

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from epad.tools.worker import MOST_FRAME_BYTES, Asked, Frames, WorkerAnswer


def frame(body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + body


def received(pieces: list[bytes]) -> tuple[list[bytes], bool]:
    """The frames in pieces that come one after the other, and whether the connection was ended by them."""

    async def feed() -> tuple[list[bytes], bool]:
        frames, got = Frames(), list[bytes]()
        frames.received = got.append
        for piece in pieces:
            frames.data_received(piece)
        return got, frames.ended.done()

    return asyncio.run(feed())


@given(st.lists(st.binary(max_size=40), max_size=6), st.lists(st.integers(0, 300), max_size=8))
def test_frames_come_whole_in_whatever_pieces(bodies: list[bytes], cuts: list[int]) -> None:
    sent = b"".join(map(frame, bodies))
    edges = [0, *sorted(min(cut, len(sent)) for cut in cuts), len(sent)]
    pieces = [sent[start:end] for start, end in pairwise(edges)]

    assert received(pieces) == (bodies, False)


def test_a_part_of_a_frame_is_none() -> None:
    assert received([frame(b"whole"), frame(b"in part")[:-1]]) == ([b"whole"], False)


def test_a_frame_over_the_limit_ends_the_connection_and_nothing_after_it_counts() -> None:
    too_large = struct.pack(">I", MOST_FRAME_BYTES + 1)

    assert received([frame(b"before"), too_large, frame(b"after")]) == ([b"before"], True)
    assert received([frame(b"before") + too_large + frame(b"after")]) == ([b"before"], True)


def test_what_cannot_be_read_ends_the_connection() -> None:
    async def feed() -> bool:
        frames = Frames()
        frames.received = msgspec.json.decode
        frames.data_received(frame(b"{}"))
        was_ended = frames.ended.done()
        frames.data_received(frame(b"{"))
        return frames.ended.done() and not was_ended

    assert asyncio.run(feed())


def test_an_answer_is_waited_for_no_longer_than_allowed() -> None:
    async def wait() -> asyncio.Future[WorkerAnswer]:
        asked = Asked(1, asyncio.get_running_loop().create_future())
        with pytest.raises(TimeoutError):
            await asked.within(0)
        return asked.answer

    assert asyncio.run(wait()).cancelled()
