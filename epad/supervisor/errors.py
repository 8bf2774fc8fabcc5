"""Define the errors between a supervisor and its processes."""

from __future__ import annotations

from epad import EpadError


class SupervisorError(EpadError):
    """The supervisor could not carry out an operation."""


class ProcessGoneError(SupervisorError):
    """The process has ended, or its pid now belongs to another one."""


class SpawnError(SupervisorError):
    """A process could not be started. `permanent` when trying again without a change cannot help.

    `key` is the setting of the subsystem that it is about.
    """

    def __init__(self, message: str, *, permanent: bool, key: str = "command") -> None:
        super().__init__(message)
        self.permanent = permanent
        self.key = key
