"""Rules of hosts: how they are written, what they match, and what is no rule."""

from __future__ import annotations

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runners.egress.rules import HostRule, RuleError, address_of, first_match, host_name, matches, parse

LABELS = st.from_regex(r"[a-z0-9]([a-z0-9-]{0,8}[a-z0-9])?", fullmatch=True)
NAMES = st.builds(
    lambda labels, last: ".".join([*labels, last]), st.lists(LABELS, max_size=3), st.just("example")
)
PORTS = st.integers(1, 65535)
ADDRESSES = st.ip_addresses().map(lambda address: str(ipaddress.ip_address(int(address)))) | st.ip_addresses(
    v=6
).map(str)


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        ("github.com", HostRule("github.com")),
        ("GitHub.COM.", HostRule("github.com")),
        ("packages.example:8443", HostRule("packages.example", port=8443)),
        ("*.github.com", HostRule("github.com", wildcard=True)),
        ("bücher.example", HostRule("xn--bcher-kva.example")),
        ("10.0.0.5:8000", HostRule("10.0.0.5", port=8000)),
        ("[fd00::5]:1", HostRule("fd00::5", port=1)),
        ("fd00::5", HostRule("fd00::5")),
        ("[FD00:0::5]", HostRule("fd00::5")),
        ("nas.lan=10.0.0.5:8443", HostRule("nas.lan", port=8443, address="10.0.0.5")),
        ("nas=[fd00::5]:22", HostRule("nas", port=22, address="fd00::5")),
    ],
)
def test_a_rule_is_read(text: str, rule: HostRule) -> None:
    assert parse(text) == rule
    assert parse(str(rule)) == rule


@pytest.mark.parametrize(
    "text",
    [
        *(
            "",
            "*",
            "*.",
            "*.com",
            "a..b",
            "a b",
            "-a.example",
            "http://a.example",
            "a.example/path",
            "me@a.example",
        ),
        *("a.example:", "a.example:0", "a.example:65536", "a.example:https", "a.example:+1", "a.example:٣"),
        *("127.1", "0x7f000001", "2130706433", "0177.0.0.1", "1.2.3.4.5", "a.0x1", "010.0.0.5"),
        *("*.10.0.0.5", "fe80::1%eth0", "[fe80::1%25eth0]:1", "straße.example", "a*.example", "x" * 64),
        *("nas=other:1", "10.0.0.5=10.0.0.6", "=10.0.0.5", "*.lan=10.0.0.5", ".".join(["a"] * 130)),
    ],
)
def test_what_is_no_rule_is_refused(text: str) -> None:
    with pytest.raises(RuleError):
        parse(text)


@given(NAMES, PORTS, st.booleans())
def test_what_is_written_is_read_again(name: str, port: int, wildcard: bool) -> None:
    rule = HostRule(name, wildcard and "." in name, port)
    assert parse(str(rule)) == rule


@given(ADDRESSES, PORTS)
def test_an_address_is_read_again(address: str, port: int) -> None:
    rule = HostRule(host_name(address), port=port)
    assert parse(str(rule)) == rule
    assert rule.pinned == rule.name


@given(NAMES, NAMES, PORTS, PORTS)
def test_a_rule_matches_its_own_host_alone(name: str, other: str, port: int, elsewhere: int) -> None:
    rule = parse(f"{name}:{port}")
    assert matches(rule, name, port)
    assert matches(rule, other, elsewhere) == (name == other and port == elsewhere)


@given(LABELS, NAMES)
def test_a_wildcard_matches_below_its_name_alone(label: str, name: str) -> None:
    rule = HostRule(name, wildcard=True)
    assert matches(rule, f"{label}.{name}", 443)
    assert matches(rule, f"a.{label}.{name}", 443)
    assert not matches(rule, name, 443)
    assert not matches(rule, f"{label}{name}", 443)
    assert not matches(rule, f"{name}.{label}", 443)


def test_the_rule_that_names_a_host_comes_before_a_wildcard() -> None:
    exact, wild = parse("a.b.example=10.0.0.5"), parse("*.b.example")
    assert first_match([wild, exact], "a.b.example", 443) is exact
    assert first_match([wild, exact], "c.b.example", 443) is wild
    assert first_match([wild, exact], "b.example", 443) is None


@given(st.text(max_size=30))
def test_a_host_is_a_name_of_dns_or_an_address(text: str) -> None:
    """Whatever comes, it is refused or reads as itself again."""
    try:
        name = host_name(text)
    except RuleError:
        return
    assert name.isascii()
    assert host_name(name) == name
    assert address_of(name) or not name.rpartition(".")[2].isdecimal()
