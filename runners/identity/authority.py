"""Keep the authorities of a trust domain: which one signs, which are trusted, and when the next is due.

An authority is a certificate authority for X.509-SVIDs and a key for JWT-SVIDs, and lives for AUTHORITY_SECONDS:

| age | the authority |
|---|---|
| half | has a successor, which is in the bundle and signs nothing yet: whoever verifies learns of it first |
| five sixths | signs no more: the successor does |
| OVERLAP_SECONDS later | has left the bundle: all that it signed has expired |

A person may have the successor made, and sign, at once (`epactl identity rotate`): the bundle goes out to every stream
with the first that it has signed. Nothing signs before it is on the disk.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import msgspec
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from msgspec import Struct

from runners.identity.messages import X509_SECONDS
from runners.identity.pem import load_key, new_pem

AUTHORITY_SECONDS: Final = 14 * 86_400.0
CLOCK_SLACK_SECONDS: Final = 60.0
"""So much earlier a certificate begins: the clock of who reads it may be behind."""
REFRESH_SECONDS: Final = 300
"""How often who fetches the bundle as a document should ask again."""
OVERLAP_SECONDS: Final = 2.0 * X509_SECONDS
ORGANIZATION: Final = x509.Name([x509.NameAttribute(NameOID.ORGANIZATION_NAME, "epad")])
_PREPARED_AT, _SIGNS_AT = 1 / 2, 5 / 6
_CURVES: Final = {"secp256r1": "P-256", "secp384r1": "P-384", "secp521r1": "P-521"}


class Authority(Struct, frozen=True):
    """Holds one authority: PEM texts, and its life in seconds since 1970."""

    kid: str
    begins: float
    ends: float
    certificate: str
    key: str
    jwt_key: str

    def has_passed(self, share: float, now: float) -> bool:
        """Tell if this share of its life is over."""
        return now >= self.begins + share * (self.ends - self.begins)


class Kept(Struct, frozen=True):
    """Holds the authorities as they lie on the disk: the oldest first. `signing` is the kid of the one that signs."""

    trust_domain: str
    authorities: tuple[Authority, ...] = ()
    signing: str = ""
    signing_since: float = 0.0
    sequence: int = 0
    """Counts the changes of the bundle."""

    @property
    def signer(self) -> Authority | None:
        """Return the authority that signs."""
        return next((one for one in self.authorities if one.kid == self.signing), None)


def read_kept(text: str, trust_domain: str) -> Kept:
    """Return the authorities of a text of `Keep`; none of another trust domain. Raises ValueError."""
    if not text:
        return Kept(trust_domain)
    kept = msgspec.json.decode(text, type=Kept)
    return kept if kept.trust_domain == trust_domain else Kept(trust_domain)


def next_kept(kept: Kept, now: float) -> tuple[Kept, str]:
    """Return the authorities as they are to be now, and why they change; empty where they stay."""
    living = tuple(one for one in kept.authorities if one.begins - CLOCK_SLACK_SECONDS <= now < one.ends)
    signer = next((one for one in living if one.kid == kept.signing), None)
    if signer is None:
        return with_new_signer(msgspec.structs.replace(kept, authorities=living), now), "none could sign"
    if now >= kept.signing_since + OVERLAP_SECONDS:
        living = living[living.index(signer) :]
    newest = living[-1]
    if newest is signer and signer.has_passed(_PREPARED_AT, now):
        new = make_authority(kept.trust_domain, now)
        return _changed(kept, (*living, new)), "the one that signs is half through"
    if newest is not signer and signer.has_passed(_SIGNS_AT, now):
        return _signed_by(newest, kept, living, now), "the successor signs"
    if living != kept.authorities:
        return _changed(kept, living), "what a former one signed has expired"
    return kept, ""


def with_new_signer(kept: Kept, now: float) -> Kept:
    """Return the authorities with a new one, which signs from now on."""
    new = make_authority(kept.trust_domain, now)
    return _signed_by(new, kept, (*kept.authorities, new), now)


def _changed(kept: Kept, authorities: tuple[Authority, ...]) -> Kept:
    return msgspec.structs.replace(kept, authorities=authorities, sequence=kept.sequence + 1)


def _signed_by(signer: Authority, kept: Kept, authorities: tuple[Authority, ...], now: float) -> Kept:
    changed = _changed(kept, authorities)
    return msgspec.structs.replace(changed, signing=signer.kid, signing_since=now)


def make_authority(trust_domain: str, now: float) -> Authority:
    """Make an authority whose life begins now."""
    key, jwt_key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    begins, ends = datetime.fromtimestamp(now, UTC), datetime.fromtimestamp(now + AUTHORITY_SECONDS, UTC)
    public = key.public_key()
    names = [x509.UniformResourceIdentifier(f"spiffe://{trust_domain}")]
    certificate = (
        x509.CertificateBuilder()
        .subject_name(ORGANIZATION)
        .issuer_name(ORGANIZATION)
        .public_key(public)
        .serial_number(x509.random_serial_number())
        .not_valid_before(begins - timedelta(seconds=CLOCK_SLACK_SECONDS))
        .not_valid_after(ends)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(key_usage(signs_certificates=True), critical=True)
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
        .sign(key, hashes.SHA256())
    )
    kid = x509.SubjectKeyIdentifier.from_public_key(jwt_key.public_key()).digest.hex()
    pem = certificate.public_bytes(serialization.Encoding.PEM).decode()
    return Authority(kid, now, now + AUTHORITY_SECONDS, pem, new_pem(key), new_pem(jwt_key))


def key_usage(*, signs_certificates: bool) -> x509.KeyUsage:
    """Return the uses of a key: an authority's, or an SVID's (X509-SVID.md, 4.3)."""
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        encipher_only=False,
        decipher_only=False,
    )


def certificates(authorities: Sequence[Authority]) -> list[x509.Certificate]:
    """Return the certificates of authorities."""
    return [x509.load_pem_x509_certificate(one.certificate.encode()) for one in authorities]


def x509_bundle(kept: Kept) -> bytes:
    """Return the trusted certificates, DER, one behind the other."""
    return b"".join(one.public_bytes(serialization.Encoding.DER) for one in certificates(kept.authorities))


def jwt_keys(kept: Kept) -> list[dict[str, Any]]:
    """Return the trusted keys of JWT-SVIDs, as JWK."""
    return [
        {**_jwk(load_key(one.jwt_key).public_key()), "kid": one.kid, "use": "jwt-svid"}
        for one in kept.authorities
    ]


def bundle_document(
    trusted: Sequence[x509.Certificate], jwt_svid_keys: Sequence[dict[str, Any]], sequence: int = 0
) -> str:
    """Return a trust bundle as a SPIFFE bundle document (SPIFFE_Trust_Domain_and_Bundle.md, 4)."""
    document = {
        **({"spiffe_sequence": sequence} if sequence else {}),
        "spiffe_refresh_hint": REFRESH_SECONDS,
        "keys": [*map(_x509_jwk, trusted), *jwt_svid_keys],
    }
    return json.dumps(document, indent=1)


def _x509_jwk(certificate: x509.Certificate) -> dict[str, Any]:
    chain = base64.b64encode(certificate.public_bytes(serialization.Encoding.DER)).decode()
    public = certificate.public_key()
    known = _jwk(public) if isinstance(public, ec.EllipticCurvePublicKey) else {}
    return {**known, "use": "x509-svid", "x5c": [chain]}


def _jwk(key: ec.EllipticCurvePublicKey) -> dict[str, Any]:
    numbers = key.public_numbers()
    size = (key.curve.key_size + 7) // 8
    name = _CURVES.get(key.curve.name, key.curve.name)
    return {"kty": "EC", "crv": name, "x": _number(numbers.x, size), "y": _number(numbers.y, size)}


def _number(value: int, size: int) -> str:
    return base64.urlsafe_b64encode(value.to_bytes(size)).rstrip(b"=").decode()
