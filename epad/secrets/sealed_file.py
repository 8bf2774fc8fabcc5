"""Keep one sealed secret in one file: its format, and how it is read, written and removed.

A file has one form only: what is read is written again and compared, so that no byte of it can be changed unseen. Of
the parts that can be read without a key each stands inside the sealed payload too, and is compared once it is open.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Final

import msgspec
from msgspec import Struct, structs

from epad.secrets.errors import DamagedError, SecretError, UnknownSecretError
from epad.secrets.purpose import Binding, checked_name

FORMAT: Final = 1
LARGEST_VALUE_BYTES: Final = 16_384
_SUFFIX: Final = ".secret"
_MOST_BYTES: Final = 131_072
_LENGTH_BYTES: Final = 4


class SealedSecret(Struct, frozen=True, forbid_unknown_fields=True):
    """Holds one secret as it lies on the disk. Times are ISO 8601, in UTC; `sealed_by` names a way of sealing."""

    format: int
    name: str
    sealed_by: str
    hosts: tuple[str, ...]
    subsystems: tuple[str, ...]
    made: str
    rotated: str
    sealed: bytes = b""

    @property
    def binding(self) -> Binding:
        """Return whom and what it is bound to."""
        return Binding(self.hosts, self.subsystems)

    def payload(self, value: bytes) -> bytes:
        """Return the bytes to seal: everything of the file that can be read, and then the value."""
        head = self._head()
        return len(head).to_bytes(_LENGTH_BYTES, "big") + head + value

    def value_of(self, payload: bytes) -> bytes:
        """Return the value of an opened payload. Raises DamagedError where the rest is not this file's."""
        length = int.from_bytes(payload[:_LENGTH_BYTES], "big")
        if payload[_LENGTH_BYTES : _LENGTH_BYTES + length] != self._head():
            raise damaged(self.name, "its name, its binding or a date was changed from outside")
        return payload[_LENGTH_BYTES + length :]

    def _head(self) -> bytes:
        return msgspec.json.encode(structs.replace(self, sealed=b""))


def damaged(name: str, why: str) -> DamagedError:
    """Return the error of a file that is not as it was written."""
    fix = f"give its value anew: epactl secret set {name} --replace"
    return DamagedError(f"the secret {name} is refused: {why}", fix)


class SecretFiles:
    """The files of one directory, which is made with the first."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    def names(self) -> Iterator[str]:
        """Yield the names of the secrets in order."""
        with suppress(OSError):
            found = sorted(path.name for path in self.directory.iterdir())
            yield from (
                one.removesuffix(_SUFFIX)
                for one in found
                if one.endswith(_SUFFIX) and not one.startswith(".")
            )

    def read(self, name: str) -> SealedSecret:
        """Return a secret as it lies there. Raises UnknownSecretError, DamagedError, SecretError."""
        path = self.path(name)
        try:
            with path.open("rb") as file:
                data = file.read(_MOST_BYTES + 1)
        except FileNotFoundError:
            raise UnknownSecretError(name) from None
        except OSError as error:
            raise SecretError(f"the secret {name} cannot be read: {path}: {error.strerror}") from error
        try:
            found = msgspec.json.decode(data, type=SealedSecret)
        except msgspec.MsgspecError:
            raise damaged(name, f"{path} is not as epad has written it") from None
        if found.format != FORMAT:
            raise SecretError(
                f"the secret {name} has format {found.format}; this epad reads {FORMAT}", "upgrade epad"
            )
        if msgspec.json.encode(found) != data:
            raise damaged(name, f"{path} is not as epad has written it")
        if found.name != name:
            raise damaged(name, f"its file is that of the secret {found.name[:64]!r}, by another name")
        return found

    def write(self, secret: SealedSecret) -> None:
        """Put a secret in its place, whole or not at all. Raises SecretError."""
        path = self.path(secret.name)
        try:
            self.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            replace_private(path, msgspec.json.encode(secret))
        except OSError as error:
            raise SecretError(
                f"the secret {secret.name} cannot be written: {path}: {error.strerror}"
            ) from error

    def remove(self, name: str) -> None:
        """Delete a secret's file. Raises UnknownSecretError, SecretError."""
        try:
            self.path(name).unlink()
        except FileNotFoundError:
            raise UnknownSecretError(name) from None
        except OSError as error:
            raise SecretError(f"the secret {name} cannot be removed: {error.strerror}") from error

    def path(self, name: str) -> Path:
        """Return the place of a secret's file. Raises SecretError for a name that none can have."""
        return self.directory / f"{checked_name(name)}{_SUFFIX}"


def replace_private(path: Path, data: bytes) -> None:
    """Put data on the disk in the place of a file that its owner alone may read. Raises OSError."""
    new = path.with_name(f".{path.name}.new")
    with suppress(FileNotFoundError):
        new.unlink()
    descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        new.replace(path)
    except OSError:
        with suppress(OSError):
            new.unlink()
        raise
    above = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(above)
    finally:
        os.close(above)
