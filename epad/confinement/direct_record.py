"""Put a cell's attempts to connect past its doors on record: in the event log, in the series, and before the probe."""

from __future__ import annotations

from collections.abc import Callable

from epad.confinement.attempts import Attempt, How
from epad.confinement.metrics import DIRECT_ATTEMPTS, UNREAD_ATTEMPTS
from epad.confinement.model_servers import Servers
from epad.confinement.repeated_events import RepeatedEvents
from epad.metrics.registry import Metrics
from epad.storage.event_log import EventKind, EventLog
from probes.egress import DirectKind, EgressDirect, EgressObserver
from statemachine.clock import Clock


class DirectRecord:
    """Takes attempts as they are seen. `servers` returns those that are configured now."""

    def __init__(
        self,
        events: EventLog,
        metrics: Metrics,
        observer: EgressObserver,
        clock: Clock,
        servers: Callable[[], Servers],
    ) -> None:
        self._events = RepeatedEvents(events, clock)
        self._metrics = metrics
        self._observer = observer
        self._clock = clock
        self._servers = servers

    def ports(self) -> tuple[int, ...]:
        """Return the ports of model servers on this machine, whose refusals inside are attempts."""
        return tuple(sorted(self._servers().ports))

    def take(self, subsystem: str, attempt: Attempt) -> None:
        """Take one attempt."""
        server = self._servers().at(attempt)
        host = attempt.name or attempt.address
        kind = _kind(attempt, server)
        self._metrics.of(DIRECT_ATTEMPTS).labels(subsystem, kind).inc()
        words = _words(attempt, server)
        self._observer.direct(
            EgressDirect(subsystem, self._clock.monotonic(), host, attempt.port, words, kind)
        )
        fields = {"address": attempt.address, "port": attempt.port, "how": attempt.how}
        same = (host, attempt.port, attempt.how)
        self._events.emit(
            EventKind.EGRESS_DIRECT, subsystem, same, host=host, **fields, server=server, words=words
        )

    def unread(self, subsystem: str, count: int) -> None:
        """Take note of attempts that came faster than they were read."""
        self._metrics.of(DIRECT_ATTEMPTS).labels(subsystem, UNREAD_ATTEMPTS).inc(count)
        words = f"{count} more attempts came faster than they were read"
        self._events.emit(EventKind.EGRESS_DIRECT, subsystem, (UNREAD_ATTEMPTS,), unread=count, words=words)


def _kind(attempt: Attempt, server: str) -> DirectKind:
    if attempt.how is How.LOOKUP:
        return DirectKind.LOOKUP
    return DirectKind.MODEL_SERVER if server else DirectKind.HOST


def _words(attempt: Attempt, server: str) -> str:
    which = f" ({server})" if server else ""
    if attempt.how is How.LOOKUP:
        return f"asked a resolver for {attempt.name}{which}: names are looked up by the way out"
    by = " by QUIC" if attempt.how is How.QUIC else ""
    where = f"[{attempt.address}]" if ":" in attempt.address else attempt.address
    return f"tried to connect to {where}:{attempt.port}{which}{by}, past its doors"
