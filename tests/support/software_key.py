"""A security key in software: the least of CTAP2 that `hmac-secret` needs, for the real client library `fido2`.

It has no PIN, makes credentials that it can only read itself, and counts the touches.
"""

from __future__ import annotations

import hashlib
import hmac
import os
from collections.abc import Callable, Iterator, Mapping
from threading import Event
from typing import Any

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from fido2 import cbor
from fido2.ctap import STATUS, CtapDevice
from fido2.hid import CAPABILITY, CTAPHID

AAGUID = b"epad-software-ke"
_MAKE, _GET, _INFO, _PIN = 0x01, 0x02, 0x04, 0x06
_NO_CREDENTIALS, _NOT_ALLOWED, _INVALID = 0x2E, 0x30, 0x14
_UP, _AT, _ED = 0x01, 0x40, 0x80


class SoftwareKey(CtapDevice):
    """One key. `answers`: a person touches it; `has_hmac_secret`: it knows the extension."""

    def __init__(self, *, answers: bool = True, has_hmac_secret: bool = True) -> None:
        self.touches = 0
        self._answers = answers
        self._has_hmac_secret = has_hmac_secret
        self._master = os.urandom(32)
        self._agreement = ec.generate_private_key(ec.SECP256R1())

    @property
    def capabilities(self) -> int:
        return int(CAPABILITY.CBOR)

    @classmethod
    def list_devices(cls) -> Iterator[CtapDevice]:
        return iter(())

    def call(
        self,
        cmd: int,
        data: bytes = b"",
        event: Event | None = None,
        on_keepalive: Callable[[STATUS], None] | None = None,
    ) -> bytes:
        assert cmd == CTAPHID.CBOR
        work = {_MAKE: self._make, _GET: self._get, _INFO: self._info, _PIN: self._pin}[data[0]]
        request: Any = cbor.decode(data[1:]) if data[1:] else {}
        try:
            return b"\0" + cbor.encode(work(request))
        except RefusedError as error:
            return bytes([error.status])

    def _info(self, _: Mapping[int, Any]) -> dict[int, Any]:
        extensions = ["hmac-secret"] if self._has_hmac_secret else []
        options = {"rk": False, "up": True}
        return {1: ["FIDO_2_0"], 2: extensions, 3: AAGUID, 4: options, 6: [1]}

    def _pin(self, request: Mapping[int, Any]) -> dict[int, Any]:
        if request[2] != 2:  # getKeyAgreement
            raise RefusedError(_INVALID)
        return {1: _cose(self._agreement.public_key())}

    def _make(self, request: Mapping[int, Any]) -> dict[int, Any]:
        self._touch()
        rp = hashlib.sha256(request[2]["id"].encode()).digest()
        key = ec.generate_private_key(ec.SECP256R1())
        number = key.private_numbers().private_value.to_bytes(32, "big")
        nonce = os.urandom(12)
        credential = nonce + AESGCM(self._master).encrypt(nonce, number, rp)
        said = {"hmac-secret": True} if (request.get(6) or {}).get("hmac-secret") else {}
        flags = _UP | _AT | (_ED if said else 0)
        attested = (
            AAGUID
            + len(credential).to_bytes(2, "big")
            + credential
            + cbor.encode(_cose(key.public_key(), -7))
        )
        data = rp + bytes([flags]) + bytes(4) + attested + (cbor.encode(said) if said else b"")
        return {1: "none", 2: data, 3: {}}

    def _get(self, request: Mapping[int, Any]) -> dict[int, Any]:
        rp = hashlib.sha256(request[1].encode()).digest()
        for one in request.get(3, []):
            credential: bytes = one["id"]
            try:
                number = AESGCM(self._master).decrypt(credential[:12], credential[12:], rp)
                break
            except (InvalidTag, ValueError):  # of another key
                continue
        else:
            raise RefusedError(_NO_CREDENTIALS)
        if (request.get(5) or {}).get("up", True):
            self._touch()
        said = {}
        if asked := (request.get(4) or {}).get("hmac-secret"):
            said = {"hmac-secret": self._answer(number, asked)}
        flags = _UP | (_ED if said else 0)
        data = rp + bytes([flags]) + bytes(4) + (cbor.encode(said) if said else b"")
        key = ec.derive_private_key(int.from_bytes(number, "big"), ec.SECP256R1())
        signature = key.sign(data + request[2], ec.ECDSA(SHA256()))
        return {1: {"type": "public-key", "id": credential}, 2: data, 3: signature}

    def _answer(self, number: bytes, asked: Mapping[int, Any]) -> bytes:
        """Answer a salt, both under the secret that the two sides share (PIN/UV protocol 1)."""
        theirs = ec.EllipticCurvePublicNumbers(
            int.from_bytes(asked[1][-2], "big"), int.from_bytes(asked[1][-3], "big"), ec.SECP256R1()
        ).public_key()
        shared = hashlib.sha256(self._agreement.exchange(ec.ECDH(), theirs)).digest()
        if not hmac.compare_digest(hmac.digest(shared, asked[2], "sha256")[:16], asked[3]):
            raise RefusedError(_INVALID)
        cipher = Cipher(algorithms.AES(shared), modes.CBC(bytes(16)))
        opened = cipher.decryptor()
        salt = opened.update(asked[2]) + opened.finalize()
        credential_random = hmac.digest(self._master, b"hmac-secret" + number, "sha256")
        closed = cipher.encryptor()
        return closed.update(hmac.digest(credential_random, salt, "sha256")) + closed.finalize()

    def _touch(self) -> None:
        if not self._answers:
            raise RefusedError(_NOT_ALLOWED)
        self.touches += 1


class RefusedError(Exception):
    """The key answers with a status that is no success."""

    def __init__(self, status: int) -> None:
        super().__init__(hex(status))
        self.status = status


def _cose(key: ec.EllipticCurvePublicKey, algorithm: int = -25) -> dict[int, Any]:
    at = key.public_numbers()
    return {1: 2, 3: algorithm, -1: 1, -2: at.x.to_bytes(32, "big"), -3: at.y.to_bytes(32, "big")}
