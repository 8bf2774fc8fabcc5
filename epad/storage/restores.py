"""Read which restores of checkpoints the state directory has seen: `restores.jsonl`, a line for each."""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import sha256
from pathlib import Path

import msgspec
from msgspec import Struct

FILE = "restores.jsonl"


class _Restore(Struct, frozen=True):
    bundle: str
    files: Sequence[str]


def newest_restore(path: Path, parts: Sequence[str]) -> str | None:
    """Name the newest restore, if it has put back a file whose path has one of these parts.

    The name is that of its checkpoint and a digest of its line, so each restore has its own.
    """
    try:
        line = path.read_bytes().splitlines()[-1]
        restore = msgspec.json.decode(line, type=_Restore)
    except (OSError, IndexError, msgspec.MsgspecError):
        return None
    if not any(part in f"/{file}" for file in restore.files for part in parts):
        return None
    return f"checkpoint {restore.bundle}, restore {sha256(line).hexdigest()[:16]}"
