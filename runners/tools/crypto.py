"""Tools of the category `crypto`, without any file. The daemon signs, with keys of its vault: `signing.py`."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import re
import secrets
import time
import uuid
from collections.abc import Iterator
from typing import Annotated, Final, Literal

from msgspec import UNSET, Meta, UnsetType

from runners.tools import output
from runners.tools.signature import Args, Result, ToolError, meta
from runners.tools.signing import HMAC_SIGN, hmac_sign

# OpenSSL reads its settings at the first use, which a call may not.
hmac.new(b"key", b"", "sha512")
hashlib.scrypt(b"", salt=b"", n=2, r=1, p=1)

_LOG_N, _R, _P = 16, 8, 2
"""64 MiB and about half a second: one of the settings that OWASP calls equal, within a pure call's 256 MiB and 5 s."""
_MOST_MEMORY: Final = 80 << 20
_MOST_WORK: Final = 4 * 128 * _R * _P << _LOG_N
_SCRYPT: Final = re.compile(
    r"\$scrypt\$ln=(\d{1,2}),r=(\d{1,3}),p=(\d{1,3})\$([A-Za-z0-9+/]{1,86})\$([A-Za-z0-9+/]{22,86})"
)


class SecretArgs(Args, frozen=True):
    """Chooses the length in random bytes, and how they are written."""

    bytes: Annotated[int, Meta(ge=16, le=256)] = 32
    format: Literal["urlsafe", "hex", "base64"] = "urlsafe"


class SecretResult(Result, frozen=True):
    """Holds the secret itself: `kept` tells that no vault keeps it, so its only copy is this answer."""

    value: str
    bits: int
    kept: str = "nowhere: this answer is its only copy, and whoever reads the conversation reads it"


GENERATE_SECRET: Final = meta(
    "generate_secret",
    SecretArgs,
    SecretResult,
    risk="P",
    timeout=5,
    description="Make a random secret. No vault keeps it: the value itself comes back.",
    examples=({}, {"bytes": 16, "format": "hex"}),
)


@GENERATE_SECRET.tool
async def generate_secret(args: SecretArgs) -> SecretResult:
    """Ask the kernel for each byte: no state of this process, which is a fork, is in it."""
    value = secrets.token_bytes(args.bytes)
    match args.format:
        case "hex":
            text = value.hex()
        case "base64":
            text = base64.b64encode(value).decode()
        case _:
            text = base64.urlsafe_b64encode(value).decode().rstrip("=")
    return SecretResult(value=text, bits=8 * args.bytes)


class UuidArgs(Args, frozen=True):
    """Chooses the version (4 is random, 7 sorts by its time) and the number."""

    version: Literal[4, 7] = 4
    count: Annotated[int, Meta(ge=1, le=1000)] = 1


class UuidResult(Result, frozen=True):
    """Holds identifiers."""

    uuids: list[str]


UUID_GENERATE: Final = meta(
    "uuid_generate",
    UuidArgs,
    UuidResult,
    risk="P",
    timeout=5,
    description="Make UUIDs: version 4 (random) or 7 (sorted by time).",
    examples=({}, {"version": 7, "count": 3}),
)


@UUID_GENERATE.tool
async def uuid_generate(args: UuidArgs) -> UuidResult:
    """Make the identifiers of RFC 9562; those of version 7 are sorted within one call too."""
    if args.version == 7:
        made = list(sortable(time.time_ns() // 1_000_000, args.count))
    else:
        made = [str(uuid.uuid4()) for _ in range(args.count)]
    return UuidResult(uuids=output.whole(made, "ask for fewer at once"))


def sortable(milliseconds: int, count: int) -> Iterator[str]:
    """Yield UUIDs of version 7 of one moment. A counter of 12 bits with a random start below half keeps order."""
    counter = secrets.randbelow(1 << 11)
    for _ in range(count):
        value = (
            (milliseconds & (1 << 48) - 1) << 80 | 7 << 76 | counter << 64 | 2 << 62 | secrets.randbits(62)
        )
        yield str(uuid.UUID(int=value))
        counter += 1


class PasswordArgs(Args, frozen=True):
    """Holds a password, and a hash that it is compared with."""

    password: Annotated[str, Meta(min_length=1, max_length=1024)]
    verify: Annotated[str, Meta(max_length=400)] | None = None


class PasswordResult(Result, frozen=True):
    """Holds the hash, or if the password matches the one that was given."""

    hash: str | UnsetType = UNSET
    matches: bool | UnsetType = UNSET


PASSWORD_HASH: Final = meta(
    "password_hash",
    PasswordArgs,
    PasswordResult,
    risk="P",
    timeout=20,
    description="Hash a password with scrypt, or verify one against such a hash ($scrypt$...).",
    examples=({"password": "correct horse"},),
)


@PASSWORD_HASH.tool
async def password_hash(args: PasswordArgs) -> PasswordResult:
    """Hash with a salt of 16 bytes, in the notation that passlib reads; compare in constant time."""
    password = _utf8(args.password)
    if args.verify is not None:
        return PasswordResult(matches=_matches(password, args.verify))
    salt = secrets.token_bytes(16)
    digest = _scrypt(password, salt, _LOG_N, _R, _P, 32)
    return PasswordResult(hash=f"$scrypt$ln={_LOG_N},r={_R},p={_P}${_base64(salt)}${_base64(digest)}")


def _matches(password: bytes, known: str) -> bool:
    if (found := _SCRYPT.fullmatch(known.strip())) is None:
        raise ToolError(
            "the hash is none of scrypt's",
            "it begins as $scrypt$ln=16,r=8,p=2$; other kinds are not verified",
        )
    log_n, r, p = (int(each) for each in found.groups()[:3])
    memory, work = 128 * r << log_n, 128 * r * p << log_n
    if min(log_n, r, p) < 1 or memory > _MOST_MEMORY or work > _MOST_WORK:
        raise ToolError(
            f"the hash asks for ln={log_n},r={r},p={p}, which is none, or takes too much memory or time",
            f"this tool verifies up to {_MOST_MEMORY >> 20} MiB, as ln=16,r=8,p=8",
        )
    salt, digest = (_unbase64(each) for each in found.groups()[3:])
    return hmac.compare_digest(_scrypt(password, salt, log_n, r, p, len(digest)), digest)


def _scrypt(password: bytes, salt: bytes, log_n: int, r: int, p: int, size: int) -> bytes:
    return hashlib.scrypt(
        password, salt=salt, n=1 << log_n, r=r, p=p, maxmem=_MOST_MEMORY + (1 << 20), dklen=size
    )


def _base64(value: bytes) -> str:
    return base64.b64encode(value).decode().rstrip("=")


def _unbase64(text: str) -> bytes:
    try:
        return base64.b64decode(text + "=" * (-len(text) % 4))
    except binascii.Error:
        raise ToolError("the hash is cut: its salt or digest is no base64", "give the whole hash") from None


def _utf8(text: str) -> bytes:
    try:
        return text.encode()
    except UnicodeEncodeError as error:
        raise ToolError(f"the text is not valid Unicode at character {error.start}", "remove it") from None


__all__ = ["TOOLS", "generate_secret", "hmac_sign", "password_hash", "uuid_generate"]
TOOLS: Final = (GENERATE_SECRET, HMAC_SIGN, PASSWORD_HASH, UUID_GENERATE)
