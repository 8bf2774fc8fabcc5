"""Sign SVIDs, and verify JWT-SVIDs, with the authorities of a trust domain."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import jwt
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID

from runners.identity.authority import (
    CLOCK_SLACK_SECONDS,
    ORGANIZATION,
    Authority,
    Kept,
    certificates,
    key_usage,
)
from runners.identity.pem import load_key

ALGORITHM: Final = "ES256"
_DER: Final = serialization.Encoding.DER


class InvalidError(ValueError):
    """A JWT-SVID is not to be accepted; the text says why."""


@dataclass(frozen=True, slots=True)
class X509Svid:
    """Holds an X.509-SVID, its key as PKCS #8, and the end of its life in seconds since 1970."""

    spiffe_id: str
    certificate: bytes
    key: bytes
    until: float
    serial: str


@dataclass(frozen=True, slots=True)
class JwtSvid:
    """Holds a JWT-SVID, its SHA-256, and the end of its life in seconds since 1970."""

    spiffe_id: str
    token: str
    digest: str
    until: float


class Signer:
    """Signs with one authority. SVIDs live for so many seconds, and no longer than the authority."""

    def __init__(self, authority: Authority, x509_seconds: float, jwt_seconds: float) -> None:
        self._authority = authority
        self._x509_seconds, self._jwt_seconds = x509_seconds, jwt_seconds
        self._key, self._jwt_key = load_key(authority.key), load_key(authority.jwt_key)
        self._issuer = certificates([authority])[0].extensions.get_extension_for_class(
            x509.SubjectKeyIdentifier
        )

    def x509(self, spiffe_id: str, now: float) -> X509Svid:
        """Sign an X.509-SVID, with a new key."""
        key, until = (
            ec.generate_private_key(ec.SECP256R1()),
            min(now + self._x509_seconds, self._authority.ends),
        )
        serial = x509.random_serial_number()
        begins = datetime.fromtimestamp(now, UTC) - timedelta(seconds=CLOCK_SLACK_SECONDS)
        uses = [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
        issuer = x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(self._issuer.value)
        leaf = (
            x509.CertificateBuilder()
            .subject_name(ORGANIZATION)
            .issuer_name(ORGANIZATION)
            .public_key(key.public_key())
            .serial_number(serial)
            .not_valid_before(begins)
            .not_valid_after(datetime.fromtimestamp(until, UTC))
            .add_extension(
                x509.SubjectAlternativeName([x509.UniformResourceIdentifier(spiffe_id)]), critical=False
            )
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(key_usage(signs_certificates=False), critical=True)
            .add_extension(x509.ExtendedKeyUsage(uses), critical=False)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
            .add_extension(issuer, critical=False)
            .sign(self._key, hashes.SHA256())
        )
        secret = key.private_bytes(_DER, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        return X509Svid(spiffe_id, leaf.public_bytes(_DER), secret, until, f"{serial:x}")

    def jwt(self, spiffe_id: str, audience: Sequence[str], now: float) -> JwtSvid:
        """Sign a JWT-SVID for an audience."""
        until = int(min(now + self._jwt_seconds, self._authority.ends))
        claims = {"sub": spiffe_id, "aud": list(audience), "exp": until, "iat": int(now)}
        headers = {"kid": self._authority.kid}
        token = jwt.encode(claims, self._jwt_key, algorithm=ALGORITHM, headers=headers)
        return JwtSvid(spiffe_id, token, hashlib.sha256(token.encode()).hexdigest(), until)


def validated(token: str, audience: str, kept: Kept) -> tuple[str, dict[str, Any]]:
    """Return the SPIFFE id and the claims of a JWT-SVID that a trusted authority has signed. Raises InvalidError.

    No clock but this machine's has made it, so none is allowed for.
    """
    try:
        header = jwt.get_unverified_header(token)
        kid = header.get("kid")
        known = next((one for one in kept.authorities if one.kid == kid), None)
        if known is None:
            raise InvalidError(f"no authority of {kept.trust_domain} has the key {kid!r}")
        claims: dict[str, Any] = jwt.decode(
            token,
            load_key(known.jwt_key).public_key(),
            algorithms=[ALGORITHM],
            audience=audience,
            options={"require": ["exp", "sub", "aud"]},
        )
    except (jwt.PyJWTError, UnicodeError) as error:
        raise InvalidError(str(error)) from error
    spiffe_id = str(claims["sub"])
    if not spiffe_id.startswith(f"spiffe://{kept.trust_domain}/"):
        raise InvalidError(f"its subject {spiffe_id} is not of {kept.trust_domain}")
    return spiffe_id, claims
