"""The rungs of the containment ladder, and how a text names one."""

from __future__ import annotations

from enum import IntEnum
from typing import Literal

RungName = Literal["open", "throttle", "block", "freeze", "release_vram", "stop"]
"""The label of a rung, as settings name it."""


class UnknownRungError(ValueError):
    """A text that should name a rung names none there is."""

    def __init__(self, named: object) -> None:
        labels = ", ".join(rung.label for rung in Rung)
        super().__init__(f"{named!r} is no rung; there are: {labels}")


class Rung(IntEnum):
    """Grades a hold; each rung shuts the gateway at least as far as the ones below it.

    RELEASE_VRAM stands above FREEZE although the process runs on under it: a frozen process keeps its GPU memory.
    """

    OPEN = 0
    THROTTLE = 1
    BLOCK = 2
    FREEZE = 3
    RELEASE_VRAM = 4
    STOP = 5

    @property
    def label(self) -> str:
        """Return the word used in configuration, events, recordings and metrics."""
        return self.name.lower()

    @classmethod
    def labelled(cls, label: object) -> Rung:
        """Return the rung of that label, exactly as it is written. Raises UnknownRungError."""
        rung = _BY_LABEL.get(label) if isinstance(label, str) else None
        if rung is None:
            raise UnknownRungError(label)
        return rung


_BY_LABEL = {rung.label: rung for rung in Rung}
