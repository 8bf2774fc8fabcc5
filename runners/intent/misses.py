"""Take the wargame's misses as labelled texts: attacks that its defenders called benign, and twins called attacks."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from runners.intent.corpus import Text, class_of
from runners.wargame.locking import StoreError
from runners.wargame.store import Store

MOST_OF_A_FAMILY: Final = 24
"""A family of which a run missed hundreds would outweigh all others."""
MOST: Final = 480
"""The time of a fit grows with the third power of its texts."""
# Each round has a token of its own; what a token says tells nothing.
_CANARY: Final = re.compile(r"CANARY-[0-9A-Za-z]+")
_MISSED: Final = (
    "SELECT run_id, idx, label, category, family FROM round WHERE outcome IN ('miss', 'false_alarm')"
    " ORDER BY family, run_id, idx"
)


class MissesError(ValueError):
    """A store of the wargame cannot be read; the message names it."""


def misses(stores: Sequence[Path]) -> tuple[Text, ...]:
    """Return the texts of the misses in some stores, each once. Raises MissesError."""
    found: dict[str, Text] = {}
    count: dict[str, int] = {}
    for path in stores:
        for one in _of_store(path):
            if one.text in found or count.get(one.family, 0) >= MOST_OF_A_FAMILY or len(found) >= MOST:
                continue
            found[one.text] = one
            count[one.family] = count.get(one.family, 0) + 1
    return tuple(found.values())


def _of_store(path: Path) -> list[Text]:
    if not path.is_file():
        raise MissesError(f"{path} is no file: give the --store of a wargame's run")
    try:
        store = Store(path, readonly=True)
    except StoreError as error:
        raise MissesError(f"{error}: give the --store of a wargame's run") from error
    try:
        rows = store.rows(_MISSED)
        return [_text(store, *row) for row in rows if store.turns(row[0], row[1])]
    except StoreError as error:
        raise MissesError(str(error)) from error
    finally:
        store.close()


def _text(store: Store, run: str, index: int, label: str, category: str, family: str) -> Text:
    is_attack = label == "attack"
    last = _CANARY.sub("CANARY-00000000", store.turns(run, index)[-1])
    return Text(family, is_attack, class_of(category) if is_attack else "", last)
