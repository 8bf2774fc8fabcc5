"""Stores that other programs write: corruption told of before it is copied anywhere as good."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from itertools import groupby

from probes.probe import ProbeError
from probes.settings import EnforcedSettings
from statemachine.clock import Clock
from statemachine.finding import HOST, Finding, Severity
from statemachine.value_types import Seconds, Share

NAME = "datastore"
MAX_NAMED = 20
"""How many faults the evidence names."""
STATED_SECONDS = 2.0
"""What the looks have shown is said so often, however long the looks themselves lie apart: said at each of them
only, damage cleared by its quiet time in between and RECOVERY was verified without a look."""


class DatastoreSettings(EnforcedSettings, frozen=True, forbid_unknown_fields=True):
    """Sets how often the stores of other programs are read back, and how much of a core that may take."""

    core_share: Share
    deadline_seconds: Seconds


@dataclass(frozen=True, slots=True)
class DatastoreCheck:
    """Holds the last look at one store: each fault is its kind and a sentence.

    `subsystem` is the one that writes it, HOST where it is none of ours; `error` is why nothing could be seen.
    """

    name: str
    subsystem: str = HOST
    is_looked_at: bool = False
    faults: Sequence[tuple[str, str]] = ()
    rows: int = 0
    note: str = ""
    error: str = ""


class DatastoreIntegrity:
    """Reports the newest looks at the datastores, which are `interval_seconds` apart.

    A finding names the checkpoint to go back to: nothing newer is promoted, and none is removed, until the store
    is sound again.
    """

    def __init__(
        self,
        settings: DatastoreSettings,
        *,
        check: Callable[[], Awaitable[Sequence[DatastoreCheck]]],
        last_verified: Callable[[], str],
        clock: Clock,
    ) -> None:
        self._settings = settings
        self._check = check
        self._last_verified = last_verified
        self._clock = clock
        self.notice = ""

    @property
    def name(self) -> str:
        return NAME

    @property
    def interval_seconds(self) -> float:
        return min(self._settings.interval_seconds, STATED_SECONDS)

    async def sample(self) -> Sequence[Finding]:
        """Return one finding for each subsystem. Raises ProbeError if no store could be looked at.

        A store that cannot be judged is named in the notice, and takes nothing from the knowledge about the others: a
        blind probe would keep their anomalies for as long as it is blind.
        """
        checks = sorted(await self._check(), key=lambda check: check.subsystem)
        notes = [(check.name, " ".join(filter(None, [check.error, check.note]))) for check in checks]
        self.notice = "; ".join(f"{name}: {note}" for name, note in notes if note)
        looked = [check for check in checks if check.is_looked_at and not check.error]
        by_subsystem = groupby(looked, key=lambda check: check.subsystem)
        findings = [self._finding(subsystem, list(group)) for subsystem, group in by_subsystem]
        unseen = [check for check in checks if check.error]
        if unseen and not findings:
            raise ProbeError("; ".join(f"{check.name}: {check.error}" for check in unseen))
        return findings

    def _finding(self, subsystem: str, checks: Sequence[DatastoreCheck]) -> Finding:
        now, damaged = self._clock.monotonic(), [check for check in checks if check.faults]
        if not damaged:
            rows = sum(check.rows for check in checks)
            reason = f"{len(checks)} store(s) with {rows} rows, all sound"
            return Finding(NAME, subsystem, Severity.OK, now, reason, value=0, limit=0, unit="faults")
        verified = self._last_verified()
        kind, detail = damaged[0].faults[0]
        faults = [(check.name, *fault) for check in damaged for fault in check.faults]
        others = f" (and {len(faults) - 1} more)" if len(faults) > 1 else ""
        return Finding(
            NAME,
            subsystem,
            Severity.CRITICAL,
            now,
            f"datastore {damaged[0].name}: {kind}: {detail}{others}; "
            f"the last verified checkpoint is {verified or 'none'}, and no other is promoted",
            value=len(faults),
            limit=0,
            unit="faults",
            evidence={
                "datastores": [check.name for check in damaged],
                "faults": [": ".join(fault) for fault in faults[:MAX_NAMED]],
                "last_verified": verified,
            },
            hard=True,
        )
