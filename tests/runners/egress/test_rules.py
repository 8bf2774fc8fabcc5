"""Host rules: what their text means, what it may not be, and which requests they let out."""

from __future__ import annotations

import ast
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runners.egress import rules
from runners.egress.rules import HostRule, RuleError, first_match, matches, normal, parse

LABELS = st.from_regex(r"[a-z][a-z0-9]{0,8}", fullmatch=True)
NAMES = st.lists(LABELS, min_size=2, max_size=4).map(".".join)
PORTS = st.integers(1, 65_535)


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        ("github.com", HostRule("github.com")),
        ("GitHub.COM.", HostRule("github.com")),
        ("*.githubusercontent.com", HostRule("githubusercontent.com", wildcard=True)),
        ("example.org:8443", HostRule("example.org", port=8443)),
        ("10.0.0.5:8000", HostRule("10.0.0.5", port=8000)),
        ("[FD00::0:1]:443", HostRule("fd00::1")),
        ("private:git.example.org", HostRule("git.example.org", private=True)),
        ("private:*.corp.example.org:22", HostRule("corp.example.org", wildcard=True, port=22, private=True)),
        ("bücher.example", HostRule("xn--bcher-kva.example")),
        ("nas", HostRule("nas")),
        ("_acme.example.org", HostRule("_acme.example.org")),
    ],
)
def test_a_rule_is_read(text: str, rule: HostRule) -> None:
    """In each of its forms; and its own text is read as the same."""
    assert parse(text) == rule
    assert parse(str(rule)) == rule


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("https://github.com", "URL"),
        ("10.0.0.0/8", "network"),
        ("", "no host"),
        ("*", "no host"),
        ("*.com", "every host below .com"),
        ("a..b", "no host"),
        ("-a.example", "no host"),
        ("a b.example", "no host"),
        ("a.*.example", "no host"),
        ("*.*.example", "no host"),
        (f"{'a' * 64}.example", "no host"),
        (".".join(["a" * 60] * 5), "no host"),
        ("fd00::1", "in brackets"),
        ("[fe80::1%eth0]", "no host"),
        ("[github.com]", "brackets"),
        ("github.com:0", "from 1 to 65535"),
        ("github.com:65536", "from 1 to 65535"),
        ("github.com:", "from 1 to 65535"),
        ("github.com:https", "from 1 to 65535"),
        ("github.com:٤٤٣", "from 1 to 65535"),
        ("*.10.0.0.5", "an address with"),
        ("private:10.0.0.5", "an address with"),
        ("127.1", "number"),
        ("2130706433", "number"),
        ("0x7f.0x1", "number"),
        ("010.0.0.5", "number"),
        ("straße.example", "xn--"),
        ("a\u200db.example", "xn--"),
        ("\uff27itHub.com", "xn--"),
    ],
)
def test_a_rule_that_two_readers_could_read_differently_is_none(text: str, said: str) -> None:
    """The message says why."""
    with pytest.raises(RuleError) as caught:
        parse(text)
    assert said in str(caught.value)


@pytest.mark.parametrize(
    ("text", "host", "port", "passes"),
    [
        ("github.com", "github.com", 443, True),
        ("github.com", "github.com", 22, False),
        ("github.com", "api.github.com", 443, False),
        ("*.github.com", "api.github.com", 443, True),
        ("*.github.com", "a.b.github.com", 443, True),
        ("*.github.com", "github.com", 443, False),
        ("*.github.com", "evilgithub.com", 443, False),
        ("*.github.com", "github.com.evil.org", 443, False),
        ("10.0.0.5:8000", "10.0.0.5", 8000, True),
        ("10.0.0.5:8000", "10.0.0.50", 8000, False),
        ("[fd00::1]", "fd00::1", 443, True),
    ],
)
def test_which_requests_a_rule_lets_out(text: str, host: str, port: int, passes: bool) -> None:
    """A wildcard is for what lies below, and for no address."""
    assert matches(parse(text), host, port) is passes


def test_the_rule_that_gives_most_is_found_first() -> None:
    """So a private name stays private where a wildcard has it too."""
    both = [parse("*.example.org"), parse("private:git.example.org")]
    assert first_match(both, "git.example.org", 443) == both[1]
    assert first_match(both, "www.example.org", 443) == both[0]
    assert first_match(both, "example.com", 443) is None


@given(NAMES, PORTS, st.booleans(), st.booleans())
def test_what_a_rule_says_of_itself_is_read_as_the_same(
    name: str, port: int, wildcard: bool, private: bool
) -> None:
    """For names of every length and every port."""
    rule = HostRule(name, wildcard, port, private)
    assert parse(str(rule)) == rule


@given(st.text(max_size=40))
def test_any_text_is_a_rule_or_an_error(text: str) -> None:
    """And what `normal` has made of a host it leaves alone."""
    try:
        rule = parse(text)
    except RuleError:
        return
    assert normal(rule.name) == rule.name
    assert rule.name.isascii()


def test_the_file_needs_the_standard_library_alone() -> None:
    """The daemon and the proxy child share it, and the child imports nothing of epad."""
    tree = ast.parse(Path(rules.__file__).read_text())
    names = {node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    names |= {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    assert {name.split(".")[0] for name in names} <= sys.stdlib_module_names
