"""Look for what may not leave in bytes that go out in clear: decoys, and secrets for hosts that they are not bound to.

A decoy is a key that opens nothing, which only a thief of keys sends; it is found as it stands. The value of a secret
is found as it stands, in base64, in hex and percent-encoded. Nothing is found that the sender has compressed, encrypted
or cut in two, and nothing in a tunnel.
"""

from __future__ import annotations

import base64
import re
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Final
from urllib.parse import quote

from runners.egress.messages import Secret
from runners.egress.refusal import RefusedError, Why

LEAST_BYTES: Final = 8
"""A shorter value is no secret that can be told from other text."""
_DECOY: Final = "a decoy was sent: a key that opens nothing, and that no program has a use for"


@dataclass(frozen=True, slots=True)
class _Kind:
    """Holds what is looked for, the hosts that may have it, and how finding it is told."""

    texts: re.Pattern[bytes]
    hosts: tuple[str, ...]
    why: Why
    words: str


class OutgoingWatch:
    """Refuses whatever has something in it that may not go to its host, also where it comes in pieces."""

    def __init__(self, decoys: Sequence[str], secrets: Sequence[Secret] = ()) -> None:
        kinds: list[tuple[list[bytes], tuple[str, ...], Why, str]] = []
        if decoys:
            kinds.append(([decoy.encode("latin-1") for decoy in decoys], (), Why.DECOY, _DECOY))
        kinds += [
            (_forms(secret.value.encode("latin-1")), secret.hosts, Why.SECRET, _words(secret))
            for secret in secrets
            if len(secret.value) >= LEAST_BYTES
        ]
        self._kinds = [
            _Kind(re.compile(b"|".join(map(re.escape, texts))), hosts, why, words)
            for texts, hosts, why, words in kinds
        ]
        self._kept = max((len(text) for texts, *_ in kinds for text in texts), default=1) - 1

    def check(self, data: bytes, host: str = "") -> None:
        """Raise RefusedError if something is in the data that may not go to the host."""
        for kind in self._kinds:
            if host not in kind.hosts and kind.texts.search(data):
                raise RefusedError(kind.why, kind.words)

    async def pieces(self, body: AsyncIterator[bytes], host: str = "") -> AsyncIterator[bytes]:
        """Yield the pieces of a body until one has such a thing, or the end of one. Raises RefusedError."""
        tail = b""
        async for piece in body:
            self.check(tail + piece, host)
            tail = (tail + piece)[-self._kept :] if self._kept else b""
            yield piece


def _forms(value: bytes) -> list[bytes]:
    """Return a value in the forms that it is looked for in; of base64 the part that does not depend on its place."""
    forms = [value, value.hex().encode(), value.hex().upper().encode(), quote(value, safe="").encode()]
    for alphabet in (base64.b64encode, base64.urlsafe_b64encode):
        for before in range(3):
            text = alphabet(bytes(before) + value).rstrip(b"=")
            forms.append(text[0 if before == 0 else 4 : len(text) // 4 * 4])
    return sorted({form for form in forms if len(form) >= LEAST_BYTES}, key=len, reverse=True)


def _words(secret: Secret) -> str:
    hosts = ", ".join(secret.hosts)
    return (
        f"the value of the secret {secret.name} was sent; it may go to {hosts} alone, and by its placeholder"
    )
