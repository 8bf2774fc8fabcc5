"""Keep the policies in force on the disk, so that a change is told that was made while no daemon ran."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import msgspec

from epad.confinement.policy import Policy
from epad.runtime.owner_file import write_for_owner


class KeptPolicies:
    """Holds the policies that were in force last; one that cannot be read is as one that there was not."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._kept: Mapping[str, Policy] | None = None

    def read(self) -> Mapping[str, Policy]:
        """Return the policies of the previous run; none at a first start, or after another version of epad's."""
        try:
            return msgspec.json.decode(self._file.read_bytes(), type=dict[str, Policy])
        except (OSError, msgspec.MsgspecError):
            return {}

    def write(self, policies: Mapping[str, Policy]) -> None:
        """Keep policies, if they are others than before. Raises OSError."""
        if policies == self._kept:
            return
        self._file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        write_for_owner(self._file, msgspec.json.encode(policies))
        self._kept = dict(policies)
