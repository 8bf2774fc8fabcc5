"""Grade the harm an operation may do: the one fact about it that the gate knows."""

from __future__ import annotations

from enum import StrEnum


class Risk(StrEnum):
    """From the least to the most that can come of it."""

    READ = "read"
    """Every local user may see it."""

    CONFIDENTIAL = "confidential"
    """What a workload prints may hold its prompts and its secrets: not for every local user."""

    ORDER = "order"
    """It changes what runs, what is spent or what is kept."""

    OWNED = "owned"
    """It changes who may give orders, keys, what is trusted, or what is installed."""

    CHARGED = "charged"
    """It is charged to a subsystem, so not even an operator does it: there would be no one to charge."""
