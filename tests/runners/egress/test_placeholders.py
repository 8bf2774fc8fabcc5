"""Placeholders of secrets: where they are filled in, and where they are refused."""

from __future__ import annotations

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runners.egress.messages import OpenDoor, Secret, read_order, write_order
from runners.egress.placeholders import filled, is_bound
from runners.egress.refusal import RefusedError, Why
from runners.egress.request_head import Target

SECRETS = (Secret("github", ("api.github.com",), "s3cr3t"), Secret("other", ("b.example",), "0th3r"))
HOST = "api.github.com"
THERE = Target(HOST, 80)


def head(*fields: str, first: str = "GET / HTTP/1.1") -> bytes:
    return "\r\n".join([first, "host: api.github.com", *fields, "", ""]).encode("latin-1")


def test_a_secret_takes_the_place_of_its_name() -> None:
    """Wherever it stands in a field, and more than once."""
    text = filled(head("authorization: Bearer {{secret:github}}", "x: a{{secret:github}}b"), SECRETS, THERE)
    assert text == head("authorization: Bearer s3cr3t", "x: as3cr3tb")


def test_a_password_may_be_one() -> None:
    """As programs send it: git, pip and curl with a user."""
    held, sent = (base64.b64encode(pair).decode() for pair in (b"me:{{secret:github}}", b"me:s3cr3t"))
    assert filled(head(f"authorization: Basic {held}"), SECRETS, THERE) == head(
        f"authorization: Basic {sent}"
    )


@pytest.mark.parametrize("name", ["other", "nobody", "github2"])
def test_a_secret_of_another_host_is_refused(name: str) -> None:
    """So is one that there is not: the server would only be shown its name."""
    with pytest.raises(RefusedError, match=f"the secret {name} is not for {HOST}") as refused:
        filled(head(f"x: {{{{secret:{name}}}}}"), SECRETS, THERE)
    assert refused.value.why is Why.PLACEHOLDER


def test_a_secret_is_not_filled_into_a_url() -> None:
    with pytest.raises(RefusedError, match="never into a URL"):
        filled(head(first="GET /?key={{secret:github}} HTTP/1.1"), SECRETS, THERE)


@pytest.mark.parametrize(
    "field",
    ["x: {{secret:github}}", "authorization: Basic " + base64.b64encode(b"me:{{secret:github}}").decode()],
)
@pytest.mark.parametrize("port", [443, 8080, 81])
def test_a_secret_is_sent_to_no_other_port_where_it_could_be_read(field: str, port: int) -> None:
    """A rule may allow that port of its host, by plain HTTP; anything without a placeholder goes there."""
    with pytest.raises(RefusedError, match="the secret github goes over TLS alone"):
        filled(head(field), SECRETS, Target(HOST, port))
    assert filled(head("x: y"), SECRETS, Target(HOST, port)) == head("x: y")


@given(st.lists(st.text("abc{}: secretgithub=", max_size=20), max_size=4))
def test_what_is_no_placeholder_stays(values: list[str]) -> None:
    text = head(*(f"x: {value}" for value in values))
    if b"{{secret:" not in text:
        assert filled(text, SECRETS, THERE) == text


def test_only_the_host_of_a_secret_is_asked_over_tls() -> None:
    assert is_bound(SECRETS, HOST)
    assert not is_bound(SECRETS, "github.com")


def test_a_secret_is_handed_over_and_not_shown() -> None:
    order = OpenDoor("agent", (), secrets=SECRETS)
    assert read_order(write_order(order)) == order
    assert "s3cr3t" not in repr(order)
