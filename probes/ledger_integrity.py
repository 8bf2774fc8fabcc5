"""The turn ledger, read back: a hash that does not match is a fact."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from probes.settings import ProbeSettings
from statemachine.clock import Clock
from statemachine.finding import HOST, Finding, Severity

NAME = "ledger_integrity"
SMALL_TAIL_RECORDS = 4096
"""After the newest head: four seconds at a thousand a second, which is a lagging disk and no finding yet."""
MAX_NAMED = 20
"""How many faults the evidence names; a ledger whose every record is bad must not fill an event."""


class LedgerIntegritySettings(ProbeSettings, frozen=True, forbid_unknown_fields=True):
    """Sets how often the ledger is read back."""


@dataclass(frozen=True, slots=True)
class LedgerCheck:
    """Holds the result of reading the ledger back: each fault is its sequence number, kind and detail.

    A fault that was found stays in every later check until it is repaired: a rolling check that has moved on
    has not made it good. `verdict` says it in a word, with its numbers; `unanchored` are the records since the
    newest signed head, `trouble` why no heads or copies are made, `shut` why no turn is taken.
    """

    records: int
    checked: int
    faults: Sequence[tuple[int, str, str]] = ()
    verdict: str = ""
    unanchored: int = 0
    trouble: str = ""
    shut: str = ""


class LedgerIntegrity:
    """Asks for a check of the ledger and states the result about the host: no subsystem is to blame.

    `check` raises ProbeError when the ledger could not be read at all.
    """

    def __init__(
        self, settings: LedgerIntegritySettings, *, check: Callable[[], Awaitable[LedgerCheck]], clock: Clock
    ) -> None:
        self._settings = settings
        self._check = check
        self._clock = clock

    @property
    def name(self) -> str:
        return NAME

    @property
    def interval_seconds(self) -> float:
        return self._settings.interval_seconds

    async def sample(self) -> Sequence[Finding]:
        check = await self._check()
        now = self._clock.monotonic()
        if check.faults:
            return [_broken(check, now)]
        if check.shut:
            return [Finding(NAME, HOST, Severity.WARNING, now, check.shut)]
        if check.trouble or check.unanchored > SMALL_TAIL_RECORDS:
            return [_unanchored(check, now)]
        return [_sound(check, now)]


def _sound(check: LedgerCheck, now: float) -> Finding:
    reason = f"{check.checked} of {check.records} records checked, all sound"
    return Finding(NAME, HOST, Severity.OK, now, reason, value=0, limit=0, unit="records")


def _unanchored(check: LedgerCheck, now: float) -> Finding:
    """Return a warning: nothing is known to be wrong, but a truncation of these records would not be seen."""
    why = check.trouble or "the signed head lags behind"
    reason = f"{check.unanchored} records are after the newest signed head: {why}"
    return Finding(
        NAME,
        HOST,
        Severity.WARNING,
        now,
        reason,
        value=check.unanchored,
        limit=SMALL_TAIL_RECORDS,
        unit="records",
        evidence={"verdict": check.verdict, "records": check.records, "trouble": check.trouble},
    )


def _broken(check: LedgerCheck, now: float) -> Finding:
    faults = sorted(check.faults)
    sequence, kind, detail = faults[0]
    others = f" (and {len(faults) - 1} more)" if len(faults) > 1 else ""
    return Finding(
        NAME,
        HOST,
        Severity.CRITICAL,
        now,
        f"ledger{f' record {sequence}' if sequence else ''}: {kind}: {detail}{others}",
        value=len(faults),
        limit=0,
        unit="records",
        evidence={
            "seqs": [fault[0] for fault in faults[:MAX_NAMED]],
            "kinds": sorted({fault[1] for fault in faults})[:MAX_NAMED],
            "records": check.records,
            "checked": check.checked,
            "verdict": check.verdict,
        },
        hard=True,
    )
