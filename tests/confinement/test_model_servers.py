"""Model servers by configuration: those on this machine by their ports, the others by their hosts."""

from __future__ import annotations

import pytest
from cell_doubles import an_address_of_this_machine

from epad.configuration.schema import UpstreamConfig
from epad.confinement.attempts import Attempt, How
from epad.confinement.model_servers import is_of_this_machine, servers_of

SERVERS = servers_of(
    {
        name: UpstreamConfig(url=url, dialects=("openai",))
        for name, url in {
            "ollama": "http://localhost:11434",
            "vllm": "http://[::1]:8000/v1",
            "plain": "http://127.0.0.1",
            "socket": "unix:/run/model.sock",
            "cloud": "https://API.vendor.example/v1",
            "near": "http://192.0.2.7:8080",
        }.items()
    },
    8_700,
)


def test_servers_are_known_by_port_or_host() -> None:
    """A Unix socket is no address that anybody could connect to."""
    assert SERVERS.ports == {
        8_700: "the gateway's port for everyone",
        11_434: "upstream ollama",
        8_000: "upstream vllm",
        80: "upstream plain",
    }
    assert SERVERS.hosts == {"api.vendor.example": "upstream cloud", "192.0.2.7": "upstream near"}


@pytest.mark.parametrize(
    ("attempt", "server"),
    [
        (Attempt(How.TCP, "127.0.0.1", 11_434), "upstream ollama"),
        (Attempt(How.TCP, "192.0.2.1", 11_434), ""),  # another machine's
        (Attempt(How.TCP, "192.0.2.7", 1), "upstream near"),
        (Attempt(How.LOOKUP, "127.0.0.1", 53, "api.vendor.example"), "upstream cloud"),
        (Attempt(How.LOOKUP, "127.0.0.1", 80, "b.example"), ""),
    ],
)
def test_an_attempt_is_made_at_a_server_or_at_none(attempt: Attempt, server: str) -> None:
    assert SERVERS.at(attempt) == server


def test_an_address_of_this_machine_is_told_from_another() -> None:
    assert is_of_this_machine(an_address_of_this_machine())
    assert is_of_this_machine("127.3.4.5")
    assert not is_of_this_machine("192.0.2.1")
    assert not is_of_this_machine("a.example")
