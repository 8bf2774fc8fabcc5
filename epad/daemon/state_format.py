"""Record which version writes into a state directory, so that an older one leaves a newer format alone."""

from __future__ import annotations

from pathlib import Path

import msgspec
from msgspec import Struct

from epad import EpadError
from epad.ledger.anchor import replace_file

FORMAT = 5
"""Of everything in the state directory; one more whenever an older epad could not go on with it."""

_FILE = "format.json"


class NewerStateError(EpadError):
    """The state directory was written by a newer epad, whose words this one does not know."""


class _Format(Struct, frozen=True):
    format: int
    version: str


def claim(state: Path, version: str) -> None:
    """Note that this epad writes into a state directory. Raises NewerStateError where a newer one did, OSError."""
    path = state / _FILE
    try:
        before = msgspec.json.decode(path.read_bytes(), type=_Format)
    except FileNotFoundError:
        before = None
    except msgspec.DecodeError as error:
        raise NewerStateError(f"{path}: {error}; if no newer epad wrote {state}, remove this file") from error
    if before is not None and before.format > FORMAT:
        raise NewerStateError(
            f"{state} was written by epad {before.version}, in format {before.format}; this is epad {version}, which "
            f"knows {FORMAT}: install that one again, or start on another state with --state"
        )
    now = _Format(FORMAT, version)
    if now != before:
        replace_file(path, msgspec.json.encode(now) + b"\n")
