"""Real processes in a world of their own, and none of them left in it afterwards."""

from __future__ import annotations

import asyncio
import shutil
import signal
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from supervisor_world import PATIENCE_SECONDS, World

from epad.supervisor.cgroup import NoCgroupError, delegated


@pytest.fixture
def directory() -> Iterator[Path]:
    path = Path(tempfile.mkdtemp(prefix="epad-"))
    yield path
    shutil.rmtree(path)


@pytest.fixture
async def world(directory: Path, request: pytest.FixtureRequest) -> AsyncIterator[World]:
    trees = getattr(request, "param", "walked")
    if trees == "cgroup":
        try:
            delegated(managed=Path("/run/systemd/system").is_dir())
        except NoCgroupError as error:
            pytest.skip(f"no cgroup to divide: {error}")
    world = World(directory, trees)
    await world.database.open()
    yield world
    await world.database.close()
    left = world.table.tree(None, world.marks)
    for identity in left:
        world.table.signal(identity, signal.SIGKILL)
    async with asyncio.timeout(PATIENCE_SECONDS):
        while world.living():
            await asyncio.sleep(0.01)
    assert not left, "the test left processes behind"
    await world.engine.close()
