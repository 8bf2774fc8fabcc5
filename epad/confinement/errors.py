"""Define the errors of cells."""

from __future__ import annotations

from epad import EpadError


class ConfinementError(EpadError):
    """A cell could not be made, or its doors not made anew. `permanent` when another try cannot help."""

    def __init__(self, what: str, fix: str = "", *, where: str = "", permanent: bool = False) -> None:
        super().__init__(what, fix, where=where)
        self.permanent = permanent
