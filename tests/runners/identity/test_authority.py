"""An authority's life: its successor is trusted before it signs, and leaves when all that it signed has expired."""

from __future__ import annotations

import json
import time

import msgspec
import pytest
from cryptography import x509

from runners.identity.authority import (
    AUTHORITY_SECONDS,
    OVERLAP_SECONDS,
    Kept,
    bundle_document,
    certificates,
    jwt_keys,
    next_kept,
    read_kept,
    with_new_signer,
)
from runners.identity.svid import InvalidError, Signer, validated

NOW = 1_800_000_000.0
DAY = 86_400.0


def kept_at(*days: float) -> Kept:
    """The authorities after a look at each of these days."""
    kept = Kept("epad.test")
    for day in days:
        kept, _ = next_kept(kept, NOW + day * DAY)
    return kept


@pytest.mark.parametrize(
    ("day", "trusted", "is_successor", "why"),
    [
        (6.9, 1, False, ""),
        (7.1, 2, False, "the one that signs is half through"),
        (15.0, 1, True, "none could sign"),
    ],
)
def test_a_successor_comes_at_half_of_the_life(
    day: float, trusted: int, is_successor: bool, why: str
) -> None:
    first = kept_at(0)
    kept, said = next_kept(first, NOW + day * DAY)
    assert (len(kept.authorities), kept.signing != first.signing, said) == (trusted, is_successor, why)


def test_the_successor_was_in_the_bundle_long_before_it_signs() -> None:
    half = kept_at(0, 7.1)
    kept, why = next_kept(half, NOW + 11.7 * DAY)
    assert why == "the successor signs"
    assert kept.signing == half.authorities[-1].kid
    assert half.signing in [one.kid for one in kept.authorities]
    gone, why = next_kept(kept, NOW + 11.7 * DAY + OVERLAP_SECONDS)
    assert why == "what a former one signed has expired"
    assert [one.kid for one in gone.authorities] == [kept.signing]
    assert gone.sequence > kept.sequence > half.sequence


def test_after_a_persons_order_both_are_trusted_until_the_former_has_nothing_left() -> None:
    now, name = time.time(), "spiffe://epad.test/subsystem/a"
    first = with_new_signer(Kept("epad.test"), now)
    assert first.signer is not None
    token = Signer(first.signer, 600, 300).jwt(name, ["b"], now).token
    second = with_new_signer(first, now)
    assert second.signing != first.signing
    assert validated(token, "b", second)[0] == name
    third, _ = next_kept(second, now + OVERLAP_SECONDS)
    with pytest.raises(InvalidError, match="no authority"):
        validated(token, "b", third)


def test_a_clock_set_back_finds_no_authority_that_is_valid_yet() -> None:
    kept, why = next_kept(kept_at(0), NOW - DAY)
    assert (why, len(kept.authorities)) == ("none could sign", 1)


def test_they_are_read_as_they_were_kept_and_only_for_their_own_trust_domain() -> None:
    kept = kept_at(0, 7.1)
    text = msgspec.json.encode(kept).decode()
    assert read_kept(text, "epad.test") == kept
    assert read_kept(text, "other.test").authorities == ()
    assert read_kept("", "epad.test").authorities == ()
    with pytest.raises(ValueError, match="truncated"):
        read_kept(text[:40], "epad.test")


def test_the_certificate_is_what_the_specification_asks_of_a_signing_certificate() -> None:
    """X509-SVID.md, 3.1 and 4.3: its SPIFFE id has no path, it may sign certificates, and nothing below signs."""
    (certificate,) = certificates(kept_at(0).authorities)
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.UniformResourceIdentifier) == ["spiffe://epad.test"]
    basic = certificate.extensions.get_extension_for_class(x509.BasicConstraints)
    usage = certificate.extensions.get_extension_for_class(x509.KeyUsage)
    assert basic.critical
    assert (basic.value.ca, basic.value.path_length) == (True, 0)
    assert usage.critical
    assert (usage.value.key_cert_sign, usage.value.digital_signature) == (True, False)
    assert (certificate.not_valid_after_utc.timestamp() - NOW) == AUTHORITY_SECONDS


def test_the_bundle_document_has_every_key_and_no_secret() -> None:
    kept = kept_at(0, 7.1)
    text = bundle_document(certificates(kept.authorities), jwt_keys(kept), kept.sequence)
    document = json.loads(text)
    assert [key["use"] for key in document["keys"]] == ["x509-svid"] * 2 + ["jwt-svid"] * 2
    assert document["spiffe_sequence"] == 2
    assert {name for key in document["keys"] for name in key} <= {"kty", "crv", "x", "y", "kid", "use", "x5c"}
