"""Put the reports of the way out on record: in the event log, in the series, and before the probe.

What passes the door of a tool's worker is the subsystem's that has called the tool.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Final, Protocol

from epad.confinement.host_questions import HostSubject
from epad.confinement.metrics import EGRESS_BYTES, EGRESS_OPEN, EGRESS_OPENED, EGRESS_REFUSED
from epad.confinement.repeated_events import RepeatedEvents
from epad.confinement.tool_doors import is_tool_door, subsystem_of
from epad.metrics.registry import Metrics
from epad.storage.event_log import EventKind, EventLog
from probes.egress import EgressObserver, EgressOpened, EgressRefused, EgressSent
from runners.egress.messages import Event
from runners.egress.messages import EventKind as Reported
from runners.egress.refusal import Why
from statemachine.clock import Clock

_MOST_COUNTED: Final = 1_000
_THEFTS: Final = frozenset({Why.DECOY, Why.SECRET})
"""Nothing that has a use for a network does these: the probe is certain at once."""
"""Hosts whose bytes are kept, those that moved last."""
_NO_ATTEMPT: Final = frozenset(
    {
        *(Why.UNKNOWN_NAME, Why.UNREACHABLE, Why.TOO_SLOW, Why.HUNG_UP),
        *(Why.BAD_CERTIFICATE, Why.NOT_TRUSTED),
    }
)
"""The host or the network is at fault, or the client has changed its mind: nothing to hold against it."""


class Hosts(Protocol):
    """Remembers which hosts were reached; `epad/confinement/known_hosts.py` does."""

    def is_first(self, subject: HostSubject) -> bool:
        """Tell if a host is reached for the first time, and remember it."""
        ...


@dataclass(slots=True)
class _Open:
    """A connection that is open, and how many of its bytes are counted."""

    subject: HostSubject
    up: int = 0
    down: int = 0


class EgressRecord:
    """Takes the reports of one way out, in their order."""

    def __init__(
        self,
        events: EventLog,
        metrics: Metrics,
        observer: EgressObserver,
        hosts: Hosts,
        clock: Clock,
        read: Callable[[HostSubject], None] = lambda _: None,
    ) -> None:
        """`read` is told of each host that an agent has reached by itself, and not by a tool."""
        self._read = read
        self._events = RepeatedEvents(events, clock)
        self._metrics = metrics
        self._observer = observer
        self._hosts = hosts
        self._clock = clock
        self._open: dict[int, _Open] = {}
        self._bytes: dict[HostSubject, tuple[int, int]] = {}
        self._takes: dict[Reported, Callable[[Event], None]] = {
            Reported.REFUSED: self._refused,
            Reported.OPENED: self._opened,
            Reported.MOVED: self._moved,
            Reported.CLOSED: self._closed,
        }

    def take(self, event: Event) -> None:
        """Take one report; one that is not about a connection is left to others."""
        take = self._takes.get(event.kind)
        if event.kind is Reported.OPENED and not is_tool_door(event.door):
            self._read(HostSubject(event.door, event.host, event.port))
        if take is not None:
            take(replace(event, door=subsystem_of(event.door)))

    def moved(self, subject: HostSubject) -> tuple[int, int]:
        """Return how many bytes were sent to a host and received from it, in this run of the daemon."""
        return self._bytes.get(replace(subject, session=""), (0, 0))

    def settle(self) -> None:
        """Write what was left out of the log as the same as what was written just before."""
        self._events.settle()

    def lost(self) -> None:
        """Close the connections that were open through a way out that has ended."""
        for number, one in list(self._open.items()):
            told = Event(
                Reported.CLOSED,
                one.subject.subsystem,
                number,
                one.subject.host,
                one.subject.port,
                up=one.up,
                down=one.down,
                why=Why.CUT,
            )
            self._closed(told)

    def _refused(self, event: Event) -> None:
        self._metrics.of(EGRESS_REFUSED).labels(event.door, event.why).inc()
        if event.why not in _NO_ATTEMPT:
            self._tell_refused(event)
        fields = {"host": event.host, "port": event.port, "why": event.why, "words": event.words}
        self._emit(EventKind.EGRESS_REFUSED, event, (event.host, event.port, event.why), **fields)

    def _opened(self, event: Event) -> None:
        now, subject = self._clock.monotonic(), HostSubject(event.door, event.host, event.port)
        self._open[event.connection] = _Open(subject)
        self._metrics.of(EGRESS_OPENED).labels(event.door).inc()
        self._metrics.of(EGRESS_OPEN).labels(event.door).inc()
        is_first = self._hosts.is_first(subject)
        self._observer.opened(EgressOpened(event.door, now, event.host, event.port, is_first))
        fields = {"host": event.host, "port": event.port, "address": event.address, "how": event.how}
        self._emit(EventKind.EGRESS_OPENED, event, (event.host, event.port), first=is_first, **fields)

    def _moved(self, event: Event) -> None:
        one = self._open.get(event.connection)
        if one is None:
            return
        sent, received = event.up - one.up, event.down - one.down
        one.up, one.down = event.up, event.down
        self._count(one.subject, sent, received)
        series = self._metrics.of(EGRESS_BYTES)
        series.labels(event.door, "up").inc(sent)
        series.labels(event.door, "down").inc(received)
        if sent:
            self._observer.sent(EgressSent(event.door, self._clock.monotonic(), event.host, sent))

    def _count(self, subject: HostSubject, sent: int, received: int) -> None:
        up, down = self._bytes.pop(subject, (0, 0))
        self._bytes[subject] = up + sent, down + received
        if len(self._bytes) > _MOST_COUNTED:
            del self._bytes[next(iter(self._bytes))]

    def _closed(self, event: Event) -> None:
        self._moved(event)
        if self._open.pop(event.connection, None) is not None:
            self._metrics.of(EGRESS_OPEN).labels(event.door).dec()
        fields = {
            "host": event.host,
            "port": event.port,
            "sent_bytes": event.up,
            "received_bytes": event.down,
        }
        if event.why in _THEFTS:  # in a body, so the connection was open
            self._tell_refused(event)
        how = {"seconds": event.seconds, "why": event.why}
        self._emit(EventKind.EGRESS_CLOSED, event, (event.host, event.port, event.why), **fields, **how)

    def _tell_refused(self, event: Event) -> None:
        self._observer.refused(
            EgressRefused(
                event.door,
                self._clock.monotonic(),
                event.host,
                event.port,
                event.words,
                is_fronting=event.why == Why.OTHER_SERVER_NAME,
                is_decoy=event.why in _THEFTS,
            )
        )

    def _emit(self, kind: EventKind, event: Event, same: tuple[object, ...], **fields: object) -> None:
        self._events.emit(kind, event.door, same, **fields)
