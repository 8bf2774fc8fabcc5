"""Which addresses are public, in every form in which one may be written."""

from __future__ import annotations

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runners.egress.addresses import why_not_public

PUBLIC = [
    "1.1.1.1",
    "93.184.216.34",
    "100.63.255.255",
    "172.32.0.1",
    "2606:4700::1111",
    "2a00::1",
    "64:ff9b::808:808",
]
CLOSED = [
    *("0.0.0.0", "0.1.2.3", "10.0.0.1", "100.64.0.1", "100.100.100.200", "127.0.0.1", "127.255.255.254"),
    *(
        "169.254.1.1",
        "169.254.169.254",
        "168.63.129.16",
        "172.16.0.1",
        "172.31.255.255",
        "192.0.0.192",
        "192.0.2.1",
    ),
    *("192.88.99.1", "192.168.1.1", "198.18.0.1", "198.51.100.1", "203.0.113.1", "224.0.0.1", "240.0.0.1"),
    *(
        "255.255.255.255",
        "::",
        "::1",
        "::127.0.0.1",
        "::ffff:127.0.0.1",
        "::ffff:10.0.0.1",
        "64:ff9b::7f00:1",
    ),
    *(
        "64:ff9b::a9fe:a9fe",
        "64:ff9b:1::1",
        "100::1",
        "2001::1",
        "2001:0:53aa:64c::",
        "2001:db8::1",
        "2002:7f00:1::",
    ),
    *(
        "2002:101:101::1",
        "3fff::1",
        "5f00::1",
        "fc00::1",
        "fd00:ec2::254",
        "fe80::1",
        "fe80::1%eth0",
        "fec0::1",
    ),
    *("ff02::1", "4000::1", "2606:4700::1111%1"),
]


@pytest.mark.parametrize("address", PUBLIC)
def test_a_public_address_is_one(address: str) -> None:
    assert why_not_public(address) == ""


@pytest.mark.parametrize("address", CLOSED)
def test_no_other_address_is_public(address: str) -> None:
    assert why_not_public(address)


@pytest.mark.parametrize("text", ["", "localhost", "2130706433", "0x7f.1", "127.1", "1.2.3.4:80", "[::1]"])
def test_what_is_no_address_is_not_public(text: str) -> None:
    assert why_not_public(text) == "no address"


@given(st.ip_addresses(v=4))
def test_a_mapped_or_translated_address_is_as_public_as_its_own(address: ipaddress.IPv4Address) -> None:
    assert why_not_public(f"::ffff:{address}") == why_not_public(str(address))
    assert why_not_public(f"64:ff9b::{address}") == why_not_public(str(address))


@given(st.ip_addresses())
def test_nothing_is_public_that_python_takes_for_private(
    address: ipaddress.IPv4Address | ipaddress.IPv6Address,
) -> None:
    """Its own list differs between patch releases; where it says private, ours agrees but for translated addresses."""
    translated = address in ipaddress.ip_network("64:ff9b::/96") if address.version == 6 else False
    if address.is_private and not translated and address not in ipaddress.ip_network("192.0.0.0/29"):
        assert why_not_public(str(address))


def test_the_metadata_of_clouds_is_called_by_its_name() -> None:
    """Whoever reads the finding knows what was tried."""
    assert why_not_public("169.254.169.254") == "the address of a cloud's metadata"
    assert why_not_public("::ffff:169.254.169.254") == "the address of a cloud's metadata"
