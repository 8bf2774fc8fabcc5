"""What may not leave is found in what goes out in clear, however the body comes."""

from __future__ import annotations

import base64
import contextlib
from collections.abc import AsyncIterator, Iterable
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runners.egress.messages import Secret
from runners.egress.outgoing import OutgoingWatch
from runners.egress.refusal import RefusedError, Why

KEY = "shared-part-and-40-characters-of-a-key+/"
WATCH = OutgoingWatch(("another-key-of-a-neighbour", KEY))


async def pieces(parts: Iterable[bytes]) -> AsyncIterator[bytes]:
    for part in parts:
        yield part


async def passed(watch: OutgoingWatch, *parts: bytes) -> bytes:
    return b"".join([piece async for piece in watch.pieces(pieces(parts))])


def test_a_decoy_in_a_head_is_refused() -> None:
    """Anybody's; what only looks like one passes."""
    for key in (KEY, "another-key-of-a-neighbour"):
        with pytest.raises(RefusedError) as refused:
            WATCH.check(f"x: {key}".encode())
        assert refused.value.why is Why.DECOY
    WATCH.check(KEY[:-1].encode())
    OutgoingWatch(()).check(KEY.encode())


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
    assert await passed(OutgoingWatch(()), *parts) == b"".join(parts)


VALUE = "ghp_0123456789+/abc&def ghi"
SECRETS = OutgoingWatch(
    (), (Secret("github", ("api.github.com",), VALUE), Secret("pin", ("x.example",), "1234"))
)
FORMS = {
    "plain": VALUE,
    "hex": VALUE.encode().hex(),
    "HEX": VALUE.encode().hex().upper(),
    "percent": quote(VALUE, safe=""),
    "basic": base64.b64encode(f"user:{VALUE}".encode()).decode(),
    "base64": base64.b64encode(VALUE.encode()).decode(),
    "base64 within": base64.b64encode(f"x{VALUE}y".encode()).decode(),
    "base64 of a URL": base64.urlsafe_b64encode(f"xx{VALUE}".encode()).decode(),
}


@pytest.mark.parametrize("form", FORMS)
async def test_a_secret_goes_to_no_host_that_it_is_not_bound_to(form: str) -> None:
    """In a head and in a body, in the forms in which programs write such values. To its own host it may go."""
    head = f"X: {FORMS[form]}; y".encode()
    with pytest.raises(RefusedError, match="secret github") as refused:
        SECRETS.check(head, "evil.example")
    assert refused.value.why is Why.SECRET
    assert VALUE not in refused.value.words
    SECRETS.check(head, "api.github.com")
    with pytest.raises(RefusedError):
        await drained(SECRETS.pieces(pieces([head[:10], head[10:]]), "evil.example"))
    assert await drained(SECRETS.pieces(pieces([head[:10], head[10:]]), "api.github.com")) == head


async def drained(body: AsyncIterator[bytes]) -> bytes:
    return b"".join([piece async for piece in body])


def test_what_is_too_short_to_be_told_from_other_text_is_not_looked_for() -> None:
    SECRETS.check(b"pin 1234, ghp_01234567", "evil.example")
