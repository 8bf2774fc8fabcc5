"""Put each SVID that was issued on record, by its subject and never its key; and each asker that got none."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Final

from epad.answers.identity import IssuedSvid
from epad.identity.attestation import Attested
from epad.identity.metrics import ISSUED, REFUSED
from epad.metrics.registry import Metrics
from epad.storage.event_log import EventKind, EventLog
from runners.identity.messages import JWT, JWT_SECONDS, Issued
from statemachine.clock import Clock

AUDIENCE: Final = "epad"
"""A JWT-SVID for this audience is a key at epad's own gateway."""
LISTED_HOURS: Final = 24
MOST_LISTED: Final = 1_000
_TOLD_SECONDS: Final = 10.0
"""One event stands for all that a uid is refused for the same in this time."""
_MOST_TOLD: Final = 1_000

Accept = Callable[[str, str, float], None]
"""Takes a JWT-SVID for its subsystem's key: its SHA-256, the subsystem, and when it ends, in seconds since 1970."""


class IdentityRecord:
    """Writes and reads the record. `accept` is told of each JWT-SVID for epad's own audience."""

    def __init__(self, events: EventLog, metrics: Metrics, clock: Clock, accept: Accept) -> None:
        self._events = events
        self._metrics = metrics
        self._clock = clock
        self._accept = accept
        self._told: dict[tuple[int, str], float] = {}

    def issued(self, one: Issued) -> None:
        """Record an SVID."""
        self._metrics.of(ISSUED).labels(one.name, one.kind).inc()
        self._events.emit(
            EventKind.IDENTITY_ISSUED,
            one.name,
            spiffe_id=one.spiffe_id,
            svid=one.kind,
            audience=list(one.audience),
            until=one.until,
            reference=one.reference,
            pid=one.pid,
        )
        if one.kind == JWT and AUDIENCE in one.audience:
            self._accept(one.reference, one.name, one.until)

    def refused(self, attested: Attested) -> None:
        """Record that a process got no identity, once for all that it is refused for the same just now."""
        self._metrics.of(REFUSED).inc()
        now, key = (
            self._clock.monotonic(),
            (attested.uid, attested.why.rpartition(" process ")[0] or attested.why),
        )
        if now - self._told.get(key, float("-inf")) < _TOLD_SECONDS:
            return
        self._told.pop(key, None)
        self._told[key] = now
        if len(self._told) > _MOST_TOLD:
            del self._told[next(iter(self._told))]
        self._events.emit(EventKind.IDENTITY_REFUSED, pid=attested.pid, uid=attested.uid, why=attested.why)

    def rotated(self, why: str) -> None:
        """Record that the authorities have changed."""
        self._events.emit(EventKind.IDENTITY_ROTATED, why=why)

    async def restore(self) -> None:
        """Accept the JWT-SVIDs that a former daemon accepted, which live on in clients. Raises DatabaseError."""
        since = self._clock.utc() - timedelta(seconds=JWT_SECONDS)
        for event in await self._events.of_kind(EventKind.IDENTITY_ISSUED, since, MOST_LISTED):
            fields = event["fields"]
            if fields["svid"] == JWT and AUDIENCE in fields["audience"]:
                self._accept(fields["reference"], event["subsystem"], fields["until"])

    async def listed(self) -> list[IssuedSvid]:
        """Return the newest SVIDs of the last LISTED_HOURS, the newest first. Raises DatabaseError."""
        since = self._clock.utc() - timedelta(hours=LISTED_HOURS)
        found = await self._events.of_kind(EventKind.IDENTITY_ISSUED, since, MOST_LISTED)
        return [
            {
                "spiffe_id": event["fields"]["spiffe_id"],
                "subsystem": event["subsystem"],
                "svid": event["fields"]["svid"],
                "audience": event["fields"]["audience"],
                "at": event["at"],
                "until": datetime.fromtimestamp(event["fields"]["until"], UTC).isoformat(timespec="seconds"),
                "reference": event["fields"]["reference"],
                "pid": event["fields"]["pid"],
            }
            for event in found
        ]
