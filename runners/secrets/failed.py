"""Define the failure of a request, in words for a person."""

from __future__ import annotations


class FailedError(Exception):
    """A request could not be done: what, and what to do about it."""

    def __init__(self, what: str, fix: str = "") -> None:
        super().__init__(what)
        self.what = what
        self.fix = fix
