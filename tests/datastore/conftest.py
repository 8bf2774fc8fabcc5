from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from datastore_world import Store


@pytest.fixture
def make_store(tmp_path: Path) -> Iterator[Callable[..., Store]]:
    made: list[Store] = []

    def make(name: str = "memory.db", seed: int = 1) -> Store:
        made.append(Store(tmp_path / name, seed))
        return made[-1]

    yield make
    for store in made:
        store.close()
