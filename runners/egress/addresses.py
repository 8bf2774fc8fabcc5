"""Tell which addresses are public, by the registries of special addresses (IANA, 2025).

`ipaddress.is_global` is not used: its answer for mapped and translated addresses has changed between patch releases of
Python, and the addresses that a wall lets through must not.
"""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address
from typing import Final

_V4: Final = tuple(
    (IPv4Network(network), words)
    for network, words in (
        ("0.0.0.0/8", "an address of this network"),
        ("10.0.0.0/8", "a private address"),
        ("100.64.0.0/10", "a shared address of a provider"),
        ("127.0.0.0/8", "a loopback address"),
        ("168.63.129.16/32", "the address of a cloud's metadata"),  # Azure's; its number is a public one
        ("169.254.169.254/32", "the address of a cloud's metadata"),
        ("169.254.0.0/16", "a link-local address"),
        ("172.16.0.0/12", "a private address"),
        ("192.0.0.0/24", "a reserved address"),
        ("192.0.2.0/24", "an address for documentation"),
        ("192.88.99.0/24", "a 6to4 relay"),
        ("192.168.0.0/16", "a private address"),
        ("198.18.0.0/15", "an address for measurements"),
        ("198.51.100.0/24", "an address for documentation"),
        ("203.0.113.0/24", "an address for documentation"),
        ("224.0.0.0/4", "a multicast address"),
        ("240.0.0.0/4", "a reserved address"),
    )
)
_V6: Final = tuple(
    (IPv6Network(network), words)
    for network, words in (
        ("::1/128", "a loopback address"),
        ("fc00::/7", "a private address"),
        ("fe80::/10", "a link-local address"),
        ("ff00::/8", "a multicast address"),
        ("2001::/32", "a Teredo address"),
        ("2001::/23", "a reserved address"),
        ("2001:db8::/32", "an address for documentation"),
        ("2002::/16", "a 6to4 address"),
        ("3fff::/20", "an address for documentation"),
    )
)
_GLOBAL_UNICAST: Final = IPv6Network("2000::/3")
_TRANSLATED: Final = IPv6Network("64:ff9b::/96")


def why_not_public(address: str) -> str:
    """Return why an address is not public, as `a private address`; empty for one that is."""
    try:
        value = ip_address(address)
    except ValueError:
        return "no address"
    if isinstance(value, IPv6Address):
        if value.scope_id is not None:
            return "an address with a zone"
        if value.ipv4_mapped is not None:
            return _why_v4(value.ipv4_mapped)
        if value in _TRANSLATED:  # what an IPv6 network's own resolver makes of an IPv4 address
            return _why_v4(IPv4Address(int(value) & 0xFFFF_FFFF))
        return _why_v6(value)
    return _why_v4(value)


def _why_v4(value: IPv4Address) -> str:
    return next((words for network, words in _V4 if value in network), "")


def _why_v6(value: IPv6Address) -> str:
    words = next((words for network, words in _V6 if value in network), "")
    return words or ("" if value in _GLOBAL_UNICAST else "a reserved address")
