"""Say why a request of the store cannot be done, and the fix."""

from __future__ import annotations


class VaultError(Exception):
    """A request that cannot be done: `message` names the thing and the place, `hint` the fix."""

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
