"""Tell how a change of the configuration changes policies: a line for each change, and when it takes effect.

Hosts are asked for anew with each connection, so a change of them is in force at once. A cell is built with
its files, devices and system calls, so a change of those is in force when the subsystem starts next.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from epad import EpadError
from epad.answers import confinement
from epad.confinement.difference import HostWidening, SecretWidening, Widening, widenings
from epad.confinement.policy import FileRequest, HostRequest, Policy, Request

AT_ONCE = "at once"
AT_START = "when it starts next"


class WideningRefusedError(EpadError):
    """A change lets a subsystem reach more, and nobody has said why. `lines` has each thing."""

    def __init__(self, lines: tuple[str, ...]) -> None:
        self.lines = (
            "this lets subsystems reach more than before:",
            *lines,
            'say why, which is recorded: epactl reload --reason "..."',
        )
        super().__init__(" ".join(self.lines))


@dataclass(frozen=True, slots=True)
class PolicyChange:
    """Holds the requests of one subsystem that are allowed now and were not before, and the other way round."""

    subsystem: str
    widens: tuple[Widening, ...] = ()
    narrows: tuple[Widening, ...] = ()
    asks: bool | None = None
    """Whether it begins (or ceases) to ask a person about other hosts; None: as before."""

    @property
    def anything(self) -> bool:
        return bool(self.widens or self.narrows or self.asks is not None)

    def as_json(self) -> confinement.PolicyChange:
        """Return the change as the API answers with it."""
        return {
            "subsystem": self.subsystem,
            "widens": [_line(one) for one in self.widens],
            "narrows": [_line(one) for one in self.narrows],
            "asks": self.asks,
            "lines": self.lines(),
        }

    def lines(self) -> tuple[str, ...]:
        """Return a line for each thing, as `agent: + connect *.github.com:443, as any.github.com:443; at once`."""
        asks = {None: (), True: ("asks a person about hosts that are not named",)}
        return tuple(
            f"{self.subsystem}: {line}"
            for line in (
                *(f"+ {_shown(one)}; {when(one)}" for one in self.widens),
                *(f"- {_shown(one)}; {when(one)}" for one in self.narrows),
                *asks.get(self.asks, ("refuses hosts that are not named, and asks nobody",)),
            )
        )


def policy_changes(old: Mapping[str, Policy], new: Mapping[str, Policy]) -> tuple[PolicyChange, ...]:
    """Compare the policies of subsystems that there were and are. One that is new had nothing that could widen."""
    changes = (_change(old[name], new[name]) for name in new if name in old)
    return tuple(change for change in changes if change.anything)


def when(widening: Widening) -> str:
    """Say when a change is in force."""
    return AT_ONCE if isinstance(widening, HostWidening | SecretWidening) else AT_START


def _change(old: Policy, new: Policy) -> PolicyChange:
    asks = None if old.ask == new.ask else new.ask
    return PolicyChange(new.subsystem, widenings(old, new), widenings(new, old), asks)


def _line(widening: Widening) -> confinement.PolicyLine:
    return {"what": str(widening), "witness": shown_request(widening.witness), "when": when(widening)}


def _shown(widening: Widening) -> str:
    """Return a widening with its witness, where that says more."""
    witness = shown_request(widening.witness)
    return str(widening) if witness in {str(widening), ""} else f"{widening}, as {witness.partition(' ')[2]}"


def shown_request(request: Request) -> str:
    """Return a request as a person writes it; empty for an ability, which is no single place."""
    match request:
        case FileRequest(path, write):
            return f"{'write' if write else 'read'} {path}"
        case HostRequest(host, port, address):
            name = f"[{host}]" if ":" in host else host
            place = f"{name}={address}" if address and address != host else name
            return f"connect {place}:{port}"
        case _:
            return ""
