"""A metric's children by their labels, each looked up once: `labels` takes 2 us, several times in every turn."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


class Labelled(dict[tuple[str, ...], T]):
    """Grows by what is asked for; label values come from the configuration and closed enums, so not for ever."""

    def __init__(self, labels: Callable[..., T]) -> None:
        super().__init__()
        self._labels = labels

    def __missing__(self, values: tuple[str, ...]) -> T:
        child = self[values] = self._labels(*values)
        return child
