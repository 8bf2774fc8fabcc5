"""Replace a small file that its owner alone may read."""

from __future__ import annotations

from pathlib import Path


def write_for_owner(path: Path, content: bytes) -> None:
    """Put content in the place of a file; who reads meanwhile has the former. Raises OSError."""
    new = path.with_suffix(".new")
    new.touch(mode=0o600)
    new.write_bytes(content)
    new.replace(path)
