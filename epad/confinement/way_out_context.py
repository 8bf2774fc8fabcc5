"""Hold the parts that the way out works with."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from epad.confinement.egress_record import EgressRecord
from epad.confinement.guard import Guards, no_guards
from epad.confinement.host_questions import HostQuestions
from epad.confinement.policy import Policy
from epad.metrics.registry import Metrics
from epad.storage.event_log import EventLog
from runners.egress.messages import Authority, Secret


async def no_secrets(_: Policy) -> tuple[Secret, ...]:
    """Return none."""
    return ()


@dataclass(frozen=True, slots=True)
class WayOutContext:
    """Holds the parts that the way out works with.

    `policies` gives a subsystem's policy as of now, `authority` that of its living cell: the hosts that are read are
    those that it was made for. `program` names the program at the other end of a subsystem's connection, by its port;
    empty if it is not found. `used` is told of a secret that was sent: its name, the subsystem and the host.
    """

    policies: Callable[[str], Policy]
    approvals: HostQuestions
    record: EgressRecord
    events: EventLog
    metrics: Metrics
    program: Callable[[str, int], Awaitable[str]]
    secrets: Callable[[Policy], Awaitable[tuple[Secret, ...]]] = no_secrets
    used: Callable[[str, str, str], None] = lambda *_: None
    decoys: Callable[[], tuple[str, ...]] = tuple
    authority: Callable[[str], Authority | None] = lambda _: None
    guards: Guards = no_guards
