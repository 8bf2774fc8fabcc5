"""Define the answers about workload identity."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypedDict


class IssuedSvid(TypedDict):
    """Tells of one SVID: `svid` is "x509" or "jwt", `reference` its serial number, or of a token its SHA-256."""

    spiffe_id: str
    subsystem: str
    svid: str
    audience: Sequence[str]
    at: str
    until: str
    reference: str
    pid: int


class IdentityList(TypedDict):
    """Holds the newest SVIDs of the last 24 hours; `state` says how the Workload API is, `socket` where it listens."""

    trust_domain: str
    socket: str
    state: str
    svids: Sequence[IssuedSvid]


class IdentityBundle(TypedDict):
    """Holds the trust bundle, as a SPIFFE bundle document."""

    trust_domain: str
    document: str
