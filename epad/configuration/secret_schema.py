"""`[secrets.NAME]`: the secrets that the way out fills into requests of confined subsystems, and their faults."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path

from msgspec import Struct

from epad.configuration.complaint import Complaint
from epad.configuration.toml_lines import KeyPath
from runners.egress.rules import RuleError, address_of, host_name


class SecretConfig(Struct, frozen=True, forbid_unknown_fields=True):
    """Sets where a secret is kept, and the hosts that it may be sent to. See docs/way-out.md."""

    hosts: tuple[str, ...]
    file: str = ""
    credential: str = ""
    sealed: bool = False


def check_secrets(secrets: Mapping[str, SecretConfig]) -> Iterator[Complaint]:
    """Yield every fault in the tables `secrets`."""
    for name, secret in secrets.items():
        path: KeyPath = ("secrets", name)
        if sum(map(bool, (secret.file, secret.credential, secret.sealed))) != 1:
            text = "needs one of file, credential and sealed = true: where the secret is kept"
            yield Complaint(path, text)
        if secret.file and not Path(secret.file).is_absolute():
            yield Complaint((*path, "file"), f"is {secret.file}, a relative path; give it from the root")
        elif secret.file and not os.access(secret.file, os.R_OK):
            text = "which is not there or cannot be read; give it to the daemon's user, mode 0400"
            yield Complaint((*path, "file"), f"is {secret.file}, {text}")
        if not secret.hosts:
            yield Complaint((*path, "hosts"), "is empty; name the hosts that it may be sent to")
        for host in secret.hosts:
            if not _is_name(host):
                text = f'has "{host}"; give names alone, as "api.github.com": it goes there over TLS, to port 443'
                yield Complaint((*path, "hosts"), text)


def _is_name(host: str) -> bool:
    try:
        return host_name(host) == host and address_of(host) is None
    except RuleError:
        return False
