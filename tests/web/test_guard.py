"""Who may talk to the page: strangers' names for this machine and strangers' forms are refused."""

from __future__ import annotations

import pytest

from epad.web import guard

HOST = "127.0.0.1:8702"


@pytest.mark.parametrize(
    "host",
    ["localhost", "localhost:8702", HOST, "127.1.2.3", "[::1]:8702", "epad.localhost:1", "gpu-box:8702"],
)
def test_our_own_names(host: str) -> None:
    """Loopback, and what the configuration names."""
    assert guard.refuse_host(host, frozenset({"gpu-box"})) == ""


@pytest.mark.parametrize(
    "host",
    ["evil.example:8702", "", "127.0.0.1.evil.example", "10.0.0.7:8702", "localhost.evil.example", "gpu-box"],
)
def test_a_rebound_name_is_refused(host: str) -> None:
    """A site that points its own name at 127.0.0.1 still sends its own name."""
    assert "localhost" in guard.refuse_host(host)


@pytest.mark.parametrize(
    ("headers", "refused"),
    [
        ({"Sec-Fetch-Site": "same-origin", "Origin": f"http://{HOST}"}, False),
        ({"Origin": f"http://{HOST}"}, False),
        ({"Sec-Fetch-Site": "same-origin"}, False),
        ({"Sec-Fetch-Site": "cross-site", "Origin": "https://evil.example"}, True),
        ({"Sec-Fetch-Site": "same-site", "Origin": "http://127.0.0.1:3000"}, True),
        ({"Sec-Fetch-Site": "none"}, True),
        ({"Origin": "http://127.0.0.1:3000"}, True),
        ({"Origin": "null"}, True),
        ({}, True),
    ],
)
def test_an_order_comes_from_the_page_itself(headers: dict[str, str], refused: bool) -> None:
    """Another port of this machine is another origin."""
    assert bool(guard.refuse_origin(headers, HOST)) is refused


def test_the_token() -> None:
    """Exactly the one; and none is right where orders are off."""
    assert guard.refuse_token("abc", "abc") == ""
    assert "wrong" in guard.refuse_token("abd", "abc")
    assert "wrong" in guard.refuse_token("ü", "abc")
    assert "only shows" in guard.refuse_token("", "")
