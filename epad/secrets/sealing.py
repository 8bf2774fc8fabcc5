"""Choose what seals a secret: the first there is of TPM2, the host key, and a key that a person unlocks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Protocol

from epad.secrets.age_key import AgeKey
from epad.secrets.errors import NoSealingError
from epad.secrets.systemd_creds import SystemdCreds


class SealedBy(StrEnum):
    """Names the ways of sealing, the first choice first."""

    TPM2 = "tpm2"
    HOST = "host"
    AGE = "age"


class Sealer(Protocol):
    """Seals and opens payloads, each under the name of its secret."""

    async def seal(self, name: str, payload: bytes) -> bytes:
        """Return the payload sealed. Raises NoSealingError, LockedError."""
        ...

    async def open(self, name: str, sealed: bytes) -> bytes:
        """Return what was sealed under the name. Raises DamagedError, LockedError."""
        ...

    def missing(self) -> str:
        """Say what is lacking to seal this way; empty if nothing is."""
        ...


@dataclass(frozen=True, slots=True)
class Sealers:
    """Holds the ways of sealing of this machine, in the order of choice."""

    ways: Mapping[SealedBy, Sealer]
    age: AgeKey

    def of(self, kind: str) -> Sealer:
        """Return a way by its name. Raises NoSealingError."""
        try:
            return self.ways[SealedBy(kind)]
        except (ValueError, KeyError):
            raise NoSealingError(f"{kind[:20]!r} is no way of sealing: {', '.join(SealedBy)}") from None

    def first(self) -> SealedBy:
        """Return the first way that lacks nothing. Raises NoSealingError."""
        for kind, way in self.ways.items():
            if not way.missing():
                return kind
        lacks = "; ".join(f"{kind}: {way.missing()}" for kind, way in self.ways.items())
        raise NoSealingError(f"nothing here can seal a secret: {lacks}", "epactl secret unlock")

    def missing(self) -> dict[str, str]:
        """Return for each way what it lacks; empty where nothing is lacking."""
        return {kind: way.missing() for kind, way in self.ways.items()}


def sealers_of(directory: Path, environment: Mapping[str, str]) -> Sealers:
    """Return the ways of this machine; the key of age lies in `directory`."""
    age = AgeKey(directory, environment)
    ways: dict[SealedBy, Sealer] = {
        SealedBy.TPM2: SystemdCreds("tpm2", environment),
        SealedBy.HOST: SystemdCreds("host", environment),
        SealedBy.AGE: age,
    }
    return Sealers(ways, age)
