"""Read the secrets that a policy lets the way out send: from files, systemd's credentials, and the vault."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from pathlib import Path

import structlog

from epad.configuration.secret_schema import SecretConfig
from epad.confinement.policy import Policy
from epad.secrets.errors import SecretError
from epad.secrets.vault import Vault
from runners.egress.messages import Secret

_MOST_BYTES = 4_096


async def read_secrets(
    policy: Policy, config: Mapping[str, SecretConfig], credentials: Path | None, vault: Vault | None = None
) -> tuple[Secret, ...]:
    """Return the secrets of a policy. One that cannot be read is told and left out, so its placeholder is refused."""
    found = []
    for name in sorted({one.name for one in policy.secrets}):
        hosts = tuple(sorted(one.host for one in policy.secrets if one.name == name))
        try:
            if config[name].sealed and vault is not None:
                value, hosts = await vault.lend(name, policy.subsystem, hosts)
                text = _line(value, f"the secret {name}")
            else:
                text = await asyncio.to_thread(_read, config[name], credentials)
            found.append(Secret(name, hosts, text))
        except (OSError, ValueError, KeyError, SecretError) as error:
            structlog.get_logger("epad.confinement").error(
                "egress.secret_not_read",
                secret=name,
                error=str(error),
                effect="requests that need it are refused",
            )
    return tuple(found)


def _read(secret: SecretConfig, credentials: Path | None) -> str:
    """Return a secret, one line of text. Raises OSError, ValueError."""
    if secret.credential and credentials is None:
        raise ValueError("there is no $CREDENTIALS_DIRECTORY: give the unit LoadCredential=, or use file")
    path = credentials / secret.credential if secret.credential and credentials else Path(secret.file)
    with path.open("rb") as file:
        return _line(file.read(_MOST_BYTES + 1), str(path))


def _line(data: bytes, where: str) -> str:
    """Return a value that may stand in a field of a request. Raises ValueError."""
    value = data.decode("latin-1").strip()
    if not value or len(value) > _MOST_BYTES or not all("\x20" <= one <= "\x7e" for one in value):
        raise ValueError(f"{where} holds no single line of printable text")
    return value
