"""The question to this child and its answer: which start is measured, and what has changed since the last one."""

from __future__ import annotations

from msgspec import Struct

ENVIRONMENT = (
    "HF_HOME",
    "HOME",
    "LD_LIBRARY_PATH",
    "LD_PRELOAD",
    "NODE_OPTIONS",
    "NODE_PATH",
    "OLLAMA_MODELS",
    "PATH",
    "PYTHONHOME",
    "PYTHONPATH",
    "PYTHONSTARTUP",
    "VIRTUAL_ENV",
)
"""The variables that decide what a command runs; no other is handed to the child."""


class Start(Struct, frozen=True, forbid_unknown_fields=True):
    """Names one start: its command, its directory, and the variables of ENVIRONMENT that it is given.

    `made_of` has patterns of further files that the subsystem is made of, from its directory.
    """

    command: tuple[str, ...]
    directory: str
    environment: dict[str, str] = {}
    made_of: tuple[str, ...] = ()


class Change(Struct, frozen=True):
    """Names one part that is not as it was. `how` is added, changed or removed; `role` is what it is to the command."""

    path: str
    how: str
    role: str


class Measured(Struct, frozen=True):
    """Holds the digest of all parts, of how many, and how they differ from those at the last start.

    `is_first`: there is nothing to compare with. `changes` has the first of `changed` changes; `left_out` says what was
    not looked at, a sentence each.
    """

    digest: str
    parts: int
    is_first: bool
    before: str = ""
    changed: int = 0
    changes: tuple[Change, ...] = ()
    left_out: tuple[str, ...] = ()
