"""Judge the ways that a confined subsystem takes to the network, and those that it was refused.

A refusal is the policy at work: it is told, and held against nobody, as is a host that is reached for the first time.
Many refusals in a short time are a search for a hole; the same host counts once in ten seconds, since programs try
again by themselves. A tunnel to an allowed host that names another one inside is no accident of any client. A theft
looks like a large upload from here, where the contents of a tunnel cannot be read.

An attempt to connect past the doors gets nowhere, and is told by where it was to lead:

- To a model server it counts as a refusal, and so many within the window hold (`direct_connection`): a turn there would
  be in no budget and on no ledger.
- To another host it counts as a refusal: programs that read no `HTTPS_PROXY` try so, as does who looks for a hole.
- To a resolver, for a name, it counts as nothing: the C library asks one for every name, also for those that the
  program may reach by the way out.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from enum import StrEnum
from typing import Any, ClassVar, Protocol

from msgspec import Struct

from probes.all_clear import AllClear
from probes.bounds import Bound
from probes.probe import Push
from probes.settings import EnforcedSettings
from probes.token_burn.window import WindowSum
from statemachine.clock import Clock
from statemachine.finding import Finding, Severity
from statemachine.rung import Rung
from statemachine.value_types import Count, Seconds

NAME = "egress"
_HOSTS_NAMED = 5
# One refusal stands for all of the same host and port in this time: whoever tries may try often.
_TOLD_SECONDS = 10.0
_MOST_TOLD = 1_000


class DirectKind(StrEnum):
    """Names the places that an attempt to connect past the doors was to lead to."""

    HOST = "host"
    MODEL_SERVER = "model_server"
    LOOKUP = "lookup"


class Detector(StrEnum):
    """Names the anomalies that the probe acts upon."""

    REFUSED_BURST = "refused_burst"
    UPLOAD = "upload"
    SERVER_NAME = "server_name"
    DECOY = "decoy"
    DIRECT_CONNECTION = "direct_connection"


class EgressSettings(EnforcedSettings, frozen=True, forbid_unknown_fields=True):
    """Sets how many refusals and how much upload are too much."""

    refusals: Count
    direct_connections: Count
    refusal_window_seconds: Seconds
    upload_bytes: Count
    upload_window_seconds: Seconds

    BOUNDS: ClassVar[tuple[Bound, ...]] = (
        Bound("refusal_window_seconds", least="interval_seconds", why="it is looked at that often"),
        Bound("upload_window_seconds", least="interval_seconds", why="it is looked at that often"),
    )
    DETECTORS: ClassVar[frozenset[str]] = frozenset(Detector)


class EgressRefused(Struct, frozen=True, gc=False):
    """A connection was refused, or cut. `is_fronting`: the host is allowed, but the TLS hello names another.

    `is_decoy`: a request in clear had a planted key in it, which only who collects keys sends, or a secret's value.
    """

    subsystem: str
    at: float
    host: str
    port: int
    words: str
    is_fronting: bool = False
    is_decoy: bool = False


class EgressOpened(Struct, frozen=True, gc=False):
    """A connection was let through. `is_first`: the subsystem never reached that host before."""

    subsystem: str
    at: float
    host: str
    port: int
    is_first: bool = False


class EgressSent(Struct, frozen=True, gc=False):
    """More bytes went out to a host since this was last said."""

    subsystem: str
    at: float
    host: str
    sent_bytes: int


class EgressDirect(Struct, frozen=True, gc=False):
    """A connection past the doors was tried, or a name was asked for; nothing came of it."""

    subsystem: str
    at: float
    host: str
    port: int
    words: str
    kind: DirectKind = DirectKind.HOST


class EgressObserver(Protocol):
    """Receives the connections that the way out refuses or opens, the bytes it sends, and attempts to go past it."""

    def refused(self, event: EgressRefused) -> None: ...

    def direct(self, event: EgressDirect) -> None: ...

    def opened(self, event: EgressOpened) -> None: ...

    def sent(self, event: EgressSent) -> None: ...


class _Hosts:
    """Sums of one kind within a window: of all hosts, and the last few hosts by name."""

    def __init__(self, seconds: float) -> None:
        self._sum = WindowSum(seconds)
        self._last: OrderedDict[str, None] = OrderedDict()

    def add(self, at: float, host: str, amount: int) -> None:
        self._sum.add(at, amount)
        self._last[host] = self._last.pop(host, None)
        if len(self._last) > _HOSTS_NAMED:
            self._last.popitem(last=False)

    def total(self, now: float) -> int:
        return self._sum.total(now)

    def named(self) -> list[str]:
        """Return the last hosts, the newest first."""
        return list(reversed(self._last))


class Egress:
    """Holds each subsystem's refusals and uploads against their limits; told by the way out as they happen."""

    def __init__(self, settings: EgressSettings, *, clock: Clock, push: Push) -> None:
        self._settings = settings
        self._clock = clock
        self._push = push
        self._refused: dict[str, _Hosts] = {}
        self._sent: dict[str, _Hosts] = {}
        self._direct: dict[str, _Hosts] = {}
        self._told_at: OrderedDict[tuple[str, str, int, str], float] = OrderedDict()
        self._all_clear = AllClear()

    @property
    def name(self) -> str:
        return NAME

    @property
    def interval_seconds(self) -> float:
        return self._settings.interval_seconds

    def refused(self, event: EgressRefused) -> None:
        """State a refusal, and count it; one after many is only counted."""
        what = "certain" if event.is_fronting or event.is_decoy else "refused"
        if not self._is_news(event, what):
            return
        hosts = self._refused.setdefault(event.subsystem, _Hosts(self._settings.refusal_window_seconds))
        hosts.add(event.at, event.host, 1)
        evidence: dict[str, Any] = {"host": event.host, "port": event.port}
        if event.is_fronting or event.is_decoy:
            detector = Detector.DECOY if event.is_decoy else Detector.SERVER_NAME
            found = Finding(
                NAME,
                event.subsystem,
                Severity.ANOMALY,
                event.at,
                event.words,
                evidence=evidence | {"detector": detector.value},
                hard=True,
                rung=Rung.FREEZE if event.is_decoy else None,
            )
        elif hosts.total(event.at) <= self._settings.refusals:
            found = Finding(NAME, event.subsystem, Severity.WARNING, event.at, event.words, evidence=evidence)
        else:
            return
        self._push(found)

    def direct(self, event: EgressDirect) -> None:
        """State an attempt to go past the doors, and count it: the same one once in ten seconds."""
        if not self._is_news(event, event.kind):
            return
        window = self._settings.refusal_window_seconds
        if event.kind is not DirectKind.LOOKUP:
            self._refused.setdefault(event.subsystem, _Hosts(window)).add(event.at, event.host, 1)
        place = f"{event.host}:{event.port}"
        evidence: dict[str, Any] = {"host": event.host, "port": event.port, "kind": event.kind.value}
        if event.kind is DirectKind.MODEL_SERVER:
            self._direct.setdefault(event.subsystem, _Hosts(window)).add(event.at, place, 1)
            evidence["detector"] = Detector.DIRECT_CONNECTION.value
        self._push(Finding(NAME, event.subsystem, Severity.WARNING, event.at, event.words, evidence=evidence))

    def opened(self, event: EgressOpened) -> None:
        """State that a host was reached for the first time: a warning, which holds nobody."""
        if event.is_first:
            reason = f"reached {event.host}:{event.port} for the first time"
            evidence = {"host": event.host, "port": event.port}
            self._push(Finding(NAME, event.subsystem, Severity.WARNING, event.at, reason, evidence=evidence))

    def sent(self, event: EgressSent) -> None:
        """Count the bytes that went out."""
        window = self._settings.upload_window_seconds
        self._sent.setdefault(event.subsystem, _Hosts(window)).add(event.at, event.host, event.sent_bytes)

    def forget(self, subsystem: str) -> None:
        """Start afresh with a subsystem that was released."""
        self._refused.pop(subsystem, None)
        self._sent.pop(subsystem, None)
        self._direct.pop(subsystem, None)

    async def sample(self) -> Sequence[Finding]:
        """State which subsystems are above a limit, and which no more are."""
        now = self._clock.monotonic()
        names = self._refused.keys() | self._sent.keys()  # who went past the doors is among the refused
        found = [self._judge(name, now) for name in sorted(names)]
        return [one for one in found if self._all_clear.is_news(one.subsystem, well=not one.bad)]

    def _judge(self, name: str, now: float) -> Finding:
        t = self._settings
        refused, sent = self._refused.get(name), self._sent.get(name)
        if sent is not None and (total := sent.total(now)) > t.upload_bytes:
            reason = f"sent {total} bytes out within {t.upload_window_seconds:g} s, last to {sent.named()[0]}"
            return self._bad(name, now, reason, (total, t.upload_bytes, "bytes"), Detector.UPLOAD, sent)
        direct = self._direct.get(name)
        if direct is not None and (tries := direct.total(now)) >= t.direct_connections:
            reason = (
                f"tried {tries} times within {t.refusal_window_seconds:g} s to connect to a model server past its "
                f"doors, last to {direct.named()[0]}"
            )
            held = tries, t.direct_connections, "attempts"
            return self._bad(name, now, reason, held, Detector.DIRECT_CONNECTION, direct)
        if refused is not None and (count := refused.total(now)) >= t.refusals:
            reason = (
                f"was refused {count} times within {t.refusal_window_seconds:g} s, last {refused.named()[0]}"
            )
            return self._bad(
                name, now, reason, (count, t.refusals, "refusals"), Detector.REFUSED_BURST, refused
            )
        return Finding(NAME, name, Severity.OK, now, "reaches what it may")

    def _bad(
        self,
        name: str,
        now: float,
        reason: str,
        held: tuple[int, int, str],
        detector: Detector,
        hosts: _Hosts,
    ) -> Finding:
        value, limit, unit = held
        evidence: dict[str, Any] = {"detector": detector.value, "hosts": hosts.named()}
        return Finding(NAME, name, Severity.ANOMALY, now, reason, value, limit, unit, evidence)

    def _is_news(self, event: EgressRefused | EgressDirect, what: str) -> bool:
        """Tell if the same was not told just now."""
        key = (event.subsystem, event.host, event.port, what)
        if event.at - self._told_at.get(key, float("-inf")) < _TOLD_SECONDS:
            return False
        self._told_at.pop(key, None)
        self._told_at[key] = event.at
        if len(self._told_at) > _MOST_TOLD:
            self._told_at.popitem(last=False)
        return True
