"""The tokens of the page: whoever can read the daemon's own files may give orders, or report alerts."""

from __future__ import annotations

import contextlib
import secrets
from dataclasses import dataclass
from pathlib import Path

import structlog

from epad.copying.disk import Disk

# 128 bits. What is shorter is no secret but what a full disk has left of one: an empty token would be everyone's.
LEAST_CHARACTERS = 22


@dataclass(frozen=True, slots=True)
class PageToken:
    """The token and the file it stands in; both empty where the page only shows."""

    value: str = ""
    file: str = ""


def make_token(path: Path, disk: Disk | None = None) -> PageToken:
    """Write a fresh token for this run of the daemon, for its own user alone. Raises OSError.

    Whole or not at all: on a full disk the former contents stay.
    """
    disk, value, new = disk or Disk(), secrets.token_urlsafe(32), path.with_name(f"{path.name}.new")
    try:
        disk.remove_file(new)
        disk.write(new, f"{value}\n".encode())
        disk.rename(new, path)
        disk.sync_directory(path.parent)
    except OSError as error:
        with contextlib.suppress(OSError):
            disk.remove_file(new)
        raise OSError(error.errno, error.strerror, str(path)) from error  # of a write, the name is not in it
    return PageToken(value, str(path))


def keep_token(path: Path, disk: Disk | None = None) -> PageToken:
    """Read the token, written by the first life of the daemon: another program was given it. Raises OSError."""
    try:
        value = path.read_bytes().decode("ascii", "replace").strip()
    except FileNotFoundError:
        return make_token(path, disk)
    if len(value) < LEAST_CHARACTERS or not value.isascii():
        structlog.get_logger("epad.web").warning("token.made_anew", file=str(path), characters=len(value))
        return make_token(path, disk)
    return PageToken(value, str(path))
