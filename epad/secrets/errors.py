"""Define the errors of the secrets vault. None of their texts has a part of a value in it."""

from __future__ import annotations

from epad import EpadError


class SecretError(EpadError):
    """A secret cannot be kept or opened."""


class UnknownSecretError(SecretError):
    """There is no secret of that name."""

    def __init__(self, name: str) -> None:
        super().__init__(f"there is no secret {name!r} in the vault", f"epactl secret set {name}")


class UnboundError(SecretError):
    """A secret is not bound to who asks for it, or to the host that it is to go to."""


class LockedError(SecretError):
    """The key that opens a secret waits for a person: a passphrase, or a security key."""


class DamagedError(SecretError):
    """A file is not as it was written: it was changed, renamed, or sealed on another machine."""


class NoSealingError(SecretError):
    """Nothing on this machine can seal a secret now."""
