"""The tokens of the page: whoever can read the daemon's own files may give orders, or report alerts."""

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
    path.unlink(missing_ok=True)
    return keep_token(path)


def keep_token(path: Path) -> PageToken:
    """Read the token, written by the first life of the daemon: another program was given it. Raises OSError."""
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    except FileExistsError:
        return PageToken(path.read_text("ascii").strip(), str(path))
    value = secrets.token_urlsafe(32)
    with os.fdopen(descriptor, "w", encoding="ascii") as file:
        file.write(value + "\n")
    return PageToken(value, str(path))
