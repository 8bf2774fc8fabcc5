"""Show the secrets vault, and carry out a person's orders about it. A value passes through here, and stays nowhere."""

from __future__ import annotations

import base64
from collections.abc import Awaitable
from dataclasses import dataclass
from typing import TypeVar

from epad.answers.orders import Result
from epad.answers.secrets import ExportedSecret, SecretLine, SecretList
from epad.operations.bodies import BoundTo
from epad.operations.orders import Orders
from epad.operations.protocol import ConflictError, UnknownVaultSecretError
from epad.operations.registry import Operation
from epad.secrets.age_key import UnlockedBy
from epad.secrets.errors import SecretError, UnknownSecretError
from epad.secrets.purpose import Binding
from epad.secrets.vault import Shown, Vault
from statemachine.finding import HOST

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class SecretOrders(Orders):
    """Implements the part of `epad.operations.protocol.Operations` that is about secrets."""

    secret_vault: Vault

    async def secrets(self) -> SecretList:
        return {
            "secrets": [_line(one) for one in self.secret_vault.show()],
            "sealing": self.secret_vault.missing(),
        }

    async def set_secret(
        self,
        name: str,
        value: bytes,
        binding: BoundTo,
        sealed_by: str,
        replace: bool,
        reason: str,
        by: str,
    ) -> Result:
        self._note(Operation.SET_SECRET, HOST, f"{name}: {reason}", by)
        bound = Binding(binding.hosts, binding.subsystems)
        way = await self._done(name, self.secret_vault.set(name, value, bound, sealed_by, replace=replace))
        return self._result([f"the secret {name} is kept, sealed by {way}"])

    async def rotate_secret(self, name: str, value: bytes, reason: str, by: str) -> Result:
        self._note(Operation.ROTATE_SECRET, HOST, f"{name}: {reason}", by)
        await self._done(name, self.secret_vault.rotate(name, value))
        return self._result([f"the secret {name} has its new value; what is under way ends with the former"])

    async def bind_secret(self, name: str, binding: BoundTo, reason: str, by: str) -> Result:
        self._note(Operation.BIND_SECRET, HOST, f"{name}: {reason}", by)
        asked = Binding(binding.hosts, binding.subsystems)
        bound = await self._done(name, self.secret_vault.bind(name, asked))
        who, where = ", ".join(bound.subsystems) or "nobody", ", ".join(bound.hosts) or "no host"
        return self._result([f"the secret {name} is for {who}, and goes to {where}"])

    async def test_secret(self, name: str, reason: str, by: str) -> Result:
        self._note(Operation.TEST_SECRET, HOST, f"{name}: {reason}", by)
        way, size = await self._done(name, self.secret_vault.test(name))
        return self._result([f"the secret {name} opens: sealed by {way}, {size} bytes"])

    async def export_secret(self, name: str, recipient: str, reason: str, by: str) -> ExportedSecret:
        self._note(Operation.EXPORT_SECRET, HOST, f"{name} to {recipient or 'a file'}: {reason}", by)
        value = await self._done(name, self.secret_vault.export(name, recipient))
        done = self._result([f"the secret {name} was exported"])
        return {**done, "value": base64.b64encode(value).decode()}

    async def remove_secret(self, name: str, reason: str, by: str) -> Result:
        self._note(Operation.REMOVE_SECRET, HOST, f"{name}: {reason}", by)
        await self._done(name, self.secret_vault.remove(name))
        return self._result([f"the secret {name} is removed"])

    async def unlock_secrets(self, passphrase: str, by_what: str, reason: str, by: str) -> Result:
        self._note(Operation.UNLOCK_SECRETS, HOST, f"by its {by_what}: {reason}", by)
        return self._result([await self._done("", self.secret_vault.unlock(passphrase, UnlockedBy(by_what)))])

    async def _done(self, name: str, work: Awaitable[T]) -> T:
        try:
            return await work
        except UnknownSecretError as error:
            raise UnknownVaultSecretError(name, self.secret_vault.names()) from error
        except SecretError as error:
            raise ConflictError(error.what, error.fix) from error


def _line(one: Shown) -> SecretLine:
    last = one.last
    return {
        "name": one.name,
        "sealed_by": one.sealed_by,
        "hosts": one.binding.hosts,
        "subsystems": one.binding.subsystems,
        "made": one.made,
        "rotated": one.rotated,
        "used": last.at if last else "",
        "used_by": last.subsystem if last else "",
        "used_for": last.host if last else "",
        "fault": one.fault,
    }
