"""`hmac_sign`: by a key that is bound to who calls; nobody else's, and never shown."""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec
import pytest

from epad.gate.tiers import Tier
from epad.secrets.errors import UnknownSecretError
from epad.secrets.purpose import Binding, Purpose
from epad.tools.own import OwnCall, OwnToolError
from epad.tools.own_signing import signing_tools
from epad.tools.sessions import Session

KEYS = {"jefe": (b"Jefe", Binding(subsystems=("agent",))), "other": (b"other", Binding(subsystems=("chat",)))}


async def open_secret(name: str, purpose: Purpose) -> bytes:
    """Open as the vault does."""
    if name not in KEYS:
        raise UnknownSecretError(name)
    value, binding = KEYS[name]
    binding.check(name, purpose)
    return value


def signed(**arguments: object) -> dict[str, Any]:
    call = OwnCall(Session("s", "agent", Tier.AUTHOR), "0" * 32, arguments)
    result = asyncio.run(_call(call))
    told: dict[str, Any] = msgspec.to_builtins(result)
    return told


async def _call(call: OwnCall) -> msgspec.Struct:
    return await signing_tools(open_secret)["hmac_sign"](call)


def test_a_message_is_signed_by_a_key_that_is_never_shown() -> None:
    """RFC 4231's second vector."""
    told = signed(message="what do ya want for nothing?", key_reference="{{secret:jefe}}")
    assert told == {"hex": "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843"}


@pytest.mark.parametrize(
    ("reference", "said"),
    [
        ("{{secret:other}}", "not bound to agent"),
        ("{{secret:nobody}}", "there is no secret"),
        ("a plain key", "key_reference"),
        ("{{secret:}}", "key_reference"),
        ("{{secret:a b}}", "key_reference"),
        ("x{{secret:jefe}}", "key_reference"),
        ("{{secret:jefe}}\n", "key_reference"),
    ],
)
def test_what_is_no_key_of_the_caller_signs_nothing(reference: str, said: str) -> None:
    """The error does not repeat what may be a key."""
    with pytest.raises(OwnToolError, match=said) as refused:
        signed(message="x", key_reference=reference)
    assert "plain key" not in str(refused.value)
