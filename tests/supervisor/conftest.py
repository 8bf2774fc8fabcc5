"""Real processes in a world of their own, and none of them left in it afterwards."""

from __future__ import annotations

import asyncio
import shutil
import signal
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import scratch
from patience import PATIENCE_SECONDS
from supervisor_world import World

from epad.supervisor.cgroup import NoCgroupError, delegated


@pytest.fixture
def directory() -> Iterator[Path]:
    """On the disk: a log gives back room in its midst where the file system can, and memory counts a mapped file."""
    path = Path(tempfile.mkdtemp(prefix="epad-", dir=scratch.DISK))
    yield path
    shutil.rmtree(path)


@pytest.fixture
def tmp_path(directory: Path) -> Path:
    return directory


class DiskPlaces:
    """What stands in for pytest's `tmp_path_factory`, which makes its own where `scratch` says."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def mktemp(self, name: str) -> Path:
        return Path(tempfile.mkdtemp(prefix=name, dir=self._root))


@pytest.fixture(scope="session")
def tmp_path_factory() -> Iterator[DiskPlaces]:
    with tempfile.TemporaryDirectory(prefix="epad-", dir=scratch.DISK) as root:
        yield DiskPlaces(Path(root))


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
