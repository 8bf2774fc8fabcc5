"""The vault, looked at for what was changed around epad: a digest that does not match is a fact."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from probes.settings import EnforcedSettings
from statemachine.clock import Clock
from statemachine.finding import Finding, Severity
from statemachine.tool_targets import category_target, tool_target
from statemachine.value_types import Seconds

NAME: Final = "vault"
DOCUMENTS: Final = category_target("vault")
"""What is held where documents were changed: whoever would read them."""
ROWS: Final = (
    *(category_target(category) for category in ("memory", "tasks", "comms")),
    tool_target("prompt_library"),
    DOCUMENTS,
)
"""What is held where rows were changed: whoever would read or append rows, of which the documents' are some."""
MAX_NAMED: Final = 20
STATED_SECONDS: Final = 2.0
"""What the looks have found is said so often, so that it neither clears nor waits between two of them."""


class VaultSettings(EnforcedSettings, frozen=True, forbid_unknown_fields=True):
    """Sets how often the vault is looked at, and how often all of it is read."""

    full_seconds: Seconds


@dataclass(frozen=True, slots=True)
class VaultCheck:
    """Holds one look: the faults of rows and those of documents alone, a sentence each, and what was looked at."""

    rows: Sequence[str] = ()
    documents: Sequence[str] = ()
    size: int = 0
    versions: int = 0
    is_full: bool = False

    @property
    def faults(self) -> Sequence[str]:
        return [*self.rows, *self.documents]

    @property
    def is_sound(self) -> bool:
        return not self.rows and not self.documents


class VaultIntegrity:
    """States what the looks find, about the categories of tools that read the vault: they are held until it is mended.

    `check` returns None while there is no vault, and raises ProbeError where it could not be looked at.
    """

    def __init__(
        self,
        settings: VaultSettings,
        *,
        check: Callable[[float], Awaitable[VaultCheck | None]],
        clock: Clock,
    ) -> None:
        self._settings = settings
        self._check = check
        self._clock = clock
        self._known: VaultCheck | None = None
        self._due = float("-inf")

    @property
    def name(self) -> str:
        return NAME

    @property
    def interval_seconds(self) -> float:
        return min(self._settings.interval_seconds, STATED_SECONDS)

    async def sample(self) -> Sequence[Finding]:
        """Return what the newest look has found, and look where one is due. Raises ProbeError where it cannot."""
        now = self._clock.monotonic()
        if now >= self._due:
            self._known = await self._check(self._settings.full_seconds)
            self._due = now + self._settings.interval_seconds
        if self._known is None:
            return []
        return [self._stated(target, self._known, now) for target in ROWS]

    def _stated(self, target: str, check: VaultCheck, now: float) -> Finding:
        faults = [*check.rows, *(check.documents if target == DOCUMENTS else ())]
        if not faults:
            reason = f"{check.size} rows and {check.versions} versions, all as they were appended"
            return Finding(NAME, target, Severity.OK, now, reason, value=0, limit=0, unit="faults")
        others = f" (and {len(faults) - 1} more)" if len(faults) > 1 else ""
        reason = (
            f"{faults[0]}{others}; somebody has changed the vault around epad: epactl vault verify lists it,"
            " epactl checkpoint restore puts it back, epactl datastore accept vault takes it as it is"
        )
        evidence: dict[str, Any] = {
            "faults": faults[:MAX_NAMED],
            "rows": check.size,
            "versions": check.versions,
        }
        return Finding(
            NAME,
            target,
            Severity.ANOMALY,
            now,
            reason,
            value=len(faults),
            limit=0,
            unit="faults",
            evidence=evidence,
            hard=True,
        )
