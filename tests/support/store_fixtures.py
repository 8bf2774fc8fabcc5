from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from datastore_world import Store

from epad.inspection.resting import Patience


@pytest.fixture
def make_store(tmp_path: Path) -> Iterator[Callable[..., Store]]:
    made: list[Store] = []

    def make(name: str = "memory.db", seed: int = 1) -> Store:
        made.append(Store(tmp_path / name, seed))
        return made[-1]

    yield make
    for store in made:
        store.close()


@pytest.fixture(autouse=True)
def _short_patience(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is wrong with a file just written is believed after a moment, or every test of damage would take seconds."""
    if "full_patience" not in request.keywords:
        monkeypatch.setattr("epad.inspection.inspect.PATIENCE", Patience(0.05, 0.3, 0.01))
