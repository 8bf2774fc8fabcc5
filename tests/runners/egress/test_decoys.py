"""Decoys in what goes out in clear: found as they stand, however the body comes."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runners.egress.decoys import DecoyWatch
from runners.egress.refusal import RefusedError, Why

KEY = "shared-part-and-40-characters-of-a-key+/"
WATCH = DecoyWatch(("another-key-of-a-neighbour", KEY))


async def pieces(parts: Iterable[bytes]) -> AsyncIterator[bytes]:
    for part in parts:
        yield part


async def passed(watch: DecoyWatch, *parts: bytes) -> bytes:
    return b"".join([piece async for piece in watch.pieces(pieces(parts))])


def test_a_decoy_in_a_head_is_refused() -> None:
    """Anybody's; what only looks like one passes."""
    for key in (KEY, "another-key-of-a-neighbour"):
        with pytest.raises(RefusedError) as refused:
            WATCH.check(f"x: {key}".encode())
        assert refused.value.why is Why.DECOY
    WATCH.check(KEY[:-1].encode())
    DecoyWatch(()).check(KEY.encode())


async def sent_before_it(*parts: bytes) -> bytes:
    """What was sent of a body until it was refused."""
    sent = b""
    with contextlib.suppress(RefusedError):
        async for piece in WATCH.pieces(pieces(parts)):
            sent += piece
    return sent


@given(st.integers(0, len(KEY)), st.binary(max_size=50), st.binary(max_size=50))
async def test_a_decoy_in_a_body_is_refused_however_it_comes(cut: int, before: bytes, after: bytes) -> None:
    """In two pieces or byte by byte; its last byte is not sent."""
    body = before + KEY.encode() + after
    at = len(before) + cut
    for parts in ([body[:at], body[at:]], [body[one : one + 1] for one in range(len(body))]):
        with pytest.raises(RefusedError):
            await passed(WATCH, *parts)
        assert KEY.encode() not in await sent_before_it(*parts)


@given(st.lists(st.binary(max_size=60), max_size=6))
async def test_any_other_body_passes_as_it_is(parts: list[bytes]) -> None:
    assert await passed(WATCH, *parts) == b"".join(parts)
    assert await passed(DecoyWatch(()), *parts) == b"".join(parts)
