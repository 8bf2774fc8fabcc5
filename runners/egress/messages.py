"""Define the messages between the daemon and the way out, one to a datagram of their socket, as JSON.

The daemon gives orders; a listening socket comes along with the order that opens its door. The way out reports events.
Both sides read the types here, so none of them is written twice.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field, fields
from enum import StrEnum
from typing import Any, Final

INTERCEPT: Final = "intercept"
"""The argument of a way out that is to speak TLS for hosts."""
LARGEST_MESSAGE: Final = 131_072
"""The most bytes of one: below what a socket takes in one datagram by default (net.core.wmem_default, 212,992)."""


@dataclass(frozen=True, slots=True)
class Limits:
    """Sets how much one door takes at once, and how long each part of a connection may last."""

    connections: int = 256
    """Open at once; who comes then waits in the listener's queue, and no other door does."""
    head_seconds: float = 10.0
    hello_seconds: float = 10.0
    dial_seconds: float = 15.0
    body_seconds: float = 30.0
    """A body must bring 1 KiB in this time, or its end."""
    idle_seconds: float = 900.0
    report_seconds: float = 5.0
    """How often the bytes of open tunnels are reported."""


@dataclass(frozen=True, slots=True)
class Secret:
    """Holds a secret, and the hosts that it may be sent to."""

    name: str
    hosts: tuple[str, ...]
    value: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class Authority:
    """Holds the certificate authority of one cell: PEM texts, and the hosts that it may prove to be.

    The programs of the cell trust it, so the way out can read their TLS to these hosts.
    """

    certificate: str
    key: str = field(repr=False)
    hosts: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class OpenDoor:
    """Orders a door to be opened for a subsystem, or its rules to be changed if it is open. `rules` are texts."""

    door: str
    rules: tuple[str, ...]
    ask: bool = False
    limits: Limits = field(default_factory=Limits)
    secrets: tuple[Secret, ...] | None = ()
    """None: those that the door has stay."""
    decoys: tuple[str, ...] = field(default=(), repr=False)
    """Keys that open nothing: a request that can be read is refused with one in it."""
    authority: Authority | None = None
    """For whose hosts the way out speaks TLS with the client itself; None: every tunnel is passed on unread."""
    asks_all: bool = False
    """A person is asked for each host, though the rules name it, but for those that `agreed` names."""
    agreed: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class CloseDoor:
    """Orders a door to be closed, and the connections open through it to be cut."""

    door: str


@dataclass(frozen=True, slots=True)
class CutHost:
    """Orders the connections of a door to one host and port to be cut; its rules have been changed before.

    Without a host: those to every host that a person would be asked for now.
    """

    door: str
    host: str
    port: int


@dataclass(frozen=True, slots=True)
class Decide:
    """Answers a question: may that connection go on? `words` are for the client if it may not."""

    connection: int
    allow: bool
    why: str = ""
    words: str = ""


Order = OpenDoor | CloseDoor | CutHost | Decide
_NAMES: Final = {OpenDoor: "open", CloseDoor: "close", CutHost: "cut", Decide: "decide"}


class EventKind(StrEnum):
    """Lists the kinds of event that the way out reports."""

    READY = "ready"
    ASKED = "asked"
    WITHDRAWN = "withdrawn"
    """Whoever asked has hung up."""
    REFUSED = "refused"
    OPENED = "opened"
    FILLED = "filled"
    """The secret whose name is in `words` was filled into a request."""
    MOVED = "moved"
    """So many bytes have passed since the connection was opened."""
    CLOSED = "closed"
    CUT = "cut"
    """Nothing is open through a door any more, or to the host and port that are named."""


@dataclass(frozen=True, slots=True)
class Event:
    """Reports one event of one connection. A field that does not apply is empty.

    `how` is `connect`, `http`, `socks5`, or `intercept` of a tunnel that is read.
    `peer` is the port at the client's end of the connection. `count` is how many events of this kind one stands for; of
    CUT, how many connections were cut.
    """

    kind: EventKind
    door: str = ""
    connection: int = 0
    host: str = ""
    port: int = 0
    how: str = ""
    address: str = ""
    peer: int = 0
    up: int = 0
    down: int = 0
    seconds: float = 0.0
    why: str = ""
    words: str = ""
    count: int = 1


def write_order(order: Order) -> bytes:
    """Return an order as a message. Raises ValueError for one that is too long."""
    return _within({"order": _NAMES[type(order)], **asdict(order)})


def read_order(message: bytes) -> Order:
    """Read an order. Raises ValueError, TypeError or KeyError for a message that is none."""
    values: dict[str, Any] = json.loads(message)
    match values.pop("order"):
        case "open":
            limits = Limits(**values.pop("limits"))
            given = values.pop("secrets")
            secrets = None if given is None else tuple(map(_read_secret, given))
            rules, decoys = tuple(values.pop("rules")), tuple(values.pop("decoys"))
            authority = _read_authority(values.pop("authority"))
            agreed = tuple(values.pop("agreed"))
            return OpenDoor(
                rules=rules,
                limits=limits,
                secrets=secrets,
                decoys=decoys,
                authority=authority,
                agreed=agreed,
                **values,
            )
        case "close":
            return CloseDoor(**values)
        case "cut":
            return CutHost(**values)
        case "decide":
            return Decide(**values)
        case other:
            raise ValueError(f"{other!r} is no order")


def _read_secret(values: dict[str, Any]) -> Secret:
    return Secret(values["name"], tuple(values["hosts"]), values["value"])


def _read_authority(values: dict[str, Any] | None) -> Authority | None:
    return None if values is None else Authority(values["certificate"], values["key"], tuple(values["hosts"]))


def write_event(event: Event) -> bytes:
    """Return an event as a message, without its empty fields."""
    said = {one.name: getattr(event, one.name) for one in fields(event)}
    return _within({name: value for name, value in said.items() if value not in {"", 0}})


def _within(values: dict[str, Any]) -> bytes:
    message = json.dumps(values, separators=(",", ":")).encode()
    if len(message) > LARGEST_MESSAGE:
        raise ValueError(
            f"a message of {len(message)} bytes is too long: {LARGEST_MESSAGE} at most; name fewer hosts"
        )
    return message
