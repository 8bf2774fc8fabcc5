"""A control API with a fake daemon behind it, on a real Unix socket."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from fake_operations import FakeOperations

from epad.api.server import ControlApi
from epad.api.unix import peer_of
from epad.operations.protocol import Peer


@dataclass
class Door:
    """The open socket, what lies behind it, and who the kernel is made to say is knocking."""

    path: Path
    operations: FakeOperations
    peer: Peer | None = None


@pytest.fixture
def directory() -> Iterator[Path]:
    """A directory whose path is short enough for a Unix socket."""
    path = Path(tempfile.mkdtemp(prefix="epad-"))
    yield path
    shutil.rmtree(path)


@pytest.fixture
async def door(directory: Path) -> AsyncIterator[Door]:
    opened = Door(directory / "control.sock", FakeOperations())
    api = ControlApi(
        opened.operations, opened.path, peer_of=lambda connection: opened.peer or peer_of(connection)
    )
    await api.start()
    yield opened
    await api.stop()
