"""Have a security key (FIDO2) answer by its `hmac-secret` extension: the same 32 bytes to the same salt, at each touch.

The credential is not discoverable: the key holds nothing of it, and what is needed to ask again lies in the vault.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from runners.secrets.failed import FailedError

if TYPE_CHECKING:
    from fido2.ctap import CtapDevice

_RP: Final = "epad.localhost"
_SALT_BYTES: Final = 32
_ES256: Final = -7


@dataclass(frozen=True, slots=True)
class Made:
    """Holds a new credential, the salt that it is asked with, and its answer."""

    credential: bytes
    salt: bytes
    secret: bytes = field(repr=False)


def only_device() -> CtapDevice:
    """Return the security key that is plugged in. Raises FailedError if there is none, or more than one."""
    from fido2.hid import CtapHidDevice  # noqa: PLC0415

    try:
        found: Sequence[CtapDevice] = list(CtapHidDevice.list_devices())
    except OSError as error:
        raise FailedError(f"security keys cannot be looked for: {error.strerror}") from error
    if len(found) != 1:
        fix = "plug one in, which the daemon's user may open" if not found else "leave one in alone"
        raise FailedError(f"there are {len(found)} security keys", fix)
    return found[0]


def make(device: CtapDevice, pin: str) -> Made:
    """Make a credential, and have it answer once: two touches. Raises FailedError."""
    options = {
        "rp": {"id": _RP, "name": "epad"},
        "user": {"id": b"epad", "name": "epad"},
        "challenge": os.urandom(32),
        "pubKeyCredParams": [{"type": "public-key", "alg": _ES256}],
        "authenticatorSelection": {"userVerification": "discouraged"},  # an answer differs with and without
        "extensions": {"hmacCreateSecret": True},
    }
    salt = os.urandom(_SALT_BYTES)
    made = _asked(lambda: _client(device, pin).make_credential(options))
    if not made.client_extension_results.get("hmacCreateSecret"):
        raise FailedError("this security key has no hmac-secret", "take one of FIDO2, or a passphrase")
    credential: bytes = made.raw_id
    return Made(credential, salt, answer(device, credential, salt, pin))


def answer(device: CtapDevice, credential: bytes, salt: bytes, pin: str) -> bytes:
    """Return a credential's 32 bytes for a salt. Raises FailedError."""
    options = {
        "rpId": _RP,
        "challenge": os.urandom(32),
        "allowCredentials": [{"type": "public-key", "id": credential}],
        "userVerification": "discouraged",
        "extensions": {"hmacGetSecret": {"salt1": salt}},
    }
    selection = _asked(lambda: _client(device, pin).get_assertion(options))
    results = selection.get_response(0).client_extension_results
    secret = getattr(results.hmac_get_secret, "output1", None)
    if not isinstance(secret, bytes) or len(secret) != _SALT_BYTES:
        raise FailedError("the security key gave no answer by hmac-secret")
    return secret


def _asked(work: Any) -> Any:
    from fido2.client import ClientError  # noqa: PLC0415
    from fido2.ctap import CtapError  # noqa: PLC0415

    try:
        return work()
    except ClientError as error:
        if error.code is ClientError.ERR.DEVICE_INELIGIBLE:
            raise FailedError("this is not the security key that the vault's key was made with") from None
        raise FailedError(
            f"the security key did not answer: {error.code.name.lower()}",
            "touch it when it blinks; give its PIN",
        ) from None
    except (CtapError, OSError, ValueError) as error:
        raise FailedError(f"the security key did not answer: {error}") from None


def _client(device: CtapDevice, pin: str) -> Any:
    from fido2.client import DefaultClientDataCollector, Fido2Client, UserInteraction  # noqa: PLC0415
    from fido2.ctap2.extensions import HmacSecretExtension  # noqa: PLC0415

    make_extension: Any = HmacSecretExtension

    class Person(UserInteraction):
        """Gives the PIN that came with the request."""

        def request_pin(self, permissions: Any, rp_id: str | None) -> str | None:
            del permissions, rp_id
            return pin or None

    return Fido2Client(
        device,
        DefaultClientDataCollector(f"https://{_RP}"),
        user_interaction=Person(),
        extensions=[make_extension(allow_hmac_secret=True)],
    )
