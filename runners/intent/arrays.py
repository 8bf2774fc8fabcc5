"""Name the arrays that numbers are passed in; numpy's own types are not checked (pyproject.toml says why)."""

from __future__ import annotations

from typing import Any, TypeAlias

Matrix: TypeAlias = Any
"""Rows of floats: one row a text."""
Vector: TypeAlias = Any
"""One float a text, or a column."""
Flags: TypeAlias = Any
"""One truth a text."""
