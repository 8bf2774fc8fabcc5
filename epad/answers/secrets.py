"""Define the answers about the secrets vault. None has a value, but that of an export."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TypedDict

from epad.answers.orders import Result


class SecretLine(TypedDict):
    """Tells of one secret: what seals it, whom and what it is bound to. Times are ISO 8601, in UTC.

    `used`, `used_by` and `used_for` tell of its last use: when, by whom, and to which host; empty if there was none.
    `fault` says why its file is refused; empty if it is whole.
    """

    name: str
    sealed_by: str
    hosts: Sequence[str]
    subsystems: Sequence[str]
    made: str
    rotated: str
    used: str
    used_by: str
    used_for: str
    fault: str


class SecretList(TypedDict):
    """Holds the secrets, and for each way of sealing what it lacks here; empty where nothing is lacking."""

    secrets: Sequence[SecretLine]
    sealing: Mapping[str, str]


class ExportedSecret(Result):
    """Holds a value in base64; that of an age file, if it was encrypted to somebody."""

    value: str
