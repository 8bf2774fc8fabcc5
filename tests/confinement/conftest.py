"""A zygote, a workspace, and each way in which a daemon makes cells here."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import cell_world
import pytest
from cell_world import MODES, Mode

from epad.confinement.zygote import Zygote


@pytest.fixture(params=MODES)
def mode(request: pytest.FixtureRequest) -> Mode:
    kind: Mode = request.param
    cell_world.need(kind)
    return kind


@pytest.fixture
async def zygote() -> AsyncIterator[Zygote]:
    async with cell_world.zygote() as kept:
        yield kept


@pytest.fixture
def place() -> Iterator[Path]:
    with cell_world.workspace(cell_world.UID) as made:
        yield made
