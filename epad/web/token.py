"""The token that orders on the page must bring: whoever can read the daemon's own files may give them."""

from __future__ import annotations

import os
import secrets
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class PageToken:
    """The token and the file it stands in; both empty where the page only shows."""

    value: str = ""
    file: str = ""


def make_token(path: Path) -> PageToken:
    """Write a fresh token for this life of the daemon, for its own user alone. Raises OSError."""
    value = secrets.token_urlsafe(32)
    path.unlink(missing_ok=True)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "w", encoding="ascii") as file:
        file.write(value + "\n")
    return PageToken(value, str(path))
