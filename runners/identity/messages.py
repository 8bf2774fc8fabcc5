"""Define the messages between the daemon and its identity child, one to a datagram of their socket, as JSON.

The daemon begins with `Start`, beside which comes the listening socket of the Workload API. From then on each side asks
the other: the child who is at the other end of a connection, the daemon for SVIDs of its own. Each question has a
number, and its answer the same.
"""

from __future__ import annotations

from typing import Final

import msgspec
from msgspec import Struct

LARGEST_MESSAGE: Final = 131_072
"""The most bytes of one, as of the way out's (`runners/egress/messages.py`)."""
X509: Final = "x509"
JWT: Final = "jwt"
X509_SECONDS: Final = 600
JWT_SECONDS: Final = 300
SUBSYSTEM: Final = "subsystem"
"""The first part of the path of each subsystem's SPIFFE id."""
DAEMON: Final = "/epad"
"""The path of the daemon's own SPIFFE id."""


class Start(Struct, frozen=True, tag="start"):
    """Begins the work. `kept` are the authorities as `Keep` had them, empty at first.

    `agent` is the path of the socket of a SPIRE agent: the child asks that, and serves nothing itself.
    """

    trust_domain: str
    kept: str = ""
    agent: str = ""
    x509_seconds: float = X509_SECONDS
    jwt_seconds: float = JWT_SECONDS
    """How long SVIDs live: a stream of X.509-SVIDs gets a new one at half of that."""


class Known(Struct, frozen=True, tag="known"):
    """Answers `Who`: the name of the subsystem, or why there is none, for the client to read."""

    number: int
    name: str = ""
    why: str = ""
    pid: int = 0


class Saved(Struct, frozen=True, tag="saved"):
    """Answers `Keep`: the authorities are on the disk, or why they are not."""

    number: int
    why: str = ""


class Issue(Struct, frozen=True, tag="issue"):
    """Asks for an SVID of the daemon's own: X509 or JWT, this for an audience."""

    number: int
    kind: str
    audience: str = ""


class Validate(Struct, frozen=True, tag="validate"):
    """Asks whose a JWT-SVID is, if it is for this audience."""

    number: int
    token: str
    audience: str


class Bundle(Struct, frozen=True, tag="bundle"):
    """Asks for the trust bundle."""

    number: int


class Rotate(Struct, frozen=True, tag="rotate"):
    """Asks for a new authority, which signs from now on."""

    number: int


class Cut(Struct, frozen=True, tag="cut"):
    """Orders the streams of a subsystem to be ended: it is held."""

    name: str


Order = Start | Known | Saved | Issue | Validate | Bundle | Rotate | Cut


class Ready(Struct, frozen=True, tag="ready"):
    """Reports that clients are served; in front of a SPIRE agent, that it has answered."""


class Who(Struct, frozen=True, tag="who"):
    """Asks who is at the other end of a connection, which comes beside it.

    `accepted_at` is when it was accepted, in seconds since boot: no process that began later has made it.
    """

    number: int
    accepted_at: float


class Keep(Struct, frozen=True, tag="keep"):
    """Asks for the authorities to be put on the disk, with their keys; nothing is signed before they are."""

    number: int
    authorities: str
    why: str


class Issued(Struct, frozen=True, tag="issued"):
    """Reports an SVID that was signed.

    `reference` is its serial number or, of a token, its SHA-256. `until` is in seconds since 1970.
    """

    spiffe_id: str
    name: str
    kind: str
    audience: tuple[str, ...]
    until: float
    reference: str
    pid: int


class Answer(Struct, frozen=True, tag="answer"):
    """Answers the daemon: texts by their names, or an error."""

    number: int
    texts: dict[str, str] = {}
    until: float = 0.0
    error: str = ""


class Fault(Struct, frozen=True, tag="fault"):
    """Reports what hinders the child; empty: nothing any more."""

    why: str


Report = Ready | Who | Keep | Issued | Answer | Fault

encode: Final = msgspec.json.Encoder().encode
read_order: Final = msgspec.json.Decoder(Order).decode
read_report: Final = msgspec.json.Decoder(Report).decode


def subsystem_id(trust_domain: str, name: str) -> str:
    """Return the SPIFFE id of a subsystem."""
    return f"spiffe://{trust_domain}/{SUBSYSTEM}/{name}"


def subsystem_of(spiffe_id: str, trust_domain: str) -> str:
    """Return the name of the subsystem that a SPIFFE id means; empty for any other id."""
    start = f"spiffe://{trust_domain}/{SUBSYSTEM}/"
    name = spiffe_id.removeprefix(start)
    return name if name != spiffe_id and "/" not in name else ""
