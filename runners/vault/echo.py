"""Remember which texts each session has recalled lately, so that it does not store them again as its own.

Kept in memory: the newest texts of the newest sessions; a restart of the child forgets them.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Iterable
from typing import Final, Protocol

from runners.vault import words
from runners.vault.store import By

MOST_SESSIONS: Final = 64
MOST_TEXTS: Final = 64


class RecalledText(Protocol):
    """A text of an entity."""

    @property
    def entity_id(self) -> int: ...

    @property
    def name(self) -> str: ...

    @property
    def content(self) -> str: ...


class Recalled:
    """The texts that sessions have recalled."""

    def __init__(self) -> None:
        self._of: OrderedDict[str, deque[tuple[int, str, str]]] = OrderedDict()

    def note(self, by: By, texts: Iterable[RecalledText]) -> None:
        """Remember that a session has got these texts."""
        kept = self._of.setdefault(by.session, deque(maxlen=MOST_TEXTS))
        self._of.move_to_end(by.session)
        for text in texts:
            entry = (text.entity_id, text.name, words.normalised(text.content))
            if entry not in kept:
                kept.append(entry)
        while len(self._of) > MOST_SESSIONS:
            self._of.popitem(last=False)

    def echo(self, by: By, normal: str, entity: int | None) -> str | None:
        """Return the name that a text was recalled under by this session; None if it says something new.

        A new version of the entity that it was recalled from is none.
        """
        for number, name, recalled in self._of.get(by.session, ()):
            if number != entity and words.quotes(normal, recalled):
                return name
        return None
