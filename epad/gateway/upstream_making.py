"""A model server as the gateway asks it, made from its table of the configuration."""

from __future__ import annotations

import base64
import fnmatch
import re
from collections.abc import Mapping
from dataclasses import dataclass

from yarl import URL

from epad.configuration.schema import UpstreamConfig
from epad.gateway.health import Health
from epad.gateway.http.message import Field
from epad.gateway.http.pool import Origin
from epad.gateway.route import Upstream
from epad.gateway.server_profile import ServerProfile

_UNIX = "unix"


@dataclass(frozen=True, slots=True)
class KeyedUpstreams:
    """A configuration of upstreams, and the key that each is asked with."""

    config: Mapping[str, UpstreamConfig]
    keys: Mapping[str, str]


def make_upstream(name: str, config: UpstreamConfig, key: str, health: Health) -> Upstream:
    """Make an upstream without any knowledge but its configuration."""
    scheme, _, rest = config.url.partition(":")
    base = "http://localhost" if scheme == _UNIX else config.url.rstrip("/")
    url = URL(base, encoded=True)
    origin = (
        Origin(path=rest)
        if scheme == _UNIX
        else Origin(url.raw_host or "", url.port or 0, url.scheme == "https")
    )
    return Upstream(
        name=name,
        base=base,
        prefix=url.raw_path.rstrip("/"),
        own_fields=_own_fields(url, key),
        dialects=frozenset(config.dialects),
        models=config.models,
        patterns=tuple(re.compile(fnmatch.translate(pattern)) for pattern in config.models),
        context_tokens=config.context_tokens,
        free=config.free or config.embedded,
        origin=origin,
        key=key,
        health=health,
        profile=ServerProfile(config.url, config.server, config.context_tokens),
        fields=frozenset(config.fields),
        subsystem=config.served_by,
        secret=config.api_key_secret,
    )


def without_secrets(url: str) -> str:
    """Return the URL of an upstream as people may see it."""
    if url.startswith(f"{_UNIX}:"):
        return url
    return str(URL(url).with_user(None).with_query(None).with_fragment(None))


def _own_fields(url: URL, key: str) -> tuple[Field, ...]:
    """Return the fields of every request to an upstream: its host, and credentials from its URL if it has no key."""
    host = (b"Host", url.authority.rpartition("@")[2].encode())
    if url.user is None or key:
        return (host,)
    login = f"{url.user}:{url.password or ''}".encode()
    return host, (b"Authorization", b"Basic " + base64.b64encode(login))
