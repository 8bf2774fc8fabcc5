"""Check the tables `[tools.servers.NAME]`: a name, one way to be reached, secrets that go nowhere else."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Final
from urllib.parse import urlsplit

from epad.configuration.complaint import Complaint
from epad.configuration.confine_checks import check_hosts, readable_rules
from epad.configuration.secret_schema import SecretConfig
from epad.configuration.servers_schema import ServerConfig
from epad.configuration.toml_lines import KeyPath
from epad.configuration.urls import shown, url_fault
from epad.gate.tool_risk import ToolRisk
from runners.tools.catalogue import CATEGORIES

find_secrets: Final = re.compile(r"\{\{secret:([^{}]*)\}\}").findall
"""Return the names of the secrets that a text has placeholders of."""
is_server_name: Final = re.compile(r"[a-z][a-z0-9]*(?:[-_][a-z0-9]+)*").fullmatch
"""Tell if a text can name a server: it has no two underscores in a row, so the end of it is told in a tool's name."""
MOST_NAME_CHARACTERS: Final = 32
_is_variable: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*").fullmatch
_is_field: Final = re.compile(r"[A-Za-z0-9-]+").fullmatch
_LOOPBACK: Final = frozenset({"localhost", "127.0.0.1", "::1"})
_OURS: Final = frozenset({"accept", "content-type", "content-length", "host", "mcp-session-id", "mcp-method"})
_OF_COMMANDS: Final = ("environment", "workspace", "read", "hosts", "user")


def check_servers(
    servers: Mapping[str, ServerConfig], secrets: Mapping[str, SecretConfig]
) -> Iterator[Complaint]:
    """Yield every fault in the tables."""
    for name, server in servers.items():
        path: KeyPath = ("tools", "servers", name)
        yield from _check_name(path, name)
        if bool(server.command) == bool(server.url):
            yield Complaint(
                path, 'needs command or url, and not both: command = ["npx", "..."], or where it listens'
            )
            continue
        yield from _check_command(path, server) if server.command else _check_url(path, server)
        yield from _check_secrets(path, server, secrets)
        yield from _check_risks((*path, "risks"), server)


def _check_risks(path: KeyPath, server: ServerConfig) -> Iterator[Complaint]:
    known = ", ".join(ToolRisk)
    for tool, risk in server.risks.items():
        if not tool:
            yield Complaint(path, 'names no tool; give a name of its list, or "*" for all others')
        elif risk not in set(ToolRisk):
            yield Complaint(path, f"says of {shown(tool)} that it is {shown(risk)}; there are: {known}")


def _check_name(path: KeyPath, name: str) -> Iterator[Complaint]:
    if is_server_name(name) is None or len(name) > MOST_NAME_CHARACTERS:
        text = f"may not be called {shown(name)}: its tools begin with it, so give a-z, 0-9, and single - or _ between"
        yield Complaint(path, f"{text}, {MOST_NAME_CHARACTERS} at most")
    elif name in CATEGORIES:
        text = f"may not be called {name}: epad's own tools of that category are; call it mcp-{name}"
        yield Complaint(path, text)


def _check_command(path: KeyPath, server: ServerConfig) -> Iterator[Complaint]:
    if server.headers:
        yield Complaint((*path, "headers"), "is set, but a child is not reached by HTTP; give environment")
    for name in server.environment:
        if _is_variable(name) is None:
            yield Complaint((*path, "environment"), f"has {shown(name)}, which is no name of a variable")
    places = {"workspace": (server.workspace,) if server.workspace else (), "read": server.read}
    for key, given in places.items():
        for place in given:
            if not place.startswith(("/", "~/")) and place != "~":
                text = f'has "{place}", a relative path; give it from the root, or from ~/'
                yield Complaint((*path, key), text)
    if server.workspace == "/":
        yield Complaint((*path, "workspace"), 'is "/", the whole machine; name a directory')
    yield from check_hosts((*path, "hosts"), server.hosts)


def _check_url(path: KeyPath, server: ServerConfig) -> Iterator[Complaint]:
    plain = ServerConfig()
    for key in _OF_COMMANDS:
        if getattr(server, key) != getattr(plain, key):
            yield Complaint(
                (*path, key), "is set, but a server with a url is no child of epad's; take it out"
            )
    if fault := url_fault(server.url):
        yield Complaint((*path, "url"), fault)
        return
    parts = urlsplit(server.url)
    if parts.scheme not in {"http", "https"} or parts.username is not None or parts.fragment:
        yield Complaint((*path, "url"), f'is {shown(server.url)}; give it as "https://example.org/mcp"')
    elif parts.scheme == "http" and parts.hostname not in _LOOPBACK:
        text = f"is {shown(server.url)}, which anybody on the way can read and change; give https://"
        yield Complaint((*path, "url"), text)
    for name, value in server.headers.items():
        if _is_field(name) is None or name.lower() in _OURS or not value.isprintable():
            yield Complaint(
                (*path, "headers"), f"has {shown(name)}, which cannot be sent; give Authorization, say"
            )


def _check_secrets(
    path: KeyPath, server: ServerConfig, secrets: Mapping[str, SecretConfig]
) -> Iterator[Complaint]:
    """Yield the secrets that there are none of, and those that could go where they are not bound to."""
    key = "environment" if server.command else "headers"
    values = (server.environment if server.command else server.headers).values()
    for name in sorted({name for value in values for name in find_secrets(value)}):
        if (secret := secrets.get(name)) is None:
            known = ", ".join(sorted(secrets)) or "none"
            yield Complaint(
                (*path, key), f'names the secret "{name}", which is not in [secrets]; there are: {known}'
            )
            continue
        bound = ("secrets", name, "hosts")
        for host in sorted(hosts_of(server) - set(secret.hosts)):
            text = f"gives it the secret {name}, and it reaches {host}, which that secret is not bound to"
            yield Complaint(
                (*path, key), f"{text}; add the host to [secrets.{name}] hosts, or take it out", (bound,)
            )


def hosts_of(server: ServerConfig) -> set[str]:
    """Return the hosts that a server can send to, as those of secrets are written."""
    if server.url:
        return {urlsplit(server.url).hostname or ""}
    return {("*." if rule.wildcard else "") + rule.name for rule in readable_rules(server.hosts)}
