"""The keys of the model servers: where they come from, and in which header each server looks for its own."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import urlsplit

import structlog

from epad.configuration.schema import UpstreamConfig
from epad.gateway.errors import UpstreamError
from epad.gateway.http.message import Field
from epad.secrets.errors import SecretError
from epad.secrets.purpose import GATEWAY
from epad.secrets.vault import Vault

KEY_STATUSES = frozenset({401, 403, 407})
_ANTHROPIC = "anthropic"
ANTHROPIC_PREFIX = "/v1/messages"
_SHARED_PREFIX = "/v1/models"
# The only version there is; without one, Anthropic answers 400.
ANTHROPIC_VERSION: Field = (b"anthropic-version", b"2023-06-01")


def read_keys(config: Mapping[str, UpstreamConfig], credentials: Path | None) -> dict[str, str]:
    """Return every upstream's key, empty if it has none. Raises UpstreamError."""
    return {name: _read_key(name, upstream, credentials) for name, upstream in config.items()}


def key_fields(key: str, dialects: frozenset[str], path: str) -> list[Field]:
    """Return an upstream's key, where it is looked for.

    Anthropic takes x-api-key, everyone else Authorization. A server of several dialects gets both where both
    may be meant: vLLM has /v1/messages too, and looks at Authorization alone.
    """
    fields: list[Field] = []
    anthropic = _ANTHROPIC in dialects and path.startswith((ANTHROPIC_PREFIX, _SHARED_PREFIX))
    if anthropic and path.startswith(_SHARED_PREFIX):
        fields.append(ANTHROPIC_VERSION)  # nobody's request but ours
    if key and anthropic:
        fields.append((b"x-api-key", key.encode()))
    if key and (not anthropic or dialects != {_ANTHROPIC}):
        fields.append((b"Authorization", b"Bearer " + key.encode()))
    return fields


def host_of(url: str) -> str:
    """Return the host that an upstream's key goes to, as a secret is bound to it."""
    return (urlsplit(url).hostname or "localhost") if "://" in url else "localhost"


async def read_all(
    config: Mapping[str, UpstreamConfig], credentials: Path | None, vault: Vault | None
) -> dict[str, str]:
    """Return every upstream's key, also those in the vault; one that cannot be opened is told, and empty.

    A vault may be locked at a start, and its secrets may come later: then the upstream refuses what it is asked until
    the key is there. Raises UpstreamError for a file or a credential that cannot be read.
    """
    keys = await asyncio.to_thread(read_keys, config, credentials)
    for name, upstream in config.items():
        if upstream.api_key_secret and vault is not None:
            keys[name] = await _opened_key(name, upstream, vault)
    return keys


async def _opened_key(name: str, upstream: UpstreamConfig, vault: Vault) -> str:
    try:
        value, _ = await vault.lend(upstream.api_key_secret, GATEWAY, [host_of(upstream.url)])
        return _line(value)
    except SecretError as error:
        reason = str(error)
    except ValueError:
        reason = f"the secret {upstream.api_key_secret} is no line of text"
    effect = f"requests go to {name} without a key"
    structlog.get_logger("epad.gateway").error(
        "upstream.key_not_opened", upstream=name, error=reason, effect=effect
    )
    return ""


def _line(value: bytes) -> str:
    """Return a key as it may stand in a field. Raises ValueError."""
    key = value.decode("ascii").strip()
    if not key.isprintable():
        raise ValueError("not printable")
    return key


def refused_key(name: str, key: str, secret: str = "") -> str:
    """Say that an upstream refuses epad's key, and where that is to be put right."""
    if secret:
        fix = (
            f"give it anew: epactl secret rotate {secret}"
            if key
            else f"epactl secret test {secret} tells why"
        )
        return f"upstream {name} does not take epad's key: {fix}"
    fix = (
        f"check [upstreams.{name}] api_key_file"
        if key
        else f"there is none, so set [upstreams.{name}] api_key_file"
    )
    return f"upstream {name} does not take epad's key: {fix}"


def _read_key(name: str, upstream: UpstreamConfig, credentials: Path | None) -> str:
    """Return an upstream's key, from a file or from systemd's credentials. Raises UpstreamError."""
    credential = upstream.api_key_credential
    if credential and credentials is None:
        raise UpstreamError(
            f"[upstreams.{name}] api_key_credential: there is no $CREDENTIALS_DIRECTORY; give the unit "
            f"LoadCredential={credential}:/path/of/the/key, or use api_key_file"
        )
    key = "api_key_credential" if credential else "api_key_file"
    try:
        if credential and credentials is not None:
            return (credentials / credential).read_text().strip()
        return Path(upstream.api_key_file).read_text().strip() if upstream.api_key_file else ""
    except (OSError, UnicodeDecodeError) as error:
        raise UpstreamError(f"[upstreams.{name}] {key}: {error}") from error
