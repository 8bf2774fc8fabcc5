"""Read and write keys and certificates: PEM as files have them, DER as the Workload API does."""

from __future__ import annotations

from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec


def load_key(pem: str) -> ec.EllipticCurvePrivateKey:
    """Return the key of a PEM text of epad's."""
    key = serialization.load_pem_private_key(pem.encode(), None)
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise TypeError(f"a key of epad's is {type(key).__name__}")
    return key


def new_pem(key: ec.EllipticCurvePrivateKey) -> str:
    """Return a key as PEM, unencrypted."""
    form = serialization.PrivateFormat.PKCS8
    return key.private_bytes(serialization.Encoding.PEM, form, serialization.NoEncryption()).decode()


def key_pem(der: bytes) -> str:
    """Return a key of any kind as PEM, unencrypted. Raises ValueError."""
    form = serialization.PrivateFormat.PKCS8
    key = serialization.load_der_private_key(der, None)
    return key.private_bytes(serialization.Encoding.PEM, form, serialization.NoEncryption()).decode()


def certificate_pem(certificate: x509.Certificate) -> str:
    """Return a certificate as PEM."""
    return certificate.public_bytes(serialization.Encoding.PEM).decode()


def split_der(data: bytes) -> list[x509.Certificate]:
    """Return certificates that stand one behind the other. Raises ValueError."""
    found = []
    while data:
        size = _size(data)
        found.append(x509.load_der_x509_certificate(data[:size]))
        data = data[size:]
    return found


def _size(data: bytes) -> int:
    """Return the bytes of the first DER value, its head among them. Raises ValueError."""
    if len(data) < 2:
        raise ValueError("a certificate is cut short")
    first = data[1]
    if first < 0x80:
        return 2 + first
    count = first & 0x7F
    return 2 + count + int.from_bytes(data[2 : 2 + count])
