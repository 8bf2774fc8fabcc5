"""Check the vault's directory and its patterns of paths."""

from __future__ import annotations

from collections.abc import Iterator

from epad.configuration.complaint import Complaint
from epad.configuration.urls import shown
from epad.configuration.vault_schema import VaultConfig


def check_vault(config: VaultConfig) -> Iterator[Complaint]:
    """Yield every fault of the vault's table."""
    if config.directory and not config.directory.startswith("/"):
        text = (
            f'is {shown(config.directory)}; give a path from the root, as "/srv/knowledge", or leave it empty'
        )
        yield Complaint(("vault", "directory"), text)
    tables = {"private": config.private, "untrusted": config.untrusted, "append": tuple(config.append)}
    for key, patterns in tables.items():
        for pattern in patterns:
            if not pattern or pattern.startswith("/") or "//" in pattern or ".." in pattern.split("/"):
                text = f'has {shown(pattern)}; give a pattern of paths in the vault, as "logs/*.md"'
                yield Complaint(("vault", key), text)
