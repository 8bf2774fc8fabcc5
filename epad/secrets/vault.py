"""The vault: secrets by name, opened for a purpose that each is bound to, kept sealed at every other time.

`await vault.open("github", Purpose("agent", "api.github.com"))` is the one way to a value, for everything in epad.
Values are not kept here: each opening asks the TPM, the host key or the key of age.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC
from pathlib import Path

from msgspec import structs

from epad.secrets.age_key import UnlockedBy
from epad.secrets.errors import DamagedError, SecretError, UnboundError, UnknownSecretError
from epad.secrets.own_keys import OwnKeys
from epad.secrets.purpose import Binding, Purpose, bound, checked_name
from epad.secrets.sealed_file import FORMAT, LARGEST_VALUE_BYTES, SealedSecret, SecretFiles
from epad.secrets.sealing import SealedBy, Sealers, sealers_of
from epad.secrets.uses import Use, Uses
from statemachine.clock import Clock

Changed = Callable[[str], Awaitable[None]]
"""Told the name of a secret whose value, binding or existence has changed; empty where any may have."""


@dataclass(frozen=True, slots=True)
class Shown:
    """Tells of a secret all but its value. `fault` says why its file is refused; empty if it is whole."""

    name: str
    sealed_by: str = ""
    binding: Binding = field(default_factory=Binding)
    made: str = ""
    rotated: str = ""
    last: Use | None = None
    fault: str = ""


class Vault:
    """The secrets of one directory."""

    def __init__(self, files: SecretFiles, sealers: Sealers, uses: Uses, clock: Clock) -> None:
        self._files = files
        self._sealers = sealers
        self._uses = uses
        self._clock = clock
        self._changing = asyncio.Lock()
        self._told: list[Changed] = []

    async def open(self, name: str, purpose: Purpose) -> bytes:
        """Return a secret's value, for whom and where it is bound to, and take note of the use.

        Raises UnknownSecretError, UnboundError, LockedError, DamagedError, SecretError.
        """
        secret = self._files.read(name)
        secret.binding.check(name, purpose)
        value = await self._opened(secret)
        self._uses.note(name, purpose)
        return value

    async def lend(self, name: str, subsystem: str, hosts: Iterable[str]) -> tuple[bytes, tuple[str, ...]]:
        """Return a value and those of the hosts that it is bound to, for a holder who tells of each use by `used`.

        Raises UnboundError where none of them is, and as `open` does.
        """
        secret, refused, allowed = self._files.read(name), UnboundError(), []
        for host in hosts:
            try:
                secret.binding.check(name, Purpose(subsystem, host))
                allowed.append(host)
            except UnboundError as error:
                refused = error
        if not allowed:
            raise refused
        return await self._opened(secret), tuple(allowed)

    def used(self, name: str, purpose: Purpose) -> None:
        """Take note that a value which was opened before is used again."""
        self._uses.note(name, purpose)

    def own_keys(self) -> OwnKeys:
        """Return what keeps epad's own keys sealed, by the same ways."""
        return OwnKeys(self._sealers)

    def tell(self, changed: Changed) -> None:
        """Have somebody told of each change, once it is on the disk."""
        self._told.append(changed)

    def names(self) -> tuple[str, ...]:
        """Return the names of the secrets."""
        return tuple(self._files.names())

    def binding(self, name: str) -> Binding:
        """Return whom and what a secret is bound to. Raises UnknownSecretError, SecretError."""
        return self._files.read(name).binding

    def show(self) -> list[Shown]:
        """Return all that is told of secrets; a file that is refused is among them."""
        last = self._uses.last()
        return [self._shown(name, last) for name in self._files.names()]

    def missing(self) -> Mapping[str, str]:
        """Return for each way of sealing what it lacks here; empty where nothing is lacking."""
        return self._sealers.missing()

    async def set(
        self, name: str, value: bytes, binding: Binding, by: str = "", *, replace: bool = False
    ) -> SealedBy:
        """Keep a new secret, sealed `by` a way, or by the first there is; return the way. Raises SecretError."""
        async with self._changing:
            path, now = self._files.path(checked_name(name)), self._now()
            if path.exists() and not replace:
                fix = f"epactl secret rotate {name} gives it a new value; --replace makes it anew"
                raise SecretError(f"the secret {name} is there already", fix)
            kind = SealedBy(by) if by in set(SealedBy) else self._sealers.first() if not by else None
            if kind is None:
                raise SecretError(f"{by[:20]!r} is no way of sealing", f"give {', '.join(SealedBy)}")
            checked = bound(binding.hosts, binding.subsystems)
            await self._put(
                SealedSecret(FORMAT, name, kind, checked.hosts, checked.subsystems, now, now), value
            )
        await self._tell(name)
        return kind

    async def rotate(self, name: str, value: bytes) -> None:
        """Give a secret a new value; who has opened the former keeps it for what is under way. Raises SecretError."""
        async with self._changing:
            await self._put(structs.replace(self._files.read(name), rotated=self._now()), value)
        await self._tell(name)

    async def bind(self, name: str, binding: Binding) -> Binding:
        """Bind a secret to these hosts and subsystems; empty ones leave what it is bound to. Raises SecretError."""
        async with self._changing:
            former = self._files.read(name)
            value = await self._opened(former)
            checked = bound(binding.hosts or former.hosts, binding.subsystems or former.subsystems)
            await self._put(
                structs.replace(former, hosts=checked.hosts, subsystems=checked.subsystems), value
            )
        await self._tell(name)
        return checked

    async def test(self, name: str) -> tuple[str, int]:
        """Open a secret for nobody; return what sealed it, and how many bytes it has. Raises SecretError."""
        secret = self._files.read(name)
        return secret.sealed_by, len(await self._opened(secret))

    async def export(self, name: str, recipient: str) -> bytes:
        """Return a secret's value, or it encrypted by age to somebody's public key. Raises SecretError."""
        value = await self._opened(self._files.read(name))
        return await self._sealers.age.seal_to(recipient, value) if recipient else value

    async def remove(self, name: str) -> None:
        """Delete a secret. Raises UnknownSecretError, SecretError."""
        async with self._changing:
            self._files.remove(name)
        await self._tell(name)

    def has_own_key(self) -> bool:
        """Tell if there is a key of age, which has to be unlocked."""
        try:
            return self._sealers.age.kept() is not None
        except SecretError:
            return True

    async def unlock(self, passphrase: str, by: UnlockedBy) -> str:
        """Unlock the key of age, or make it; return what was done. Raises SecretError."""
        done = await self._sealers.age.unlock(passphrase, by)
        await self._tell("")
        return done

    async def _put(self, secret: SealedSecret, value: bytes) -> None:
        if not 0 < len(value) <= LARGEST_VALUE_BYTES:
            raise SecretError(
                f"the value of {secret.name} has {len(value)} bytes", f"give 1 to {LARGEST_VALUE_BYTES:,}"
            )
        sealed = await self._sealers.of(secret.sealed_by).seal(secret.name, secret.payload(value))
        await asyncio.to_thread(self._files.write, structs.replace(secret, sealed=sealed))

    async def _opened(self, secret: SealedSecret) -> bytes:
        return secret.value_of(await self._sealers.of(secret.sealed_by).open(secret.name, secret.sealed))

    async def _tell(self, name: str) -> None:
        for changed in self._told:
            await changed(name)

    def _shown(self, name: str, last: Mapping[str, Use]) -> Shown:
        try:
            one = self._files.read(name)
        except (DamagedError, UnknownSecretError, SecretError) as error:
            return Shown(name, fault=str(error), last=last.get(name))
        return Shown(name, one.sealed_by, one.binding, one.made, one.rotated, last.get(name))

    def _now(self) -> str:
        return self._clock.utc().astimezone(UTC).isoformat(timespec="seconds")


def open_vault(directory: Path, environment: Mapping[str, str], uses: Uses, clock: Clock) -> Vault:
    """Return the vault of a directory. Nothing is opened, and no way of sealing is asked."""
    return Vault(SecretFiles(directory), sealers_of(directory, environment), uses, clock)
