"""Name the packages of the extra `intent` that are missing. Nothing of them is imported."""

from __future__ import annotations

from importlib.util import find_spec
from typing import Final

PACKAGES: Final = ("numpy", "tokenizers", "wordllama")


def missing() -> str:
    """Say what is missing and how to get it; empty if nothing is."""
    names = [name for name in PACKAGES if find_spec(name) is None]
    return f"{', '.join(names)} not installed: pip install 'epad[intent]'" if names else ""
