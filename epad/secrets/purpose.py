"""Decide who may have a secret, and where it may go. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from epad.secrets.errors import SecretError, UnboundError
from runners.egress.rules import RuleError, host_name

GATEWAY: Final = "gateway"
"""Who opens the keys of model servers. It stands among the subsystems of a binding, and no subsystem has this name."""
EPAD: Final = "epad"
"""Who opens the keys that epad makes for itself."""
_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")


@dataclass(frozen=True, slots=True)
class Purpose:
    """Tells what a secret is opened for: who uses it, and the host that it goes to.

    An empty `host`: the value goes nowhere, as of a key that something is signed with.
    """

    subsystem: str
    host: str = ""

    def __str__(self) -> str:
        return f"{self.subsystem} and {self.host}" if self.host else self.subsystem


@dataclass(frozen=True, slots=True)
class Binding:
    """Holds the hosts that a secret may go to, and who may use it. Nobody and nowhere, where one is empty."""

    hosts: tuple[str, ...] = ()
    subsystems: tuple[str, ...] = ()

    def check(self, name: str, purpose: Purpose) -> None:
        """Raise UnboundError where a secret is not for this purpose."""
        if purpose.subsystem not in self.subsystems:
            raise UnboundError(
                f"the secret {name} is not bound to {purpose.subsystem}",
                f"epactl secret bind {name} --for {purpose.subsystem}",
            )
        if purpose.host and purpose.host.lower() not in self.hosts:
            raise UnboundError(
                f"the secret {name} is not bound to the host {purpose.host}",
                f"epactl secret bind {name} --host {purpose.host}",
            )


def bound(hosts: tuple[str, ...], subsystems: tuple[str, ...]) -> Binding:
    """Return a binding in its one form. Raises SecretError for a host that is none."""
    return Binding(tuple(sorted({_host(one) for one in hosts})), tuple(sorted(set(subsystems))))


def checked_name(name: str) -> str:
    """Return a name that a secret can have. Raises SecretError."""
    if _NAME.fullmatch(name) is None:
        raise SecretError(
            f"{name[:80]!r} is no name of a secret", "give at most 64 letters, digits, and . _ - within"
        )
    return name


def _host(text: str) -> str:
    try:
        if "*" not in text:
            return host_name(text)
    except RuleError:
        pass
    raise SecretError(
        f"{text[:80]!r} is no host that a secret can be bound to", "give its name alone, as api.github.com"
    )
