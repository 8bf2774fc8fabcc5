"""What is wrong with a key of the configuration, in the words for a person."""

from __future__ import annotations

from dataclasses import dataclass

from epad.configuration.toml_lines import KeyPath


@dataclass(frozen=True, slots=True)
class Complaint:
    """What is wrong with a key; `others` are the keys it was held against, any of which may be at fault."""

    key: KeyPath
    text: str
    others: tuple[KeyPath, ...] = ()
