"""Choose the policy that a subsystem is started under: the configured one, or that of its last good run.

A policy is good once a run under it has lasted an hour. A recovery starts a subsystem again under the last good one if
the configured one is another: changes made within the hour are suspect, and the recovery's log names them. It holds
until the configuration is changed again, or a person orders a start.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Final

import msgspec

from epad.confinement.changes import policy_changes
from epad.confinement.policy import Policy
from epad.runtime.owner_file import write_for_owner

GOOD_SECONDS: Final = 3_600.0
_LINES: Final = 3
"""Of a difference, as many as a sentence has room for."""


class PoliciesInForce:
    """Keeps the last good policy of each subsystem, and which of them are in force instead of the configured ones."""

    def __init__(self, configured: Callable[[str], Policy], directory: Path) -> None:
        self._configured = configured
        self._directory = directory
        self._instead: dict[str, tuple[Policy, Policy]] = {}

    def __call__(self, subsystem: str) -> Policy:
        """Return a subsystem's policy as of now."""
        configured = self._configured(subsystem)
        suspect, good = self._instead.get(subsystem, (None, configured))
        if suspect == configured:
            return good
        self._instead.pop(subsystem, None)
        return configured

    def lasted(self, policy: Policy, seconds: float) -> None:
        """Take note of a run's end: it is good if it has lasted. Raises OSError."""
        if seconds >= GOOD_SECONDS and self._good(policy.subsystem) != policy:
            self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            write_for_owner(self._path(policy.subsystem), msgspec.json.encode(policy))

    def fall_back(self, subsystem: str) -> str:
        """Put the last good policy in force for a recovery, and name the suspect changes of the configured one."""
        configured, good = self._configured(subsystem), self._good(subsystem)
        if good is None or good == configured:
            return ""
        self._instead[subsystem] = (configured, good)
        changes = policy_changes({subsystem: good}, {subsystem: configured})
        lines = [line for change in changes for line in change.lines()]
        more = f" and {len(lines) - _LINES} more" if len(lines) > _LINES else ""
        told = "under the policy of its last good run; what was changed since is suspect"
        return f"{told}: {', '.join(lines[:_LINES])}{more}"

    def take_back(self, subsystem: str) -> None:
        """Go by the configured policy again: a person has ordered a start."""
        self._instead.pop(subsystem, None)

    def _good(self, subsystem: str) -> Policy | None:
        with suppress(OSError, msgspec.DecodeError, msgspec.ValidationError):
            return msgspec.json.decode(self._path(subsystem).read_bytes(), type=Policy)
        return None

    def _path(self, subsystem: str) -> Path:
        return self._directory / f"{subsystem}.good.json"
