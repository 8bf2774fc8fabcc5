"""Declare the tool of the category `crypto` that signs: the daemon does, with a key of its vault.

`epad/tools/own_signing.py` answers it.
"""

from __future__ import annotations

from typing import Annotated, Final

from msgspec import Meta

from runners.tools.signature import END, Args, Result, meta


class SignArgs(Args, frozen=True):
    """Holds a message, and names the key that signs it: a key itself is never an argument."""

    message: str
    key_reference: Annotated[str, Meta(pattern=r"^\{\{secret:[A-Za-z0-9_.-]{1,64}\}\}" + END)]


class SignResult(Result, frozen=True):
    """Holds the HMAC-SHA256."""

    hex: str


HMAC_SIGN: Final = meta(
    "hmac_sign",
    SignArgs,
    SignResult,
    risk="V1",
    timeout=5,
    description="Sign a message by HMAC-SHA256 with a key that {{secret:NAME}} names.",
    examples=({"message": "hello", "key_reference": "{{secret:webhook}}"},),
)
hmac_sign = HMAC_SIGN.answered_by_daemon()
