"""Check the reach of tools: hosts that can be read, a search engine among them, a container engine's socket."""

from __future__ import annotations

from collections.abc import Iterator
from urllib.parse import urlsplit

from epad.configuration.complaint import Complaint
from epad.configuration.confine_checks import check_hosts, readable_rules
from epad.configuration.tools_schema import ToolsConfig
from epad.configuration.urls import shown, url_fault
from runners.egress.rules import RuleError, first_match, host_name

_PORTS = {"http": 80, "https": 443}


def check_tools(config: ToolsConfig) -> Iterator[Complaint]:
    """Yield every fault of the tools' reach."""
    if config.docker.socket and not config.docker.socket.startswith("/"):
        text = f'is {shown(config.docker.socket)}; give the socket\'s path, as "/run/docker.sock"'
        yield Complaint(("tools", "docker", "socket"), text)
    for path in config.synced:
        if not path.startswith(("/", "~/")):
            text = f'has {shown(path)}; give directories from the root or from ~/, as "~/Dropbox"'
            yield Complaint(("tools", "synced"), text)
    hosts = ("tools", "web", "hosts")
    yield from check_hosts(hosts, config.web.hosts)
    key, url = ("tools", "web", "searxng"), config.web.searxng
    if not url:
        return
    if fault := _searxng_fault(url):
        yield Complaint(key, fault)
        return
    parts = urlsplit(url)
    port = parts.port or _PORTS[parts.scheme]
    if first_match(readable_rules(config.web.hosts), host_name(parts.hostname or ""), port) is None:
        text = f'is {shown(url)}, which hosts does not let pass; add "{parts.hostname}:{port}" there'
        yield Complaint(key, text, (hosts,))


def _searxng_fault(url: str) -> str:
    if fault := url_fault(url):
        return fault
    parts = urlsplit(url)
    if parts.scheme not in _PORTS or parts.username is not None or parts.query or parts.fragment:
        return f'is {shown(url)}; give its base alone, as "http://127.0.0.1:8888"'
    try:
        host_name(parts.hostname or "")
    except RuleError as error:
        return f"is {shown(url)}: {error}"
    return ""
