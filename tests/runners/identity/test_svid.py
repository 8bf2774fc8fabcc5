"""SVIDs say what the specification asks of them, and a JWT-SVID with anything wrong is refused."""

from __future__ import annotations

import time
from typing import Any

import jwt
import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID
from cryptography.x509.verification import PolicyBuilder, Store

from runners.identity.authority import Kept, certificates, make_authority, with_new_signer
from runners.identity.pem import load_key
from runners.identity.svid import InvalidError, Signer, validated

ID = "spiffe://epad.test/subsystem/agent"
KEPT = with_new_signer(Kept("epad.test"), time.time())
OTHER = with_new_signer(Kept("epad.test"), time.time())


def signer(kept: Kept = KEPT) -> Signer:
    assert kept.signer is not None
    return Signer(kept.signer, 600, 300)


def test_an_x509_svid_is_a_leaf_with_one_name() -> None:
    """X509-SVID.md, 2 and 4: exactly one URI, no certificate authority, and only digital signatures."""
    now = time.time()
    svid = signer().x509(ID, now)
    leaf = x509.load_der_x509_certificate(svid.certificate)
    names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert [name.value for name in names] == [ID]
    assert not leaf.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    usage = leaf.extensions.get_extension_for_class(x509.KeyUsage).value
    assert usage.digital_signature
    assert not usage.key_cert_sign
    uses = leaf.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert set(uses) == {ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH}
    assert leaf.not_valid_after_utc.timestamp() == int(now + 600)
    assert svid.serial == f"{leaf.serial_number:x}"


def test_a_verifier_takes_it_by_the_bundle_and_by_no_other() -> None:
    leaf = x509.load_der_x509_certificate(signer().x509(ID, time.time()).certificate)
    for kept, is_trusted in ((KEPT, True), (OTHER, False)):
        verifier = PolicyBuilder().store(Store(certificates(kept.authorities))).build_client_verifier()
        try:
            found = verifier.verify(leaf, [])
        except x509.verification.VerificationError:
            assert not is_trusted
        else:
            assert is_trusted
            assert found.subjects is not None
            assert [name.value for name in found.subjects] == [ID]


def test_a_jwt_svid_is_taken_for_each_of_its_audiences() -> None:
    token = signer().jwt(ID, ["a", "b"], time.time()).token
    for audience in ("a", "b"):
        found, claims = validated(token, audience, KEPT)
        assert (found, claims["aud"]) == (ID, ["a", "b"])
    header = jwt.get_unverified_header(token)
    assert (header["alg"], header["typ"], header["kid"]) == ("ES256", "JWT", KEPT.signing)


def altered(**claims: Any) -> str:
    """A token that the authority has signed, with other claims; None takes one out."""
    assert KEPT.signer is not None
    now = time.time()
    whole = {"sub": ID, "aud": ["a"], "exp": now + 86_400, "iat": now, **claims}
    said = {name: value for name, value in whole.items() if value is not None}
    return jwt.encode(said, load_key(KEPT.signer.jwt_key), "ES256", headers={"kid": KEPT.signing})


@pytest.mark.parametrize(
    ("token", "why"),
    [
        (altered(exp=time.time() - 1), "expired"),
        (altered(exp=None), 'missing the "exp"'),
        (altered(aud=None), 'missing the "aud"'),
        (altered(aud="other"), "Audience"),
        (altered(sub=None), 'missing the "sub"'),
        (altered(sub="spiffe://other.test/subsystem/agent"), "not of epad.test"),
        (altered(sub="spiffe://epad.test.other/subsystem/agent"), "not of epad.test"),
        (signer(OTHER).jwt(ID, ["a"], time.time()).token, "no authority"),
        (jwt.encode({"sub": ID, "aud": "a", "exp": time.time() + 9}, "", "none"), "no authority"),
        (
            jwt.encode(
                {"sub": ID, "aud": "a", "exp": time.time() + 9},
                "k" * 64,
                "HS256",
                headers={"kid": KEPT.signing},
            ),
            "alg value is not allowed",
        ),
        (
            jwt.encode(
                {"sub": ID, "aud": "a", "exp": time.time() + 9},
                ec.generate_private_key(ec.SECP256R1()),
                "ES256",
                headers={"kid": KEPT.signing},
            ),
            "verification failed",
        ),
        ("", "segments"),
        ("a.b.c", "Invalid"),
        ("\udcff.b.c", "encode"),
    ],
)
def test_anything_wrong_is_refused(token: str, why: str) -> None:
    with pytest.raises(InvalidError, match=why):
        validated(token, "a", KEPT)


def test_nothing_outlives_its_authority() -> None:
    authority = make_authority("epad.test", time.time())
    late = authority.ends - 10
    assert Signer(authority, 600, 300).x509(ID, late).until == authority.ends
    assert Signer(authority, 600, 300).jwt(ID, ["a"], late).until == int(authority.ends)
