"""Make the certificate authority of a cell, and the certificates of its hosts.

`python -m runners.egress.authority NAME HOST...` prints a new authority as JSON; epad runs it before it makes a cell.

The authority may sign for the hosts that it names and for those below them, and for none beside: its certificate says
so (RFC 5280, 4.2.1.10), and the programs in the cell hold it to that.

Only this module knows the package `cryptography`, which is an extra of epad's; `certificates.py` loads it when needed.
"""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from runners.egress.messages import Authority

_CLOCK_SLACK: Final = timedelta(days=1)
_AUTHORITY_LIFE: Final = timedelta(days=3_650)
"""A cell may run for years; its authority ends with it."""
_LEAF_LIFE: Final = timedelta(days=30)
_MOST_COMMON_NAME: Final = 64


def make_authority(cell: str, hosts: tuple[str, ...]) -> Authority:
    """Make an authority that may sign for these hosts."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name(
        [x509.NameAttribute(x509.NameOID.COMMON_NAME, f"epad for the cell of {cell}"[:_MOST_COMMON_NAME])]
    )
    constraints = x509.NameConstraints([x509.DNSName(host) for host in hosts], None)
    builder = (
        _builder(name, name, key, _AUTHORITY_LIFE)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(signs_certificates=True), critical=True)
        .add_extension(constraints, critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    )
    return Authority(_signed(builder, key), _secret(key), hosts)


def make_leaf(authority: Authority, host: str) -> bytes:
    """Return a new key and certificate of a host, as PEM. Raises ValueError for an authority that is none."""
    signer = serialization.load_pem_private_key(authority.key.encode(), None)
    issuer = x509.load_pem_x509_certificate(authority.certificate.encode())
    if not isinstance(signer, ec.EllipticCurvePrivateKey):
        raise ValueError("the authority's key is of another kind")  # noqa: TRY004 (a text was read)
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name(
        [x509.NameAttribute(x509.NameOID.COMMON_NAME, host)] if len(host) <= _MOST_COMMON_NAME else []
    )
    known = x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key())
    builder = (
        _builder(name, issuer.subject, key, _LEAF_LIFE)
        .add_extension(
            x509.SubjectAlternativeName([x509.DNSName(host)]), critical=len(host) > _MOST_COMMON_NAME
        )
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(signs_certificates=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage([x509.oid.ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(known, critical=False)
    )
    return (_secret(key) + _signed(builder, signer)).encode()


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePrivateKey, life: timedelta
) -> x509.CertificateBuilder:
    now = datetime.now(UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _CLOCK_SLACK)
        .not_valid_after(now + life)
    )


def _usage(*, signs_certificates: bool) -> x509.KeyUsage:
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


def _signed(builder: x509.CertificateBuilder, key: ec.EllipticCurvePrivateKey) -> str:
    return builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM).decode()


def _secret(key: ec.EllipticCurvePrivateKey) -> str:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    ).decode()


def main() -> int:
    """Print a new authority."""
    cell, *hosts = sys.argv[1:]
    print(json.dumps(asdict(make_authority(cell, tuple(hosts)))))
    return 0


if __name__ == "__main__":
    sys.exit(main())
