"""Sign heads: the ledger's statements of its length and contents, in the form of C2SP checkpoints.

A head is text that a person can read, any tool can verify, and that says by its `link` the same of the chain
as its root says of the tree: comparing links needs no tree, proving a record to a stranger needs no chain.
"""

from __future__ import annotations

import base64
import binascii
import os
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

from nacl.exceptions import CryptoError
from nacl.signing import SigningKey, VerifyKey

from epad.ledger.errors import HeadError
from epad.ledger.hashes import HASH_BYTES

ORIGIN = "epad/ledger"
_ED25519 = b"\x01"  # C2SP signed-note: the algorithm byte before a key, and in what its id is made of
_SIGNATURE_LINE = "\u2014 "
_KEY_BYTES = 32


@dataclass(frozen=True, slots=True)
class Head:
    """States that after `size` records the tree had this root, and the chain this link."""

    size: int
    root: bytes
    link: bytes
    wall_ns: int
    origin: str = ORIGIN

    def text(self) -> str:
        """Return the signed text: origin, size and root as C2SP has them, then lines of our own."""
        return (
            f"{self.origin}\n{self.size}\n{_encode(self.root)}\n"
            f"link {_encode(self.link)}\ntime {self.wall_ns}\n"
        )


class Signer:
    """Signs heads with the ledger's own key."""

    def __init__(self, seed: bytes) -> None:
        self._private = SigningKey(seed)
        self._public = bytes(self._private.verify_key)

    @property
    def verifier_key(self) -> str:
        """Return the public half, as C2SP writes it: name, id, key."""
        return f"{ORIGIN}+{_key_id(self._public).hex()}+{_encode(_ED25519 + self._public)}"

    def sign(self, head: Head) -> str:
        """Return the head as a signed note."""
        return self.sign_text(head.text())

    def sign_text(self, text: str) -> str:
        """Sign any text as a note; its first line must name its kind, so that none passes for another."""
        signature = _key_id(self._public) + self._private.sign(text.encode()).signature
        return f"{text}\n{_SIGNATURE_LINE}{ORIGIN} {_encode(signature)}\n"


class Verifier:
    """Reads heads, believing those signed by one of these keys."""

    def __init__(self, verifier_keys: Sequence[str]) -> None:
        self._keys = dict(_public_key(line) for line in verifier_keys)

    def read(self, note: str) -> Head:
        """Return the head in a signed note. Raises HeadError if it cannot be believed."""
        return _parsed(self.text(note))

    def text(self, note: str) -> str:
        """Return the text of a signed note. Raises HeadError if it cannot be believed."""
        text, separator, signatures = note.partition("\n\n")
        text += "\n"
        if not separator:
            raise HeadError("a head without a signature")
        lines = signatures.removesuffix("\n").split("\n")
        if any(not line.startswith(_SIGNATURE_LINE) for line in lines):
            raise HeadError("a head with something else among its signatures")
        for line in lines:
            name, _, encoded = line.removeprefix(_SIGNATURE_LINE).partition(" ")
            if name == ORIGIN and self._is_signed(text, encoded):
                return text
        raise HeadError("a head with no signature by a key of this ledger")

    def _is_signed(self, text: str, encoded: str) -> bool:
        try:
            signature = _decode(encoded)
            key = self._keys.get(signature[:4])
            if key is None:
                return False
            key.verify(text.encode(), signature[4:])
        except (HeadError, CryptoError):
            return False
        return True


def is_key(line: str) -> bool:
    """Tell if this is a public key as C2SP writes it, with its right id."""
    try:
        _public_key(line)
    except HeadError:
        return False
    return True


def load_or_make_key(path: Path) -> Signer:
    """Return the key in this file, made there at first. Raises HeadError, OSError."""
    try:
        encoded = path.read_text().strip()
    except FileNotFoundError:
        seed = os.urandom(_KEY_BYTES)
        _write_key(path, seed)
    else:
        try:
            seed = _decode(encoded)
        except HeadError as error:
            raise HeadError(f"{path}: no Ed25519 key ({error}); restore it, or move it away") from error
    if len(seed) != _KEY_BYTES:
        raise HeadError(f"{path}: {len(seed)} bytes are no Ed25519 key; restore it, or move it away")
    return Signer(seed)


def _write_key(path: Path, seed: bytes) -> None:
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(_encode(seed) + "\n")
        file.flush()
        os.fsync(file.fileno())


def _parsed(text: str) -> Head:
    lines = text.splitlines()
    fields = dict(line.partition(" ")[::2] for line in lines[3:])
    try:
        head = Head(int(lines[1]), _decode(lines[2]), _decode(fields["link"]), int(fields["time"]), lines[0])
    except (IndexError, KeyError, ValueError) as error:
        raise HeadError(f"a head that says nothing: {error!r}") from error
    if head.origin != ORIGIN or head.size < 0 or {len(head.root), len(head.link)} != {HASH_BYTES}:
        raise HeadError(f"a head of something else: {head.origin!r}")
    return head


def _public_key(line: str) -> tuple[bytes, VerifyKey]:
    name, _, rest = line.partition("+")
    key_id, _, encoded = rest.partition("+")
    kind_and_key = _decode(encoded)
    raw = kind_and_key[1:]
    if name != ORIGIN or key_id != _key_id(raw).hex() or kind_and_key[:1] != _ED25519:
        raise HeadError(f"{line!r} is no key of a ledger, or has changed")
    try:
        return _key_id(raw), VerifyKey(raw)
    except ValueError as error:
        raise HeadError(f"{line!r} is no key") from error


def _key_id(public: bytes) -> bytes:
    return sha256(ORIGIN.encode() + b"\n" + _ED25519 + public).digest()[:4]


def _encode(data: bytes) -> str:
    return base64.b64encode(data).decode()


def _decode(text: str) -> bytes:
    try:
        data = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise HeadError(f"not base64: {error}") from error
    if _encode(data) != text:  # the bits after the last byte can say anything, and decode to the same
        raise HeadError("not base64 as it is written here")
    return data
