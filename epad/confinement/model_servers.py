"""Find by configuration where model servers listen, so that an attempt to reach one past the gateway has a name."""

from __future__ import annotations

import socket
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from ipaddress import ip_address
from urllib.parse import urlsplit

from epad.configuration.schema import UpstreamConfig
from epad.configuration.urls import addresses
from epad.confinement.attempts import Attempt, How


@dataclass(frozen=True, slots=True)
class Servers:
    """Names the model servers: those on this machine by their ports, the others by their hosts."""

    ports: Mapping[int, str] = field(default_factory=dict)
    hosts: Mapping[str, str] = field(default_factory=dict)

    def at(self, attempt: Attempt) -> str:
        """Return the name of the server that an attempt is made at; empty if it is none of these."""
        if attempt.how is How.LOOKUP:
            return self.hosts.get(attempt.name, "")
        if attempt.port in self.ports and is_of_this_machine(attempt.address):
            return self.ports[attempt.port]
        return self.hosts.get(attempt.address, "")


def servers_of(upstreams: Mapping[str, UpstreamConfig], gateway_port: int) -> Servers:
    """Return the servers behind the upstreams. The gateway's port for everyone is one of them: it leads to each."""
    ports = {gateway_port: "the gateway's port for everyone"}
    hosts: dict[str, str] = {}
    for name, upstream in upstreams.items():
        parts = urlsplit(upstream.url)
        if not parts.hostname:  # a Unix socket, which is no address
            continue
        known = addresses(parts.hostname)
        if any(map(is_of_this_machine, known)):
            ports[parts.port or (443 if parts.scheme == "https" else 80)] = f"upstream {name}"
        else:
            hosts |= dict.fromkeys(known, f"upstream {name}")
    return Servers(ports, hosts)


def is_of_this_machine(address: str) -> bool:
    """Tell if an address is one of this machine's: a socket can be bound to no other. A name is none."""
    try:
        if ip_address(address).is_loopback:
            return True
    except ValueError:
        return False
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with suppress(OSError), socket.socket(family, socket.SOCK_STREAM) as tried:
        tried.bind((address, 0))
        return True
    return False
