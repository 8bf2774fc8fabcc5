"""Mutants that no test can find, and why: by file and change."""

from __future__ import annotations

EQUIVALENT: dict[tuple[str, str], str] = {}
