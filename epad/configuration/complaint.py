"""Describe the fault of a configuration key to a person."""

from __future__ import annotations

from dataclasses import dataclass

from epad.configuration.toml_lines import KeyPath


@dataclass(frozen=True, slots=True)
class Complaint:
    """Describes the fault of a key; `others` are the keys it was compared with, any of which may be at fault."""

    key: KeyPath
    text: str
    others: tuple[KeyPath, ...] = ()
